package csi

import (
	"context"
	"maps"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// CreateSnapshot takes a snapshot, or returns the one that the same request took before.
func (c *controller) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := required("name", r.GetName(), "source_volume_id", r.GetSourceVolumeId()); err != nil {
		return nil, err
	}
	if err := noParameters(r.GetParameters()); err != nil {
		return nil, err
	}
	nodes, err := nodesOf("accessibility_requirements", r.GetAccessibilityRequirements())
	if err != nil {
		return nil, err
	}
	p, h, err := c.at("source_volume_id", r.GetSourceVolumeId())
	if err != nil {
		return nil, err
	}
	if len(nodes) > 0 { // a snapshot is where its volume is
		v, err := p.Get(ctx, h.ID)
		if err != nil {
			return nil, err
		}
		if !reaches(v.Nodes, nodes) {
			return nil, errs.E(errs.NoSpace, "accessibility_requirements: volume %s is on %v, a snapshot of it cannot be on %v", h, v.Nodes, nodes)
		}
	}
	s, err := p.Snapshot(ctx, r.GetName(), h.ID)
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshotOf(p, s)}, nil
}

// noParameters refuses parameters of a snapshot class: there are none.
func noParameters(given map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(withoutForeign(given))) {
		return errs.E(errs.Invalid, "parameters[%.80q]: unknown; a snapshot has no parameters here", key)
	}
	return nil
}

// snapshotOf returns a snapshot as CSI describes it. It is ready: a backend returns one when its
// data can be copied.
func snapshotOf(p *pool.Pool, s backend.Snapshot) *csi.Snapshot {
	out := &csi.Snapshot{
		SnapshotId:         Handle{Pool: p.Name(), ID: s.ID}.String(),
		SourceVolumeId:     Handle{Pool: p.Name(), ID: s.Source}.String(),
		SizeBytes:          s.Size,
		CreationTime:       timestamppb.New(s.Created),
		ReadyToUse:         true,
		AccessibleTopology: topologies(s.Nodes),
	}
	if s.Group != "" {
		out.GroupSnapshotId = Handle{Pool: p.Name(), ID: s.Group}.String()
	}
	return out
}

// DeleteSnapshot removes a snapshot; an absent one is no error.
func (c *controller) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	p, h, err := c.forget("snapshot_id", r.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	if p != nil {
		if err := p.DeleteSnapshot(ctx, h.ID); err != nil {
			return nil, err
		}
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// GetSnapshot returns a snapshot as it is.
func (c *controller) GetSnapshot(ctx context.Context, r *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	s, err := c.snapshot(ctx, r.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: s}, nil
}

func (c *controller) snapshot(ctx context.Context, handle string) (*csi.Snapshot, error) {
	p, h, err := c.at("snapshot_id", handle)
	if err != nil {
		return nil, err
	}
	s, err := p.GetSnapshot(ctx, h.ID)
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "snapshot_id: %s: %w", h, err)
	}
	return snapshotOf(p, s), nil
}

// ListSnapshots lists the snapshots of all pools, or those of one volume, or one. What a filter names
// may be gone: the list is empty then.
func (c *controller) ListSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	pg, err := pageOf("snapshots", r.GetMaxEntries(), r.GetStartingToken())
	if err != nil {
		return nil, err
	}
	found, err := c.findSnapshots(ctx, r.GetSnapshotId(), r.GetSourceVolumeId())
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	part, next := cut(pg, found, (*csi.Snapshot).GetSnapshotId)
	out := &csi.ListSnapshotsResponse{NextToken: next}
	for _, s := range part {
		out.Entries = append(out.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: s})
	}
	return out, nil
}

// findSnapshots returns the snapshots with a handle, of a volume, or both; "" is any.
func (c *controller) findSnapshots(ctx context.Context, handle, source string) ([]*csi.Snapshot, error) {
	if handle != "" {
		s, err := c.snapshot(ctx, handle)
		if err != nil || source != "" && s.GetSourceVolumeId() != source {
			return nil, err
		}
		return []*csi.Snapshot{s}, nil
	}
	pools := c.pools.All()
	if source != "" {
		p, _, err := c.at("source_volume_id", source)
		if err != nil {
			return nil, err
		}
		pools = []*pool.Pool{p}
	}
	var found []*csi.Snapshot
	for _, p := range pools {
		for s, err := range p.ListSnapshots(ctx) {
			if err != nil {
				return nil, errs.E(errs.KindOf(err), "pool %s: %w", p.Name(), err)
			}
			if out := snapshotOf(p, s); source == "" || out.GetSourceVolumeId() == source {
				found = append(found, out)
			}
		}
	}
	return found, nil
}
