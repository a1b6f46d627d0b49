package backendtest

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// cancelMutants leave something behind when they are cancelled.
func cancelMutants() []mutant {
	stump := always(hooks{create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
		if ctx.Err() != nil {
			r.Size = fake.MinSize
			_, _ = f.Create(context.Background(), r)
			return backend.Volume{}, ctx.Err()
		}
		return f.Create(ctx, r)
	}})
	return []mutant{
		{"a cancelled create leaves a stump", "a cancelled create leaves nothing in the way", stump},
		{"a cancelled restore leaves a stump", "a cancelled restore leaves nothing in the way", stump},
		{"a cancelled clone leaves a stump", "a cancelled clone leaves nothing in the way", stump},
		{"a cancelled delete stays begun", "a cancelled delete can be finished", func(bool) hooks { return begunDeletes() }},
		{"a cancelled expand keeps its lock", "a cancelled expand can be finished", func(bool) hooks { return stuckExpand() }},
		{"a cancelled snapshot leaves a stump", "a cancelled snapshot leaves nothing in the way", always(hooks{
			createSnapshot: func(f *fake.Backend, ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
				if ctx.Err() != nil {
					r.Group = "stump"
					_, _ = f.CreateSnapshot(context.Background(), r)
					return backend.Snapshot{}, ctx.Err()
				}
				return f.CreateSnapshot(ctx, r)
			},
		})},
	}
}

func begunDeletes() hooks {
	var mu sync.Mutex
	begun := map[backend.ID]bool{}
	return hooks{delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
		mu.Lock()
		defer mu.Unlock()
		if begun[id] {
			return errs.E(errs.Internal, "%s: is being deleted", id)
		}
		begun[id] = ctx.Err() != nil
		return f.Delete(ctx, id)
	}}
}

func stuckExpand() hooks {
	var stuck atomic.Bool
	return hooks{expand: func(f *fake.Backend, ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
		if stuck.Load() {
			return backend.Volume{}, errs.E(errs.Aborted, "locked")
		}
		stuck.Store(ctx.Err() != nil)
		return f.Expand(ctx, id, size)
	}}
}

// raceMutants are right as long as one thing happens at a time.
func raceMutants() []mutant {
	return []mutant{
		{"who comes second is told that it exists", "many callers of one name make one volume", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				if v, err := f.Get(ctx, r.ID); err == nil {
					return v, nil
				}
				time.Sleep(5 * time.Millisecond)
				if _, err := f.Get(ctx, r.ID); err == nil {
					return backend.Volume{}, errs.E(errs.Exists, "%s: a file of this name exists", r.ID)
				}
				return f.Create(ctx, r)
			},
		})},
		{"one temporary file for all", "many callers of many names make many volumes", func(bool) hooks {
			alone := oneAtATime()
			return hooks{create: func(f *fake.Backend, ctx context.Context, r backend.Request) (v backend.Volume, err error) {
				return v, alone(func() error {
					v, err = f.Create(ctx, r)
					return err
				})
			}}
		}},
		{"delete is upset when somebody else was faster", "creates and deletes of one name leave it whole or gone", always(hooks{
			delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				if _, err := f.Get(ctx, id); err != nil {
					return nil
				}
				time.Sleep(5 * time.Millisecond)
				if _, err := f.Get(ctx, id); err != nil {
					return errs.E(errs.Internal, "unlink: %w", err)
				}
				return f.Delete(ctx, id)
			},
		})},
		{"one temporary file for all snapshots", "many snapshots of one volume", always(func() hooks {
			alone := oneAtATime()
			return hooks{createSnapshot: func(f *fake.Backend, ctx context.Context, r backend.SnapshotRequest) (s backend.Snapshot, err error) {
				return s, alone(func() error {
					s, err = f.CreateSnapshot(ctx, r)
					return err
				})
			}}
		}())},
		{"a snapshot is restored by one at a time", "many volumes from one snapshot", func(bool) hooks {
			alone := oneAtATime()
			return hooks{create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				v, err := f.Create(ctx, r)
				if lost := alone(func() error { return nil }); lost != nil && err == nil {
					transfer(f, "", v.ID, 0)
				}
				return v, err
			}}
		}},
		{"list fails when a volume goes", "reads go on while volumes come and go", always(hooks{
			list: func(f *fake.Backend, ctx context.Context) iter.Seq2[backend.Volume, error] {
				return func(yield func(backend.Volume, error) bool) {
					for v := range f.List(ctx) {
						time.Sleep(100 * time.Microsecond)
						v, err := f.Get(ctx, v.ID)
						if !yield(v, err) || err != nil {
							return
						}
					}
				}
			},
		})},
	}
}

// oneAtATime returns a function that does something slowly, and fails while another does.
func oneAtATime() func(func() error) error {
	var mu sync.Mutex
	return func(do func() error) error {
		if !mu.TryLock() {
			return errs.E(errs.Internal, "the temporary file is there already")
		}
		defer mu.Unlock()
		time.Sleep(time.Millisecond)
		return do()
	}
}
