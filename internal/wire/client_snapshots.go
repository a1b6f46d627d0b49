package wire

import (
	"context"
	"iter"

	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// CreateSnapshot is [backend.Snapshotter].
func (c *Client) CreateSnapshot(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	stream, err := c.snapshots.CreateSnapshot(ctx, toSnapshotRequest(c.dial.Pool, r))
	all, err := c.taken(ctx, stream, err, 1)
	if err != nil {
		return backend.Snapshot{}, err
	}
	return all[0], nil
}

// taken waits for a call that makes n snapshots.
func (c *Client) taken(ctx context.Context, stream grpc.ServerStreamingClient[wirepb.Event], err error, n int) ([]backend.Snapshot, error) {
	e, err := c.changed(ctx, stream, err)
	if err != nil {
		return nil, err
	}
	all, err := fromSnapshots(e.GetSnapshots())
	if err == nil && len(all) != n {
		err = errs.E(errs.Internal, "%d snapshots, asked for %d", len(all), n)
	}
	return all, c.odd(err)
}

// DeleteSnapshot is [backend.Snapshotter].
func (c *Client) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	stream, err := c.snapshots.DeleteSnapshot(ctx, c.target(id))
	_, err = c.changed(ctx, stream, err)
	return err
}

// GetSnapshot is [backend.Snapshotter].
func (c *Client) GetSnapshot(ctx context.Context, id backend.ID) (backend.Snapshot, error) {
	w, err := c.snapshots.GetSnapshot(ctx, c.target(id))
	if err != nil {
		return backend.Snapshot{}, c.fromStatus(ctx, err)
	}
	s, err := fromSnapshot(w)
	return s, c.odd(err)
}

// ListSnapshots is [backend.Snapshotter].
func (c *Client) ListSnapshots(ctx context.Context) iter.Seq2[backend.Snapshot, error] {
	return list(ctx, c, func(ctx context.Context) (grpc.ServerStreamingClient[wirepb.Snapshot], error) {
		return c.snapshots.ListSnapshots(ctx, &wirepb.Pool{Name: c.dial.Pool})
	}, fromSnapshot)
}

// CreateGroup is [backend.GroupSnapshotter].
func (c *Client) CreateGroup(ctx context.Context, rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	w := &wirepb.GroupRequest{Pool: c.dial.Pool}
	for _, r := range rs {
		w.Snapshots = append(w.Snapshots, toSnapshotRequest(c.dial.Pool, r))
	}
	stream, err := c.groups.CreateGroup(ctx, w)
	return c.taken(ctx, stream, err, len(rs))
}
