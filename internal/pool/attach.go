package pool

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// Attach admits a node to a volume and returns how it reaches it; see [backend.Attacher].
func (p *Pool) Attach(ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
	if p.caps.Attacher == nil {
		return backend.Access{}, p.noAttach()
	}
	if r.Node == "" {
		return backend.Access{}, errs.E(errs.Invalid, "node_id: missing")
	}
	return operate(ctx, p, "attach", keylock.Volume(id), func(ctx context.Context) (backend.Access, error) {
		a, err := p.caps.Attacher.Attach(ctx, id, r)
		if err != nil {
			return backend.Access{}, err
		}
		if err := a.Check(); err != nil { // it was no caller who is wrong
			return backend.Access{}, errs.E(errs.Internal, "volume %s: the backend gave a wrong %w", id, err)
		}
		return a, nil
	})
}

// Detach shuts a node out of a volume, "" all nodes.
func (p *Pool) Detach(ctx context.Context, id backend.ID, node string) error {
	if p.caps.Attacher == nil {
		return p.noAttach()
	}
	_, err := operate(ctx, p, "detach", keylock.Volume(id), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.caps.Attacher.Detach(ctx, id, node)
	})
	return err
}

func (p *Pool) noAttach() error {
	return errs.E(errs.Unsupported, "%s volumes are not attached: a node reaches those that are on it", p.kind.Name)
}
