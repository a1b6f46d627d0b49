package pool

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// The calls of this file take requests that a pool has completed already, in another process: the one that
// has no storage of its own and hands its work to this one. IDs and sizes are kept as they are.

// exact checks what a complete request says of a volume, and completes its parameters.
func (p *Pool) exact(r backend.Request) (backend.Request, error) {
	if _, err := backend.ParseID(string(r.ID)); err != nil {
		return r, err
	}
	if err := checkName(r.Name); err != nil {
		return r, err
	}
	var err error
	r.Parameters, err = backend.Complete("parameters", p.kind.Parameters, r.Parameters)
	return r, err
}

// CreateExact is [Pool.Create] for a complete request.
func (p *Pool) CreateExact(ctx context.Context, r backend.Request) (backend.Volume, error) {
	r, err := p.exact(r)
	if err != nil {
		return backend.Volume{}, err
	}
	if size, err := p.size(r.Size, 0); err != nil || size != r.Size {
		return backend.Volume{}, errs.E(errs.OutOfRange, "size: %s volumes cannot have %d bytes, only %d (%v)", p.kind.Name, r.Size, size, err)
	}
	if err := p.fitNodes(r.Nodes); err != nil {
		return backend.Volume{}, err
	}
	return p.create(ctx, VolumeRequest{Required: r.Size, Limit: r.Limit, Source: r.Source}, r)
}

// ImportExact takes what the storage calls from for a volume; see [backend.Importer].
func (p *Pool) ImportExact(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	if p.caps.Importer == nil {
		return backend.Volume{}, errs.E(errs.Unsupported, "importFrom: %s volumes cannot be made of what is there", p.kind.Name)
	}
	r, err := p.exact(r)
	if err != nil {
		return backend.Volume{}, err
	}
	return operate(ctx, p, "import", keylock.Resize(r.ID), func(ctx context.Context) (backend.Volume, error) {
		return p.caps.Importer.Import(ctx, from, r)
	})
}

// importPlanner is a backend that says what its Import would return, or why it would refuse, without changing anything. It is no
// capability: it is asked only where the pool was opened by who asks, so no proxy has it.
type importPlanner interface {
	Importable(ctx context.Context, from string, r backend.Request) (backend.Volume, error)
}

// ImportableExact returns what [Pool.ImportExact] would, and changes nothing. errs.Unsupported where that cannot be told.
func (p *Pool) ImportableExact(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	planner, ok := p.b.(importPlanner)
	if !ok {
		return backend.Volume{}, errs.E(errs.Unsupported, "importFrom: %s pools cannot say beforehand what an import would make", p.kind.Name)
	}
	r, err := p.exact(r)
	if err != nil {
		return backend.Volume{}, err
	}
	return planner.Importable(ctx, from, r)
}

// SnapshotExact is [Pool.Snapshot] for a complete request.
func (p *Pool) SnapshotExact(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	s, err := p.snapshotter()
	if err != nil {
		return backend.Snapshot{}, err
	}
	if _, err := backend.ParseID(string(r.ID)); err != nil {
		return backend.Snapshot{}, err
	}
	if err := checkName(r.Name); err != nil {
		return backend.Snapshot{}, err
	}
	return p.takeSnapshot(ctx, s, r)
}

// GroupExact is [Pool.SnapshotGroup] for complete requests, all of one group.
func (p *Pool) GroupExact(ctx context.Context, rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	if p.caps.GroupSnapshotter == nil {
		return nil, errs.E(errs.Unsupported, "%s volumes have no group snapshots", p.kind.Name)
	}
	for _, r := range rs {
		if _, err := backend.ParseID(string(r.ID)); err != nil {
			return nil, err
		}
		if r.Group == "" || r.Group != rs[0].Group {
			return nil, errs.E(errs.Invalid, "group: snapshot %s is of the group %q, the first of %q", r.ID, r.Group, rs[0].Group)
		}
	}
	if len(rs) == 0 {
		return nil, errs.E(errs.Invalid, "group: has no members")
	}
	return p.takeGroup(ctx, rs[0].Group, rs)
}

// DeleteSnapshotExact is [Pool.DeleteSnapshot] also for one of a group: that they go together is the
// business of who completed the request.
func (p *Pool) DeleteSnapshotExact(ctx context.Context, id backend.ID) error {
	s, err := p.snapshotter()
	if err != nil {
		return err
	}
	_, err = operate(ctx, p, "delete-snapshot", keylock.DeleteSnapshot(id), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.DeleteSnapshot(ctx, id)
	})
	return err
}
