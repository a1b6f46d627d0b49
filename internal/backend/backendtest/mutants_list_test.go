package backendtest

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// listing makes a hook that yields what change makes of what List yields.
func listing(change func([]backend.Volume, error) ([]backend.Volume, error)) hooks {
	return hooks{list: func(f *fake.Backend, ctx context.Context) iter.Seq2[backend.Volume, error] {
		return func(yield func(backend.Volume, error) bool) {
			var all []backend.Volume
			var last error
			for v, err := range f.List(ctx) {
				if last = err; err == nil {
					all = append(all, v)
				}
			}
			all, last = change(all, last)
			for _, v := range all {
				if !yield(v, nil) {
					return
				}
			}
			if last != nil {
				yield(backend.Volume{}, last)
			}
		}
	}}
}

func listMutants() []mutant {
	return []mutant{
		{"list has pages and stops after the first", "list yields all of ours", always(listing(func(all []backend.Volume, err error) ([]backend.Volume, error) {
			return all[:min(len(all), 3)], err
		}))},
		{"list yields what it finds", "list yields no strangers", always(listing(func(all []backend.Volume, err error) ([]backend.Volume, error) {
			return append(all, backend.Volume{ID: "theirs"}), err
		}))},
		{"list does not hear when to stop", "a list can be left early", always(hooks{
			list: func(f *fake.Backend, ctx context.Context) iter.Seq2[backend.Volume, error] {
				return func(yield func(backend.Volume, error) bool) {
					for v, err := range f.List(ctx) {
						yield(v, err)
					}
				}
			},
		})},
		{"list keeps its lock", "the backend can be used in a list", func(bool) hooks { return lockedList() }},
		{"list is short when it fails", "storage that does not answer is not empty", always(listing(func(all []backend.Volume, _ error) ([]backend.Volume, error) {
			return all, nil
		}))},
		{"what cannot be asked is not found", "storage that does not answer says so", always(hooks{
			get: func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Volume, error) {
				v, err := f.Get(ctx, id)
				if err != nil {
					err = errs.E(errs.NotFound, "%s: %w", id, err)
				}
				return v, err
			},
		})},
		{"delete of what cannot be asked succeeds", "storage that answers again has everything", always(hooks{
			delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				if _, err := f.Get(ctx, id); err != nil {
					return nil
				}
				return f.Delete(ctx, id)
			},
		})},
		{"more is available than there is", "capacity adds up", always(room(func(c *backend.Capacity) { c.Available = c.Total + 1 }))},
		{"capacity never moves", "capacity goes down and comes back", always(room(func(c *backend.Capacity) { c.Available = c.Total }))},
		{"create without room leaves a stump", "create without room leaves nothing", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				v, err := f.Create(ctx, r)
				if errs.Is(err, errs.NoSpace) {
					r.Size = fake.MinSize
					_, _ = f.Create(ctx, r)
				}
				return v, err
			},
		})},
		{"the largest volume is too large", "the largest volume can be made", always(room(func(c *backend.Capacity) { c.MaxVolume += fake.Granularity }))},
		{"the largest volume is not the largest", "the largest volume can be made", always(room(func(c *backend.Capacity) { c.MaxVolume /= 2 }))},
	}
}

func room(change func(*backend.Capacity)) hooks {
	return hooks{capacity: func(f *fake.Backend, ctx context.Context) (backend.Capacity, error) {
		c, err := f.Capacity(ctx, "")
		change(&c)
		return c, err
	}}
}

// lockedList returns hooks under which nothing can be had while a list is read. It says so where a
// real defect would hang, which the law also finds, after its time is up.
func lockedList() hooks {
	var listing atomic.Int32
	return hooks{
		list: func(f *fake.Backend, ctx context.Context) iter.Seq2[backend.Volume, error] {
			return func(yield func(backend.Volume, error) bool) {
				listing.Add(1)
				defer listing.Add(-1)
				f.List(ctx)(yield)
			}
		},
		get: func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Volume, error) {
			if listing.Load() > 0 {
				return backend.Volume{}, errs.E(errs.Busy, "locked")
			}
			return f.Get(ctx, id)
		},
	}
}

func nodeMutants() []mutant {
	var devices atomic.Int32
	marks := map[backend.ID]backend.Mark{}
	return []mutant{
		{"every activation is a new device", "activate twice is one device", always(hooks{
			activate: func(f *fake.Backend, ctx context.Context, id backend.ID) (string, error) {
				_, err := f.Activate(ctx, id)
				return "/dev/fake" + string('a'+devices.Add(1)), err
			},
		})},
		{"deactivate of an absent volume fails", "deactivate undoes activate", always(hooks{
			deactivate: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				if _, err := f.Get(ctx, id); err != nil {
					return err
				}
				return f.Deactivate(ctx, id)
			},
		})},
		{"delete hurts the neighbours", "data stays where it was written", func(reopened bool) hooks {
			if !reopened {
				return hooks{}
			}
			return hooks{delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				for v := range f.List(ctx) {
					scribble(f, v.ID, 0)
				}
				return f.Delete(ctx, id)
			}}
		}},
		{"marks are kept in memory", "marks are kept", func(bool) hooks {
			kept := map[backend.ID]backend.Mark{}
			return hooks{
				mark: func(_ *fake.Backend, _ context.Context, id backend.ID) (backend.Mark, error) { return kept[id], nil },
				setMark: func(_ *fake.Backend, _ context.Context, id backend.ID, m backend.Mark) error {
					kept[id] = m
					return nil
				},
			}
		}},
		{"marks outlive their volumes", "a new volume has no mark", always(hooks{
			mark: func(_ *fake.Backend, _ context.Context, id backend.ID) (backend.Mark, error) { return marks[id], nil },
			setMark: func(_ *fake.Backend, _ context.Context, id backend.ID, m backend.Mark) error {
				marks[id] = m
				return nil
			},
		})},
		{"clones forget the mark", "a clone has its source's mark", always(making(func(f *fake.Backend, ctx context.Context, v backend.Volume) {
			_ = f.SetMark(ctx, v.ID, backend.Mark{})
		}))},
		{"restores have their mark as an original", "a restore has its source's mark", always(making(func(f *fake.Backend, ctx context.Context, v backend.Volume) {
			m, _ := f.Mark(ctx, v.ID)
			m.Copied = false
			_ = f.SetMark(ctx, v.ID, m)
		}))},
	}
}

// making makes a hook that does something more to every copy that is made.
func making(more func(*fake.Backend, context.Context, backend.Volume)) hooks {
	return hooks{create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
		_, absent := f.Get(ctx, r.ID)
		v, err := f.Create(ctx, r)
		if err == nil && absent != nil && !r.Source.IsZero() {
			more(f, ctx, v)
		}
		return v, err
	}}
}
