package csi

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// ControllerPublishVolume admits a node to a volume. What is admitted already is only known to the storage: nothing is
// remembered here, since another replica may be asked next.
func (c *controller) ControllerPublishVolume(ctx context.Context, r *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if err := required("volume_id", r.GetVolumeId(), "node_id", r.GetNodeId()); err != nil {
		return nil, err
	}
	use, err := usageOf("volume_capability", r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	p, h, err := c.at("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	kept, err := c.kept(ctx, p, h, r.GetVolumeContext())
	if err != nil {
		return nil, err
	}
	if err := use.fits("volume_capability", reachedBy(kept)); err != nil {
		return nil, err
	}
	addresses, err := c.nodes(ctx, r.GetNodeId())
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "node_id: %w", err)
	}
	readOnly := use.readOnly || r.GetReadonly()
	access, err := p.Attach(ctx, h.ID, backend.AttachRequest{
		Node: r.GetNodeId(), Addresses: addresses, Shared: use.manyNodes, ReadOnly: readOnly,
		Block: use.block && kept.Encryption == nil, // an encrypted one has yet to be formatted by the node, and shows by its header that it was
	})
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "volume_id: %s: %w", h, err)
	}
	given, err := publishContext(access, readOnly)
	if err != nil {
		return nil, err
	}
	if access.Mount != nil && len(addresses) > 0 {
		given[AddressesKey] = strings.Join(addresses, " ")
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: given}, nil
}

// kept is the access in the volume's context, which is there unless the caller lost it: then the storage is asked.
func (c *controller) kept(ctx context.Context, p *pool.Pool, h Handle, context map[string]string) (backend.Access, error) {
	if context[contextAccess] != "" {
		return accessOf(h, nil, context)
	}
	v, err := p.Get(ctx, h.ID)
	if err != nil {
		return backend.Access{}, errs.E(errs.KindOf(err), "volume_id: %s: %w", h, err)
	}
	return v.Access, nil
}

// publishContext is what a node is given beside the volume's context. The node reads only, if it is to, whether the storage
// sees to that or not.
func publishContext(a backend.Access, readOnly bool) (map[string]string, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return nil, errs.E(errs.Internal, "access: %w", err)
	}
	given := map[string]string{contextAccess: string(text)}
	if readOnly {
		given[contextReadOnly] = "true"
	}
	return given, nil
}

func attachedReadOnly(publish map[string]string) bool { return publish[contextReadOnly] == "true" }

// ControllerUnpublishVolume shuts a node out of a volume, or all nodes if none is named. Whether the node still exists does
// not matter, nor whether the volume does.
func (c *controller) ControllerUnpublishVolume(ctx context.Context, r *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	p, h, err := c.forget("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if p != nil {
		if err := p.Detach(ctx, h.ID, r.GetNodeId()); err != nil {
			return nil, errs.E(errs.KindOf(err), "volume_id: %s: %w", h, err)
		}
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}
