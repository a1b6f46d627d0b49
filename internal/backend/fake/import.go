package fake

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Import is [backend.Importer]: from is the ID that [Backend.AddForeign] had.
func (b *Backend) Import(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	return do(ctx, b, "Import", func(e *Errors) *Step { return &e.Import }, func(d *disk) (backend.Volume, error) {
		if v := d.volumes[r.ID]; v != nil && !v.foreign {
			if string(v.from) != from || v.Name != r.Name {
				return backend.Volume{}, errs.E(errs.Exists, "name %q: its ID %s is taken by the volume named %q", r.Name, v.ID, v.Name)
			}
			return v.copy(), nil
		}
		v := d.volumes[backend.ID(from)]
		switch {
		case v == nil:
			return backend.Volume{}, errs.E(errs.NotFound, "importFrom: there is no %s", from)
		case !v.foreign:
			return backend.Volume{}, errs.E(errs.Exists, "importFrom: %s is a volume already", from)
		}
		delete(d.volumes, backend.ID(from))
		d.volumes[r.ID] = &volume{data: v.data, from: backend.ID(from), mark: backend.Mark{FS: backend.Raw, Done: true}, Volume: backend.Volume{
			ID: r.ID, Name: r.Name, Size: v.Size, Nodes: d.nodes(), Access: d.access(r), Limits: r.Limits,
		}}
		return d.volumes[r.ID].copy(), nil
	})
}
