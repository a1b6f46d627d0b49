package sanity

import (
	"context"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/backend/loopfile"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
)

// attached are image files that a node has to be admitted to: who may, the fake keeps, and the data is real.
type attached struct {
	*loopfile.Backend
	door *fake.Backend
}

// Create is [backend.Backend].
func (a attached) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	v, err := a.Backend.Create(ctx, r)
	if err == nil {
		_, err = a.door.Create(ctx, backend.Request{ID: r.ID, Name: r.Name, Size: fake.MinSize})
	}
	v.Nodes = nil
	return v, err
}

// Delete is [backend.Backend].
func (a attached) Delete(ctx context.Context, id backend.ID) error {
	if err := a.door.Delete(ctx, id); err != nil {
		return err
	}
	return a.Backend.Delete(ctx, id)
}

// Attach is [backend.Attacher].
func (a attached) Attach(ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
	if _, err := a.door.Attach(ctx, id, r); err != nil {
		return backend.Access{}, err
	}
	v, err := a.Get(ctx, id)
	return v.Access, err
}

// Detach is [backend.Attacher].
func (a attached) Detach(ctx context.Context, id backend.ID, node string) error {
	return a.door.Detach(ctx, id, node)
}

// TestAttached runs the suite on volumes that a controller attaches.
func TestAttached(t *testing.T) {
	kind := loopfile.Kind(host.New())
	kind.Name, kind.NodeBound = "attached", false
	mask, open := kind.Mask, kind.Open
	kind.Mask = func(options map[string]string) backend.Mask {
		m := mask(options)
		m.Attacher = true
		return m
	}
	kind.Open = func(ctx context.Context, c backend.Config) (backend.Backend, error) {
		b, err := open(ctx, c)
		if err != nil {
			return nil, err
		}
		return attached{b.(*loopfile.Backend), fake.New(fake.Options{})}, nil
	}
	once(t, world{fs: "ext4", size: 64 * mib, kind: &kind, pool: pool.Spec{
		Name: "attached", Kind: "attached", Options: map[string]string{"path": t.TempDir(), "spare": "0"},
	}})
}
