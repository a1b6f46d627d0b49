package wire

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

const takeSnapshots = "take snapshots"

// CreateSnapshot is [backend.Snapshotter].
func (h *handlers) CreateSnapshot(w *wirepb.SnapshotRequest, stream events) error {
	p, err := h.s.pool(w.GetPool())
	if err != nil {
		return err
	}
	r, err := fromSnapshotRequest(w)
	if err != nil {
		return err
	}
	if p.caps.Snapshotter == nil {
		return p.lacks(takeSnapshots)
	}
	return p.change(h.s, stream, "snapshot", keylock.TakeSnapshots(r), func(ctx context.Context) (*wirepb.Event, error) {
		made, err := p.caps.Snapshotter.CreateSnapshot(ctx, r)
		return snapshotsEvent(err, made)
	})
}

// DeleteSnapshot is [backend.Snapshotter].
func (h *handlers) DeleteSnapshot(w *wirepb.Target, stream events) error {
	p, id, err := h.target(w)
	if err != nil {
		return err
	}
	if p.caps.Snapshotter == nil {
		return p.lacks(takeSnapshots)
	}
	return p.change(h.s, stream, "delete-snapshot", keylock.DeleteSnapshot(id), func(ctx context.Context) (*wirepb.Event, error) {
		return nil, p.caps.Snapshotter.DeleteSnapshot(ctx, id)
	})
}

// GetSnapshot is [backend.Snapshotter].
func (h *handlers) GetSnapshot(ctx context.Context, w *wirepb.Target) (*wirepb.Snapshot, error) {
	p, id, err := h.target(w)
	if err != nil {
		return nil, err
	}
	if p.caps.Snapshotter == nil {
		return nil, p.lacks(takeSnapshots)
	}
	s, err := p.caps.Snapshotter.GetSnapshot(ctx, id)
	return toSnapshot(s), err
}

// ListSnapshots is [backend.Snapshotter].
func (h *handlers) ListSnapshots(w *wirepb.Pool, stream grpc.ServerStreamingServer[wirepb.Snapshot]) error {
	p, err := h.s.pool(w.GetName())
	if err != nil {
		return err
	}
	if p.caps.Snapshotter == nil {
		return p.lacks(takeSnapshots)
	}
	for s, err := range p.caps.Snapshotter.ListSnapshots(stream.Context()) {
		if err != nil {
			return err
		}
		if err := stream.Send(toSnapshot(s)); err != nil {
			return err
		}
	}
	return nil
}

// CreateGroup is [backend.GroupSnapshotter].
func (h *handlers) CreateGroup(w *wirepb.GroupRequest, stream events) error {
	p, err := h.s.pool(w.GetPool())
	if err != nil {
		return err
	}
	if p.caps.GroupSnapshotter == nil {
		return p.lacks("take snapshots of a group")
	}
	var rs []backend.SnapshotRequest
	for _, member := range w.GetSnapshots() {
		r, err := fromSnapshotRequest(member)
		if err != nil {
			return err
		}
		rs = append(rs, r)
	}
	if len(rs) == 0 {
		return errs.E(errs.Invalid, "snapshots: missing")
	}
	return p.change(h.s, stream, "snapshot-group", keylock.TakeSnapshots(rs...), func(ctx context.Context) (*wirepb.Event, error) {
		made, err := p.caps.GroupSnapshotter.CreateGroup(ctx, rs)
		return snapshotsEvent(err, made...)
	})
}
