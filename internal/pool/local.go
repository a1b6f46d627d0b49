package pool

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// Activate makes a volume usable on this node and returns its block device; see [backend.Activator].
func (p *Pool) Activate(ctx context.Context, id backend.ID) (device string, err error) {
	if p.caps.Activator == nil {
		return "", errs.E(errs.Unsupported, "%s volumes are not reached on the node itself", p.kind.Name)
	}
	return operate(ctx, p, "activate", keylock.Volume(id), func(ctx context.Context) (string, error) {
		return p.caps.Activator.Activate(ctx, id)
	})
}

// Deactivate undoes Activate.
func (p *Pool) Deactivate(ctx context.Context, id backend.ID) error {
	if p.caps.Activator == nil {
		return errs.E(errs.Unsupported, "%s volumes are not reached on the node itself", p.kind.Name)
	}
	_, err := operate(ctx, p, "deactivate", keylock.Volume(id), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.caps.Activator.Deactivate(ctx, id)
	})
	return err
}

// Mark returns how far a volume's formatting got; known is false where the backend keeps no marks.
func (p *Pool) Mark(ctx context.Context, id backend.ID) (m backend.Mark, known bool, err error) {
	if p.caps.Marker == nil {
		return backend.Mark{}, false, nil
	}
	m, err = p.caps.Marker.Mark(ctx, id)
	return m, true, err
}

// SetMark stores it, where the backend keeps marks.
func (p *Pool) SetMark(ctx context.Context, id backend.ID, m backend.Mark) error {
	if p.caps.Marker == nil {
		return nil
	}
	_, err := operate(ctx, p, "mark", keylock.Volume(id), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.caps.Marker.SetMark(ctx, id, m)
	})
	return err
}

// Check returns what is wrong with a volume as seen from the storage; none where it cannot tell.
func (p *Pool) Check(ctx context.Context, id backend.ID) ([]backend.Problem, error) {
	if p.caps.Checker == nil {
		return nil, nil
	}
	return p.caps.Checker.Check(ctx, id)
}

// Gauges returns figures of the pool; none where the backend has none. See [backend.Gauger].
func (p *Pool) Gauges(ctx context.Context) ([]backend.Gauge, error) {
	if p.caps.Gauger == nil {
		return nil, nil
	}
	return p.caps.Gauger.Gauges(ctx)
}

// Running describes the operations under way, longest first.
func (p *Pool) Running() []string { return p.locks.Running() }
