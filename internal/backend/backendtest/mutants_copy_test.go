package backendtest

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// copyMutants have each defect for both ways of copying.
func copyMutants() []mutant {
	var all []mutant
	for _, c := range copiers() {
		add := func(name, law string, makeHooks func(bool) hooks) {
			all = append(all, mutant{c.name + " " + name, "a " + c.name + " " + law, makeHooks})
		}
		add("forgets its source", "records its source", forgotten(func(v *backend.Volume) { v.Source = backend.Source{} }))
		add("is blank", "has its source's data", always(making(func(f *fake.Backend, _ context.Context, v backend.Volume) {
			transfer(f, "", v.ID, spots(0, v.Size)...)
		})))
		add("has garbage beyond its source", "can be larger than its source", always(making(func(f *fake.Backend, _ context.Context, v backend.Volume) {
			scribble(f, v.ID, v.Size-patch)
		})))
		add("is written through to its source", "shares no writes with its source", always(making(func(f *fake.Backend, ctx context.Context, v backend.Volume) {
			scribble(f, origin(f, ctx, v.Source), 0)
		})))
		add("makes no more volumes once the source is gone", "lives without its source", always(checking(func(f *fake.Backend, ctx context.Context, r backend.Request) error {
			return sourceExists(f, ctx, r.Source)
		})))
		add("of a copy is blank", "of a copy lives without both", always(making(func(f *fake.Backend, ctx context.Context, v backend.Volume) {
			if source, _ := f.Get(ctx, origin(f, ctx, v.Source)); !source.Source.IsZero() {
				transfer(f, "", v.ID, spots(0, v.Size)...)
			}
		})))
		add("of nothing is blank", "of something absent leaves nothing", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				v, err := f.Create(ctx, r)
				if errs.Is(err, errs.NotFound) {
					r.Source = backend.Source{}
					return f.Create(ctx, r)
				}
				return v, err
			},
		}))
		add("without room leaves a stump", "without room leaves nothing", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				v, err := f.Create(ctx, r)
				if errs.Is(err, errs.NoSpace) {
					r.Size = fake.MinSize
					_, _ = f.Create(ctx, r)
				}
				return v, err
			},
		}))
		add("lies about the source's size", "smaller than its source is refused", always(hooks{
			get: func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Volume, error) {
				v, err := f.Get(ctx, id)
				v.Size = 0
				return v, err
			},
			getSnapshot: func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Snapshot, error) {
				s, err := f.GetSnapshot(ctx, id)
				s.Size = 0
				return s, err
			},
		}))
		add("takes its time while writers go on", "of a volume in use is consistent or refused", always(making(func(f *fake.Backend, ctx context.Context, v backend.Volume) {
			time.Sleep(100 * time.Millisecond)
			transfer(f, origin(f, ctx, v.Source), v.ID, v.Size-patch)
		})))
	}
	return all
}

func checking(check func(*fake.Backend, context.Context, backend.Request) error) hooks {
	return hooks{create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
		if err := check(f, ctx, r); err != nil {
			return backend.Volume{}, err
		}
		return f.Create(ctx, r)
	}}
}

func sourceExists(f *fake.Backend, ctx context.Context, s backend.Source) (err error) {
	if s.Volume != "" {
		_, err = f.Get(ctx, s.Volume)
	}
	if s.Snapshot != "" {
		_, err = f.GetSnapshot(ctx, s.Snapshot)
	}
	return err
}

// origin is the volume that a copy comes from in the end.
func origin(f *fake.Backend, ctx context.Context, s backend.Source) backend.ID {
	if s.Snapshot == "" {
		return s.Volume
	}
	snap, _ := f.GetSnapshot(ctx, s.Snapshot)
	return snap.Source
}

// transfer overwrites places of one volume with what is in another now, or with zeros.
func transfer(f *fake.Backend, from, to backend.ID, places ...int64) {
	d, err := f.Open(to)
	if err != nil {
		return
	}
	defer d.Close()
	for _, at := range places {
		p := make([]byte, patch)
		if s, err := f.Open(from); err == nil {
			_, _ = s.ReadAt(p, at)
			s.Close()
		}
		_, _ = d.WriteAt(p, at)
	}
}

func snapshotMutants() []mutant {
	return []mutant{
		{"snapshots have no name", "a snapshot is what was asked for", always(snapping(func(s *backend.Snapshot) { s.Name = "" }))},
		{"snapshots forget when they were taken", "a snapshot is what was asked for", func(reopened bool) hooks {
			if !reopened {
				return hooks{}
			}
			return snapping(func(s *backend.Snapshot) { s.Created = time.Now() })
		}},
		{"a second snapshot is new", "snapshot twice is one snapshot", always(hooks{
			createSnapshot: func(f *fake.Backend, ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
				_ = f.DeleteSnapshot(ctx, r.ID)
				return f.CreateSnapshot(ctx, r)
			},
		})},
		{"a snapshot of anything will do", "a taken snapshot name is refused for anything else", always(hooks{
			createSnapshot: func(f *fake.Backend, ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
				if s, err := f.GetSnapshot(ctx, r.ID); err == nil {
					return s, nil
				}
				return f.CreateSnapshot(ctx, r)
			},
		})},
		{"delete of an absent snapshot fails", "delete snapshot twice is one deletion", always(hooks{
			deleteSnapshot: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				if _, err := f.GetSnapshot(ctx, id); err != nil {
					return err
				}
				return f.DeleteSnapshot(ctx, id)
			},
		})},
		{"a snapshot is its source", "a snapshot is of its instant", always(making(func(f *fake.Backend, ctx context.Context, v backend.Volume) {
			transfer(f, origin(f, ctx, v.Source), v.ID, spots(0, v.Size)...)
		}))},
		{"a snapshot grows with its source", "a snapshot keeps its size", always(hooks{
			getSnapshot: func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Snapshot, error) {
				s, err := f.GetSnapshot(ctx, id)
				if v, gone := f.Get(ctx, s.Source); err == nil && gone == nil {
					s.Size = v.Size
				}
				return s, err
			},
		})},
		{"a volume takes its snapshots along", "a snapshot outlives its source or holds it", always(hooks{
			delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				for s := range f.ListSnapshots(ctx) {
					if s.Source == id {
						_ = f.DeleteSnapshot(ctx, s.ID)
					}
				}
				return f.Delete(ctx, id)
			},
		})},
		{"a snapshot takes its siblings along", "snapshots of one volume are independent", always(hooks{
			deleteSnapshot: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				for s := range f.ListSnapshots(ctx) {
					_ = f.DeleteSnapshot(ctx, s.ID)
				}
				return nil
			},
		})},
		{"the list of snapshots does not hear when to stop", "a list of snapshots can be left early", always(hooks{
			listSnapshots: func(f *fake.Backend, ctx context.Context) iter.Seq2[backend.Snapshot, error] {
				return func(yield func(backend.Snapshot, error) bool) {
					for s, err := range f.ListSnapshots(ctx) {
						yield(s, err)
					}
				}
			},
		})},
	}
}

// snapping makes hooks under which every snapshot comes back changed.
func snapping(change func(*backend.Snapshot)) hooks {
	one := func(s backend.Snapshot, err error) (backend.Snapshot, error) {
		change(&s)
		return s, err
	}
	return hooks{
		createSnapshot: func(f *fake.Backend, ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
			return one(f.CreateSnapshot(ctx, r))
		},
		getSnapshot: func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Snapshot, error) {
			return one(f.GetSnapshot(ctx, id))
		},
	}
}

func groupMutants() []mutant {
	oneByOne := func(pause time.Duration, rs func([]backend.SnapshotRequest) []backend.SnapshotRequest) hooks {
		return hooks{createGroup: func(f *fake.Backend, ctx context.Context, all []backend.SnapshotRequest) ([]backend.Snapshot, error) {
			var made []backend.Snapshot
			for _, r := range rs(all) {
				s, err := f.CreateSnapshot(ctx, r)
				if err != nil {
					return nil, err
				}
				made = append(made, s)
				time.Sleep(pause)
			}
			return made, nil
		}}
	}
	as := func(rs []backend.SnapshotRequest) []backend.SnapshotRequest { return rs }
	return []mutant{
		{"snapshots of a group do not know it", "a group is what was asked for", always(oneByOne(0, func(rs []backend.SnapshotRequest) []backend.SnapshotRequest {
			rs = slices.Clone(rs)
			for i := range rs {
				rs[i].Group = ""
			}
			return rs
		}))},
		{"a group fails halfway", "a group is made whole or not at all", always(oneByOne(0, as))},
		{"a group is added to", "a group is of its volumes only", always(oneByOne(0, as))},
		{"a group takes its time", "a group is of one instant", always(oneByOne(10*time.Millisecond, as))},
	}
}
