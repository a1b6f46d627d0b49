package csi

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

func (c *controller) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	r := &csi.GroupControllerGetCapabilitiesResponse{}
	for _, t := range c.has.groupController() {
		r.Capabilities = append(r.Capabilities, &csi.GroupControllerServiceCapability{
			Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{Type: t}},
		})
	}
	return r, nil
}

// CreateVolumeGroupSnapshot takes snapshots of several volumes at one instant.
func (c *controller) CreateVolumeGroupSnapshot(ctx context.Context, r *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	if err := required("name", r.GetName()); err != nil {
		return nil, err
	}
	if err := noParameters(r.GetParameters()); err != nil {
		return nil, err
	}
	p, sources, err := c.groupSources(r.GetSourceVolumeIds())
	if err != nil {
		return nil, err
	}
	members, err := p.SnapshotGroup(ctx, r.GetName(), sources)
	if err != nil {
		return nil, err
	}
	g, err := groupOf(p, backend.IDFor(r.GetName()), members)
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: g}, nil
}

func (c *controller) groupSources(handles []string) (*pool.Pool, []backend.ID, error) {
	if len(handles) == 0 {
		return nil, nil, missing("source_volume_ids")
	}
	var one *pool.Pool
	var sources []backend.ID
	for _, s := range handles {
		p, h, err := c.at("source_volume_ids", s)
		switch {
		case err != nil:
			return nil, nil, err
		case one != nil && one != p:
			return nil, nil, precondition("source_volume_ids: the volumes are in several pools (%s, %s); only those of one can have the same instant", one.Name(), p.Name())
		}
		one, sources = p, append(sources, h.ID)
	}
	return one, sources, nil
}

// groupOf returns a group as CSI describes it.
func groupOf(p *pool.Pool, id backend.ID, members []backend.Snapshot) (*csi.VolumeGroupSnapshot, error) {
	h := Handle{Pool: p.Name(), ID: id}
	if len(members) == 0 {
		return nil, errs.E(errs.NotFound, "group_snapshot_id: %s: there are no snapshots in it", h)
	}
	out := &csi.VolumeGroupSnapshot{GroupSnapshotId: h.String(), ReadyToUse: true}
	first := members[0].Created
	for _, m := range members {
		if m.Group != id {
			return nil, errs.E(errs.Internal, "group %s: the backend put snapshot %s into group %q", h, m.ID, m.Group)
		}
		out.Snapshots = append(out.Snapshots, snapshotOf(p, m))
		if m.Created.Before(first) {
			first = m.Created
		}
	}
	out.CreationTime = timestamppb.New(first)
	return out, nil
}

// GetVolumeGroupSnapshot returns a group as it is.
func (c *controller) GetVolumeGroupSnapshot(ctx context.Context, r *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	p, h, err := c.at("group_snapshot_id", r.GetGroupSnapshotId())
	if err != nil {
		return nil, err
	}
	members, err := p.GetGroup(ctx, h.ID)
	if err != nil {
		return nil, err
	}
	g, err := groupOf(p, h.ID, members)
	if err != nil {
		return nil, err
	}
	if err := listed(h, g.GetSnapshots(), r.GetSnapshotIds()); err != nil {
		return nil, err
	}
	for _, s := range r.GetSnapshotIds() {
		if !slices.ContainsFunc(g.GetSnapshots(), func(m *csi.Snapshot) bool { return m.GetSnapshotId() == s }) {
			return nil, errs.E(errs.Invalid, "snapshot_ids: %.140q is not in group %s", s, h)
		}
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: g}, nil
}

// DeleteVolumeGroupSnapshot removes a group with its snapshots; an absent one is no error.
func (c *controller) DeleteVolumeGroupSnapshot(ctx context.Context, r *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	p, h, err := c.forget("group_snapshot_id", r.GetGroupSnapshotId())
	if err != nil {
		return nil, err
	}
	if p == nil {
		return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
	}
	members, err := p.GetGroup(ctx, h.ID)
	if err != nil {
		return nil, err
	}
	if err := c.sameGroup(ctx, p, h, members, r.GetSnapshotIds()); err != nil {
		return nil, err
	}
	if err := p.DeleteGroup(ctx, h.ID); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
}

// sameGroup refuses to delete a group of which the caller has another idea. A snapshot that does not
// exist is no mismatch: an earlier call may have been cut short.
func (c *controller) sameGroup(ctx context.Context, p *pool.Pool, group Handle, members []backend.Snapshot, given []string) error {
	var have []*csi.Snapshot
	for _, m := range members {
		have = append(have, snapshotOf(p, m))
	}
	if err := listed(group, have, given); err != nil {
		return err
	}
	for _, s := range given {
		h, err := ParseHandle(s)
		if err != nil || h.Pool != group.Pool {
			return errs.E(errs.Invalid, "snapshot_ids: %.140q is not in group %s", s, group)
		}
		switch found, err := p.GetSnapshot(ctx, h.ID); {
		case errs.Is(err, errs.NotFound):
		case err != nil:
			return err
		case found.Group != group.ID:
			return errs.E(errs.Invalid, "snapshot_ids: %s is not in group %s", h, group)
		}
	}
	return nil
}

// listed checks that a caller knows every member.
func listed(group Handle, members []*csi.Snapshot, given []string) error {
	if len(members) > 0 && len(given) == 0 {
		return missing("snapshot_ids")
	}
	for _, m := range members {
		if !slices.Contains(given, m.GetSnapshotId()) {
			return errs.E(errs.Invalid, "snapshot_ids: %s is not listed but is in group %s", m.GetSnapshotId(), group)
		}
	}
	return nil
}
