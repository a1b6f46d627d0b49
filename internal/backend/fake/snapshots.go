package fake

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// CreateSnapshot is [backend.Snapshotter].
func (b *Backend) CreateSnapshot(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	return do(ctx, b, "CreateSnapshot", func(e *Errors) *Step { return &e.CreateSnapshot }, func(d *disk) (backend.Snapshot, error) {
		if s := d.snapshots[r.ID]; s != nil {
			if err := s.Satisfies(r); err != nil {
				return backend.Snapshot{}, err
			}
			return s.copy(), nil
		}
		made, err := d.take([]backend.SnapshotRequest{r})
		if err != nil {
			return backend.Snapshot{}, err
		}
		return made[0], nil
	})
}

// CreateGroup is [backend.GroupSnapshotter].
func (b *Backend) CreateGroup(ctx context.Context, rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	return do(ctx, b, "CreateGroup", func(e *Errors) *Step { return &e.CreateGroup }, func(d *disk) ([]backend.Snapshot, error) {
		var have []backend.Snapshot
		for _, r := range rs {
			if s := d.snapshots[r.ID]; s != nil {
				if err := s.Satisfies(r); err != nil {
					return nil, err
				}
				have = append(have, s.copy())
			}
		}
		switch len(have) {
		case 0:
			return d.take(rs)
		case len(rs):
			return have, nil
		default: // the rest would be of another instant
			return nil, errs.E(errs.Exists, "group %s exists with %d of the %d snapshots asked for", rs[0].Group, len(have), len(rs))
		}
	})
}

// take makes all snapshots at one instant, or none.
func (d *disk) take(rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	var need int64
	now := d.o.Now().UTC().Round(time.Microsecond)
	made := make([]*snapshot, len(rs))
	for i, r := range rs {
		v, err := d.volume(r.Source)
		if err != nil {
			return nil, err
		}
		need += v.Size
		made[i] = &snapshot{data: v.data.copy(), mark: v.mark, Snapshot: backend.Snapshot{
			ID: r.ID, Name: r.Name, Source: r.Source, Size: v.Size, Created: now, Group: r.Group, Nodes: d.nodes(),
		}}
	}
	if free := d.free(); need > free {
		return nil, errs.E(errs.NoSpace, "pool %s: %d bytes are free, %d are required", d.o.Pool, free, need)
	}
	out := make([]backend.Snapshot, len(rs))
	for i, s := range made {
		d.snapshots[s.ID] = s
		out[i] = s.copy()
	}
	return out, nil
}

// DeleteSnapshot is [backend.Snapshotter].
func (b *Backend) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	_, err := do(ctx, b, "DeleteSnapshot", func(e *Errors) *Step { return &e.DeleteSnapshot }, func(d *disk) (struct{}, error) {
		delete(d.snapshots, id)
		return struct{}{}, nil
	})
	return err
}

// GetSnapshot is [backend.Snapshotter].
func (b *Backend) GetSnapshot(ctx context.Context, id backend.ID) (backend.Snapshot, error) {
	return do(ctx, b, "GetSnapshot", func(e *Errors) *Step { return &e.GetSnapshot }, func(d *disk) (backend.Snapshot, error) {
		s, err := d.snapshot(id)
		if err != nil {
			return backend.Snapshot{}, err
		}
		return s.copy(), nil
	})
}

// ListSnapshots is [backend.Snapshotter]. Snapshots come sorted by ID.
func (b *Backend) ListSnapshots(ctx context.Context) iter.Seq2[backend.Snapshot, error] {
	return list(ctx, b, "ListSnapshots", func(e *Errors) *Step { return &e.ListSnapshots }, func(d *disk) []backend.Snapshot {
		var all []backend.Snapshot
		for _, id := range slices.Sorted(maps.Keys(d.snapshots)) {
			all = append(all, d.snapshots[id].copy())
		}
		return all
	})
}

func (d *disk) snapshot(id backend.ID) (*snapshot, error) {
	if s := d.snapshots[id]; s != nil {
		return s, nil
	}
	return nil, errs.E(errs.NotFound, "snapshot %s", id)
}

// copy shares nothing that a caller could change.
func (s *snapshot) copy() backend.Snapshot {
	c := s.Snapshot
	c.Nodes = slices.Clone(c.Nodes)
	return c
}
