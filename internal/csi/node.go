package csi

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/node"
)

// machine is what the Node service needs of [node.Node]; tests have one without mounts.
type machine interface {
	Name() string
	stager
	inliner
	Expand(ctx context.Context, volume, path string) (int64, error)
	Stats(ctx context.Context, volume, path string) (node.Stats, error)
	Health(ctx context.Context, volume string) ([]backend.Problem, error)
}

// stager makes volumes that a controller made usable on this node.
type stager interface {
	Stage(ctx context.Context, r node.StageRequest) error
	Unstage(ctx context.Context, volume, staging string) error
	Publish(ctx context.Context, r node.PublishRequest) error
	Unpublish(ctx context.Context, volume, target string) error
}

// inliner makes volumes itself, each for one pod.
type inliner interface {
	PublishInline(ctx context.Context, r node.InlineRequest) error
	UnpublishInline(ctx context.Context, volume, target string) error
}

var _ machine = (*node.Node)(nil)

// nodeService is the Node service.
type nodeService struct {
	csi.UnimplementedNodeServer
	node machine
	has  features
	log  *slog.Logger
}

func (n *nodeService) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	r := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range n.has.node() {
		r.Capabilities = append(r.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return r, nil
}

// NodeGetInfo names this node. The number of volumes on it is not limited by us.
func (n *nodeService) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	r := &csi.NodeGetInfoResponse{NodeId: n.node.Name()}
	if n.has.nodeBound {
		r.AccessibleTopology = topologies([]string{n.node.Name()})[0]
	}
	return r, nil
}

// known returns the handle of a volume that is to be used here: NotFound if it is none of ours.
func known(handle string) (Handle, error) {
	h, err := ParseHandle(handle)
	if err != nil {
		return Handle{}, errs.E(errs.NotFound, "volume_id: %w; nothing of that name was made here", err)
	}
	return h, nil
}

// absolute returns a path without superfluous slashes: errs.Invalid for one that does not begin at
// the root or has a ".." in it.
func absolute(field, path string) (string, error) {
	if !filepath.IsAbs(path) || slices.Contains(strings.Split(path, "/"), "..") {
		return "", errs.E(errs.Invalid, "%s: %.200q is not an absolute path without \"..\"", field, path)
	}
	return filepath.Clean(path), nil
}

// NodeStageVolume makes a volume ready on this node.
func (n *nodeService) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if err := required("volume_id", r.GetVolumeId(), "staging_target_path", r.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	use, err := usageOf("volume_capability", r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	staging, err := absolute("staging_target_path", r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	h, err := known(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	access, err := accessOf(h, r.GetPublishContext(), r.GetVolumeContext())
	if err != nil {
		return nil, err
	}
	if err := use.fits("volume_capability", reachedBy(access)); err != nil {
		return nil, err
	}
	mkfs, err := mkfsOptionsOf(r.GetVolumeContext())
	if err != nil {
		return nil, err
	}
	err = n.node.Stage(ctx, node.StageRequest{
		Volume:       h.String(),
		Access:       access,
		Staging:      staging,
		Block:        use.block,
		FSType:       use.fsType,
		MountOptions: use.mountFlags,
		MkfsOptions:  mkfs,
		ReadOnly:     use.readOnly || attachedReadOnly(r.GetPublishContext()),
		Secrets:      r.GetSecrets(),
	})
	if err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// NodeUnstageVolume undoes NodeStageVolume. A handle that is none of ours was never staged, and the
// kubelet has to be able to clean up after a refused one.
func (n *nodeService) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if err := required("volume_id", r.GetVolumeId(), "staging_target_path", r.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	staging, err := absolute("staging_target_path", r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	if h, ok := n.ours(r.GetVolumeId()); ok {
		if err := n.node.Unstage(ctx, h.String(), staging); err != nil {
			return nil, err
		}
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// ours is known for the calls that undo.
func (n *nodeService) ours(handle string) (Handle, bool) {
	h, err := ParseHandle(handle)
	if err != nil {
		n.log.Warn("nothing to undo: not a handle of this driver", "handle", clip(handle))
	}
	return h, err == nil
}

// NodePublishVolume makes a staged volume appear at a path.
func (n *nodeService) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := required("volume_id", r.GetVolumeId(), "target_path", r.GetTargetPath()); err != nil {
		return nil, err
	}
	use, err := usageOf("volume_capability", r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	if r.GetVolumeContext()[contextEphemeral] == "true" {
		return n.publishInline(ctx, r, use)
	}
	if r.GetStagingTargetPath() == "" {
		return nil, precondition("staging_target_path: missing; stage the volume first")
	}
	staging, err := absolute("staging_target_path", r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	target, err := absolute("target_path", r.GetTargetPath())
	if err != nil {
		return nil, err
	}
	h, err := known(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if use.manyNodes { // of what is on one node only, this is the first to hear
		access, err := accessOf(h, r.GetPublishContext(), r.GetVolumeContext())
		if err == nil {
			err = use.fits("volume_capability", reachedBy(access))
		}
		if err != nil {
			return nil, err
		}
	}
	err = n.node.Publish(ctx, node.PublishRequest{
		Volume:       h.String(),
		Staging:      staging,
		Target:       target,
		Block:        use.block,
		ReadOnly:     use.readOnly || r.GetReadonly() || attachedReadOnly(r.GetPublishContext()),
		SingleWriter: use.singleWriter,
		MountOptions: use.mountFlags,
	})
	if err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume undoes NodePublishVolume.
func (n *nodeService) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := required("volume_id", r.GetVolumeId(), "target_path", r.GetTargetPath()); err != nil {
		return nil, err
	}
	target, err := absolute("target_path", r.GetTargetPath())
	if err != nil {
		return nil, err
	}
	if IsInline(r.GetVolumeId()) {
		if err := n.node.UnpublishInline(ctx, r.GetVolumeId(), target); err != nil {
			return nil, err
		}
	} else if h, ok := n.ours(r.GetVolumeId()); ok {
		if err := n.node.Unpublish(ctx, h.String(), target); err != nil {
			return nil, err
		}
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// usedAt returns the handle and the path of a volume that is in use here: NotFound also for a path
// at which nothing of ours can be, which is what the spec says of a volume "not on volume_path".
func usedAt(handle, path string) (volume, clean string, err error) {
	if err := required("volume_id", handle, "volume_path", path); err != nil {
		return "", "", err
	}
	if volume, err = used(handle); err != nil {
		return "", "", err
	}
	clean, err = absolute("volume_path", path)
	if err != nil {
		return "", "", errs.E(errs.NotFound, "%w; volume %s is not there", err, volume)
	}
	return volume, clean, nil
}

// used is known for the calls about any volume in use here, inline ones too.
func used(handle string) (volume string, err error) {
	if IsInline(handle) {
		return handle, nil
	}
	h, err := known(handle)
	return h.String(), err
}

// NodeExpandVolume makes device and file system as large as the volume is by now.
func (n *nodeService) NodeExpandVolume(ctx context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	volume, path, err := usedAt(r.GetVolumeId(), r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	if r.GetVolumeCapability() != nil {
		if _, err := usageOf("volume_capability", r.GetVolumeCapability()); err != nil {
			return nil, err
		}
	}
	least, most := r.GetCapacityRange().GetRequiredBytes(), r.GetCapacityRange().GetLimitBytes()
	if least < 0 || most < 0 || most > 0 && most < least {
		return nil, errs.E(errs.OutOfRange, "capacity_range: required_bytes %d and limit_bytes %d are not a range", least, most)
	}
	size, err := n.node.Expand(ctx, volume, path)
	if err != nil {
		return nil, err
	}
	if size < least {
		return nil, errs.E(errs.OutOfRange, "capacity_range.required_bytes: %d is more than the %d that the volume has; expand it at the controller first", least, size)
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, nil
}

// NodeGetVolumeStats says how full a volume is.
func (n *nodeService) NodeGetVolumeStats(ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	volume, path, err := usedAt(r.GetVolumeId(), r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	s, err := n.node.Stats(ctx, volume, path)
	if err != nil {
		return nil, err
	}
	bytes := &csi.VolumeUsage{Unit: csi.VolumeUsage_BYTES, Total: s.TotalBytes}
	if s.Block {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{bytes}}, nil
	}
	bytes.Used, bytes.Available = s.UsedBytes, s.AvailableBytes
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{bytes, {
		Unit: csi.VolumeUsage_INODES, Total: s.TotalInodes, Used: s.UsedInodes, Available: s.AvailableInodes,
	}}}, nil
}

// NodeGetVolumeHealth says what is wrong with a volume as seen from here.
func (n *nodeService) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if err := required("volume_id", r.GetVolumeId()); err != nil {
		return nil, err
	}
	volume, err := used(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	problems, err := n.node.Health(ctx, volume)
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: healthOf(volume, problems)}, nil
}
