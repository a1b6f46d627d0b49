package fake

import (
	"context"
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// DevicePath is what Activate returns for a volume. There is no such file; see [Backend.Open].
func DevicePath(id backend.ID) string { return "/dev/fake/" + string(id) }

// Activate is [backend.Activator].
func (b *Backend) Activate(ctx context.Context, id backend.ID) (string, error) {
	return do(ctx, b, "Activate", func(e *Errors) *Step { return &e.Activate }, func(d *disk) (string, error) {
		v, err := d.volume(id)
		if err != nil {
			return "", err
		}
		v.active = true
		return DevicePath(id), nil
	})
}

// Deactivate is [backend.Activator].
func (b *Backend) Deactivate(ctx context.Context, id backend.ID) error {
	_, err := do(ctx, b, "Deactivate", func(e *Errors) *Step { return &e.Deactivate }, func(d *disk) (none struct{}, _ error) {
		v := d.volumes[id]
		if v == nil {
			return none, nil
		}
		if v.opens > 0 {
			return none, errs.E(errs.InUse, "volume %s: its device is open", id)
		}
		v.active = false
		return none, nil
	})
	return err
}

// Active reports whether a volume is active.
func (b *Backend) Active(id backend.ID) bool {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	v := b.disk.volumes[id]
	return v != nil && v.active
}

// Mark is [backend.Marker].
func (b *Backend) Mark(ctx context.Context, id backend.ID) (backend.Mark, error) {
	return do(ctx, b, "Mark", func(e *Errors) *Step { return &e.Mark }, func(d *disk) (backend.Mark, error) {
		v, err := d.volume(id)
		if err != nil {
			return backend.Mark{}, err
		}
		return v.mark, nil
	})
}

// SetMark is [backend.Marker].
func (b *Backend) SetMark(ctx context.Context, id backend.ID, m backend.Mark) error {
	_, err := do(ctx, b, "SetMark", func(e *Errors) *Step { return &e.SetMark }, func(d *disk) (struct{}, error) {
		v, err := d.volume(id)
		if err != nil {
			return struct{}{}, err
		}
		v.mark = m
		return struct{}{}, nil
	})
	return err
}

// Check is [backend.Checker]: it returns what SetProblems was given.
func (b *Backend) Check(ctx context.Context, id backend.ID) ([]backend.Problem, error) {
	return do(ctx, b, "Check", func(e *Errors) *Step { return &e.Check }, func(d *disk) ([]backend.Problem, error) {
		v, err := d.volume(id)
		if err != nil {
			return nil, err
		}
		return slices.Clone(v.problems), nil
	})
}

// SetProblems makes a volume unwell, or well again when there are none. An absent volume is left alone.
func (b *Backend) SetProblems(id backend.ID, problems ...backend.Problem) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	if v := b.disk.volumes[id]; v != nil {
		v.problems = slices.Clone(problems)
	}
}

// Gauges is [backend.Gauger].
func (b *Backend) Gauges(ctx context.Context) ([]backend.Gauge, error) {
	return do(ctx, b, "Gauges", func(e *Errors) *Step { return &e.Gauges }, func(d *disk) ([]backend.Gauge, error) {
		return []backend.Gauge{
			{Name: "snapshots", Help: "Snapshots in the pool.", Part: "disk", Value: float64(len(d.snapshots))},
			{Name: "used_ratio", Help: "How full it is.", Part: "disk", Value: 0.5},
		}, nil
	})
}
