package pool

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// OpModify is what [Observation] calls a change of limits.
const OpModify = "modify"

// Modify sets a volume's limits, all of them. The node that uses the volume enforces them.
func (p *Pool) Modify(ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
	if p.caps.Modifier == nil {
		return backend.Volume{}, p.noLimits()
	}
	return operate(ctx, p, OpModify, keylock.Volume(id), func(ctx context.Context) (backend.Volume, error) {
		v, err := p.b.Get(ctx, id)
		if err != nil || v.Limits == l {
			return v, err
		}
		return p.caps.Modifier.Modify(ctx, id, l)
	})
}

func (p *Pool) noLimits() error {
	return errs.E(errs.Unsupported, "mutable_parameters: %s volumes have no limits; leave the VolumeAttributesClass away", p.kind.Name)
}
