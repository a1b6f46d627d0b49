package backendtest

import (
	"context"
	"iter"
	"strings"
	"sync"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// always makes hooks that are the same in every process.
func always(h hooks) func(bool) hooks { return func(bool) hooks { return h } }

// changed makes hooks under which every volume comes back changed.
func changed(change func(*backend.Volume)) hooks {
	one := func(v backend.Volume, err error) (backend.Volume, error) {
		change(&v)
		return v, err
	}
	return hooks{
		create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
			return one(f.Create(ctx, r))
		},
		get: func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Volume, error) {
			return one(f.Get(ctx, id))
		},
		list: func(f *fake.Backend, ctx context.Context) iter.Seq2[backend.Volume, error] {
			return func(yield func(backend.Volume, error) bool) {
				f.List(ctx)(func(v backend.Volume, err error) bool { return yield(one(v, err)) })
			}
		},
	}
}

// forgotten makes hooks under which volumes come back changed after a restart only.
func forgotten(change func(*backend.Volume)) func(bool) hooks {
	return func(reopened bool) hooks {
		if !reopened {
			return hooks{}
		}
		return changed(change)
	}
}

func volumeMutants() []mutant {
	return []mutant{
		{"sizes are doubled", "a volume is what was asked for", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				r.Size *= 2
				return f.Create(ctx, r)
			},
		})},
		{"a second create says that it exists", "create twice is one volume", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				if _, err := f.Get(ctx, r.ID); err == nil {
					return backend.Volume{}, errs.E(errs.Exists, "%s", r.ID)
				}
				return f.Create(ctx, r)
			},
		})},
		{"create takes whatever exists", "a taken name is refused for anything else", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				if v, err := f.Get(ctx, r.ID); err == nil {
					return v, nil
				}
				return f.Create(ctx, r)
			},
		})},
		{"delete of an absent volume fails", "delete twice is one deletion", always(hooks{
			delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				if _, err := f.Get(ctx, id); err != nil {
					return err
				}
				return f.Delete(ctx, id)
			},
		})},
		{"delete keeps the volume", "a deleted name makes a new volume", always(hooks{
			delete: func(*fake.Backend, context.Context, backend.ID) error { return nil },
		})},
		{"delete says yes while in use", "a volume in use is not deleted", always(hooks{
			delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				if err := f.Delete(ctx, id); !errs.Is(err, errs.InUse) {
					return err
				}
				return nil
			},
		})},
		{"delete wipes before it looks for users", "a volume in use is not deleted", always(hooks{
			delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				scribble(f, id, 0)
				return f.Delete(ctx, id)
			},
		})},
		{"absent volumes are unavailable", "what is absent is not found", always(hooks{
			get: func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Volume, error) {
				v, err := f.Get(ctx, id)
				if err != nil {
					err = errs.E(errs.Unavailable, "exit status 5")
				}
				return v, err
			},
		})},
		{"absent volumes are well", "what is absent is not found", always(hooks{
			check: func(*fake.Backend, context.Context, backend.ID) ([]backend.Problem, error) { return nil, nil },
		})},
		{"new volumes have old data", "a new volume is blank", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				v, err := f.Create(ctx, r)
				if err == nil {
					scribble(f, r.ID, v.Size-patch)
				}
				return v, err
			},
		})},
		{"names lose their spaces", "names are kept as they are", forgotten(func(v *backend.Volume) { v.Name = strings.TrimSpace(v.Name) })},
		{"ids are cut short", "ids that look alike are different volumes", always(hooks{
			create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
				r.ID = r.ID[:min(len(r.ID), 60)]
				return f.Create(ctx, r)
			},
		})},
		{"delete takes what begins alike", "ids that look alike are different volumes", always(hooks{
			delete: func(f *fake.Backend, ctx context.Context, id backend.ID) error {
				for v := range f.List(ctx) {
					if strings.HasPrefix(string(v.ID), string(id)) {
						_ = f.Delete(ctx, v.ID)
					}
				}
				return f.Delete(ctx, id)
			},
		})},
		{"close deletes", "a closed pool opens again", always(hooks{close: func(f *fake.Backend) error {
			for v := range f.List(context.Background()) {
				_ = f.Delete(context.Background(), v.ID)
			}
			return f.Close()
		}})},
		{"answers come from a cache", "answers share no memory", func(bool) hooks { return cached() }},
		{"all volumes are ill", "a well volume has no problems", always(hooks{
			check: func(*fake.Backend, context.Context, backend.ID) ([]backend.Problem, error) {
				return []backend.Problem{{Severity: backend.Degraded, Reason: "Ill"}}, nil
			},
		})},
	}
}

// cached returns hooks that give out the same memory again and again.
func cached() hooks {
	var mu sync.Mutex
	cache := map[backend.ID]backend.Volume{}
	get := func(f *fake.Backend, ctx context.Context, id backend.ID) (backend.Volume, error) {
		mu.Lock()
		defer mu.Unlock()
		if v, ok := cache[id]; ok {
			return v, nil
		}
		v, err := f.Get(ctx, id)
		if err == nil {
			cache[id] = v
		}
		return v, err
	}
	return hooks{get: get, create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
		if _, err := f.Create(ctx, r); err != nil {
			return backend.Volume{}, err
		}
		return get(f, ctx, r.ID)
	}}
}

// scribble writes somewhere into a volume.
func scribble(f *fake.Backend, id backend.ID, at int64) {
	if d, err := f.Open(id); err == nil {
		defer d.Close()
		_, _ = d.WriteAt([]byte("scribble"), at)
	}
}

func sizeMutants() []mutant {
	return []mutant{
		{"odd sizes come back", "sizes are rounded up and limits kept", always(changed(func(v *backend.Volume) { v.Size-- }))},
		{"expand adds", "expand grows once", always(expanding(func(f *fake.Backend, ctx context.Context, v backend.Volume, size int64) (backend.Volume, error) {
			return f.Expand(ctx, v.ID, v.Size+size)
		}))},
		{"expand says what was asked", "expand never shrinks", always(expanding(func(f *fake.Backend, ctx context.Context, v backend.Volume, size int64) (backend.Volume, error) {
			v, err := f.Expand(ctx, v.ID, size)
			v.Size = size
			return v, err
		}))},
		{"expand loses data", "expand keeps the data and adds zeros", always(expanding(func(f *fake.Backend, ctx context.Context, v backend.Volume, size int64) (backend.Volume, error) {
			scribble(f, v.ID, 0)
			return f.Expand(ctx, v.ID, size)
		}))},
		{"expand adds old data", "expand keeps the data and adds zeros", always(expanding(func(f *fake.Backend, ctx context.Context, v backend.Volume, size int64) (backend.Volume, error) {
			v, err := f.Expand(ctx, v.ID, size)
			scribble(f, v.ID, size-patch)
			return v, err
		}))},
		{"expand only while not in use", "a volume grows while in use", always(expanding(func(f *fake.Backend, ctx context.Context, v backend.Volume, size int64) (backend.Volume, error) {
			if f.Active(v.ID) {
				return v, errs.E(errs.InUse, "%s", v.ID)
			}
			return f.Expand(ctx, v.ID, size)
		}))},
		{"expand as far as it goes", "expand without room changes nothing", always(expanding(func(f *fake.Backend, ctx context.Context, v backend.Volume, size int64) (backend.Volume, error) {
			c, _ := f.Capacity(ctx, "")
			return f.Expand(ctx, v.ID, min(size, v.Size+c.Available))
		}))},
	}
}

func expanding(expand func(*fake.Backend, context.Context, backend.Volume, int64) (backend.Volume, error)) hooks {
	return hooks{expand: func(f *fake.Backend, ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
		v, err := f.Get(ctx, id)
		if err != nil {
			return v, err
		}
		return expand(f, ctx, v, size)
	}}
}
