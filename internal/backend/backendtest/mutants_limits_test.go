package backendtest

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

func limitMutants() []mutant {
	inherited := func(pick func(backend.Source) bool) func(bool) hooks {
		return always(hooks{create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
			if pick(r.Source) && r.Limits.IsZero() {
				r.Limits.ReadIOPS = 100
			}
			return f.Create(ctx, r)
		}})
	}
	return []mutant{
		{"limits are forgotten", "limits are kept", forgotten(func(v *backend.Volume) { v.Limits = backend.Limits{} })},
		{"a limit is not set", "limits are kept", always(hooks{modify: func(f *fake.Backend, ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
			l.WriteIOPS = 0
			return f.Modify(ctx, id, l)
		}})},
		{"a limit is not taken back", "limits are kept", always(hooks{modify: func(f *fake.Backend, ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
			if l.IsZero() {
				return f.Get(ctx, id)
			}
			return f.Modify(ctx, id, l)
		}})},
		{"new volumes have no limits", "limits come with the volume", always(hooks{create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
			r.Limits = backend.Limits{}
			return f.Create(ctx, r)
		}})},
		{"a repeated create sets limits", "limits come with the volume", always(hooks{create: func(f *fake.Backend, ctx context.Context, r backend.Request) (backend.Volume, error) {
			if _, err := f.Create(ctx, r); err != nil {
				return backend.Volume{}, err
			}
			return f.Modify(ctx, r.ID, r.Limits)
		}})},
		{"nothing has limits", "only a volume has limits", always(hooks{modify: func(f *fake.Backend, ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
			v, err := f.Modify(ctx, id, l)
			if errs.Is(err, errs.NotFound) {
				err = nil
			}
			return v, err
		}})},
		{"a restored volume inherits limits", "a restore has limits of its own", inherited(func(s backend.Source) bool { return s.Snapshot != "" })},
		{"a clone inherits limits", "a clone has limits of its own", inherited(func(s backend.Source) bool { return s.Volume != "" })},
	}
}
