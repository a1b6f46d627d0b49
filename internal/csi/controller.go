package csi

import (
	"context"
	"log/slog"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// controller is the Controller service, and GroupController too. Its methods translate; what is
// decided about volumes is decided in their pool.
type controller struct {
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	pools *pool.Set
	nodes func(ctx context.Context, id string) (addresses []string, err error)
	has   features
	log   *slog.Logger
}

func (c *controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	r := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range c.has.controller() {
		r.Capabilities = append(r.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return r, nil
}

// at returns the pool of a handle. Three answers are kept apart. A handle that is none of ours:
// NotFound, for nothing can be under it. One in a pool that is not configured (any more):
// Unavailable, for its data may well be there and must not pass for deleted. And of those that
// remain only the storage knows whether they exist.
func (c *controller) at(field, handle string) (*pool.Pool, Handle, error) {
	if handle == "" {
		return nil, Handle{}, missing(field)
	}
	h, err := ParseHandle(handle)
	if err != nil {
		return nil, Handle{}, errs.E(errs.NotFound, "%s: %w; nothing of that name was made here", field, err)
	}
	p, err := c.pools.Get(h.Pool)
	if err != nil {
		return nil, Handle{}, errs.E(errs.Unavailable, "%s: %s: whether it exists cannot be told: %w; configure its pool again", field, h, err)
	}
	return p, h, nil
}

// forget is at for the calls that delete, where p is nil if there is nothing to do: the spec has an
// unknown handle succeed. Somebody should hear of it all the same, for a handle that was made by
// another version and cannot be read any more would look just like that.
func (c *controller) forget(field, handle string) (p *pool.Pool, h Handle, err error) {
	p, h, err = c.at(field, handle)
	if errs.Is(err, errs.NotFound) {
		c.log.Warn("nothing to delete: not a handle of this driver", "field", field, "handle", clip(handle))
		return nil, h, nil
	}
	return p, h, err
}

// CreateVolume makes a volume, or returns the one that the same request made before.
func (c *controller) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if err := required("name", r.GetName()); err != nil {
		return nil, err
	}
	uses, err := usagesOf("volume_capabilities", r.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	limits, err := limitsOf(r.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	class, err := classOf(c.pools, r.GetParameters())
	if err != nil {
		return nil, err
	}
	if err := uses.fit("volume_capabilities", class.reach()); err != nil {
		return nil, err
	}
	source, err := c.sourceOf("volume_content_source", class.pool, r.GetVolumeContentSource())
	if err != nil {
		return nil, err
	}
	nodes, err := nodesOf("accessibility_requirements", r.GetAccessibilityRequirements())
	if err != nil {
		return nil, err
	}
	v, err := class.pool.Create(ctx, pool.VolumeRequest{
		Name:       r.GetName(),
		Required:   r.GetCapacityRange().GetRequiredBytes(),
		Limit:      r.GetCapacityRange().GetLimitBytes(),
		Source:     source,
		Parameters: class.parameters,
		Nodes:      nodes,
		Limits:     limits,

		FileSystems: fileSystems(r.GetVolumeCapabilities()),
	})
	if err != nil {
		return nil, err
	}
	made := volumeOf(class.pool, v)
	if made.VolumeContext, err = VolumeContext(v, class.mkfs); err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: made}, nil
}

// sourceOf returns what a new volume in p is to be a copy of.
func (c *controller) sourceOf(field string, p *pool.Pool, s *csi.VolumeContentSource) (backend.Source, error) {
	var handle string
	switch {
	case s == nil:
		return backend.Source{}, nil
	case s.GetSnapshot() != nil:
		field, handle = field+".snapshot.snapshot_id", s.GetSnapshot().GetSnapshotId()
	case s.GetVolume() != nil:
		field, handle = field+".volume.volume_id", s.GetVolume().GetVolumeId()
	default:
		return backend.Source{}, errs.E(errs.Invalid, "%s.type: missing; it is snapshot or volume", field)
	}
	from, h, err := c.at(field, handle)
	switch {
	case err != nil:
		return backend.Source{}, err
	case from != p:
		return backend.Source{}, errs.E(errs.Invalid, "%s: %s is in pool %s and the new volume in pool %s; a copy is made within one pool, "+
			"so use a storage class of pool %s", field, h, h.Pool, p.Name(), h.Pool)
	case s.GetSnapshot() != nil:
		return backend.Source{Snapshot: h.ID}, nil
	default:
		return backend.Source{Volume: h.ID}, nil
	}
}

// volumeOf returns a volume as CSI describes it, without the context: that is for CreateVolume,
// which alone knows the class and so all of it. Other calls leave it away, since CSI wants it to be
// the same whenever it is there.
func volumeOf(p *pool.Pool, v backend.Volume) *csi.Volume {
	out := &csi.Volume{
		VolumeId:           Handle{Pool: p.Name(), ID: v.ID}.String(),
		CapacityBytes:      v.Size,
		AccessibleTopology: topologies(v.Nodes),
	}
	switch {
	case v.Source.Snapshot != "":
		out.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: Handle{Pool: p.Name(), ID: v.Source.Snapshot}.String()},
		}}
	case v.Source.Volume != "":
		out.ContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: Handle{Pool: p.Name(), ID: v.Source.Volume}.String()},
		}}
	}
	return out
}

// DeleteVolume removes a volume and its data; an absent one is no error.
func (c *controller) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	p, h, err := c.forget("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if p != nil {
		if err := p.Delete(ctx, h.ID); err != nil {
			return nil, err
		}
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ControllerGetVolume returns a volume as it is.
func (c *controller) ControllerGetVolume(ctx context.Context, r *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	p, v, err := c.volume(ctx, "volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{
		Volume: volumeOf(p, v),
		Status: &csi.ControllerGetVolumeResponse_VolumeStatus{},
	}, nil
}

// volume returns the volume of a handle.
func (c *controller) volume(ctx context.Context, field, handle string) (*pool.Pool, backend.Volume, error) {
	p, h, err := c.at(field, handle)
	if err != nil {
		return nil, backend.Volume{}, err
	}
	v, err := p.Get(ctx, h.ID)
	if err != nil {
		return nil, backend.Volume{}, errs.E(errs.KindOf(err), "%s: %s: %w", field, h, err)
	}
	return p, v, nil
}

// ControllerExpandVolume makes a volume larger. Where it is a device the node has its part to do: that
// has to learn its new size, the file system to fill it.
func (c *controller) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if err := required("volume_id", r.GetVolumeId()); err != nil {
		return nil, err
	}
	if r.GetCapacityRange() == nil {
		return nil, missing("capacity_range")
	}
	if r.GetVolumeCapability() != nil {
		if _, err := usageOf("volume_capability", r.GetVolumeCapability()); err != nil {
			return nil, err
		}
	}
	p, h, err := c.at("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	v, err := p.Expand(ctx, h.ID, r.GetCapacityRange().GetRequiredBytes(), r.GetCapacityRange().GetLimitBytes())
	if errs.Is(err, errs.NoSpace) {
		// The specification has no RESOURCE_EXHAUSTED here. The resizer would try the same size for ever, also
		// after the claim asks for less; of OUT_OF_RANGE it knows that it never was begun.
		return nil, errs.E(errs.OutOfRange, "capacity_range.required_bytes: %w", err)
	}
	if err != nil {
		return nil, err
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: reachedBy(v.Access) != asFolder}, nil
}

// ValidateVolumeCapabilities says whether a volume can be used in some ways. A request that makes no
// sense is an error; one that makes sense and cannot be had is an answer.
func (c *controller) ValidateVolumeCapabilities(ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if err := required("volume_id", r.GetVolumeId()); err != nil {
		return nil, err
	}
	uses, unsupported := usagesOf("volume_capabilities", r.GetVolumeCapabilities())
	if unsupported != nil && !errs.Is(unsupported, errs.Unsupported) {
		return nil, unsupported
	}
	p, v, err := c.volume(ctx, "volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if unsupported == nil {
		access := v.Access
		if kept, err := readAccess(Handle{Pool: p.Name(), ID: v.ID}, "volume_context", r.GetVolumeContext()[contextAccess]); err == nil {
			access = kept // which knows whether it is encrypted
		}
		unsupported = uses.fit("volume_capabilities", reachedBy(access))
	}
	if unsupported == nil {
		unsupported = c.fits(p, v, r)
	}
	if unsupported != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: unsupported.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext:      r.GetVolumeContext(),
		VolumeCapabilities: r.GetVolumeCapabilities(),
		Parameters:         r.GetParameters(),
	}}, nil
}

// fits returns what of a request is not true of the volume v.
func (c *controller) fits(p *pool.Pool, v backend.Volume, r *csi.ValidateVolumeCapabilitiesRequest) error {
	switch limits, err := limitsOf(r.GetMutableParameters()); {
	case err != nil:
		return err
	case !limits.IsZero() && p.Capabilities().Modifier == nil:
		return errs.E(errs.Unsupported, "mutable_parameters: %s volumes have no limits", p.Kind().Name)
	}
	if len(r.GetVolumeContext()) > 0 {
		if _, err := accessOf(Handle{Pool: p.Name(), ID: v.ID}, nil, r.GetVolumeContext()); err != nil {
			return err
		}
		if _, err := mkfsOptionsOf(r.GetVolumeContext()); err != nil {
			return err
		}
	}
	if len(withoutForeign(r.GetParameters())) > 0 {
		class, err := classOf(c.pools, r.GetParameters())
		if err != nil {
			return err
		}
		if class.pool != p {
			return errs.E(errs.Invalid, "parameters[%q]: the volume is in pool %s", paramPool, p.Name())
		}
	}
	return nil
}
