package csi

import (
	"context"
	"regexp"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/node"
)

// contextEphemeral is how the kubelet says that a volume stands in a pod's spec and has to be made
// (needs podInfoOnMount in the CSIDriver object).
const contextEphemeral = foreignPrefix + "ephemeral"

// paramSize is the attribute of an inline volume that says how large it is to be.
const paramSize = "size"

// inlineHandle is what the kubelet calls such volumes: a hash of the pod and the volume's name in it.
// No other handle here looks like that (see [Handle]).
var inlineHandle = regexp.MustCompile(`^csi-[0-9a-f]{64}$`)

// IsInline reports whether a handle, which is also the volume's name in its pool, is that of an inline
// volume.
func IsInline(handle string) bool { return inlineHandle.MatchString(handle) }

// inlineAttributes are the volumeAttributes of an inline volume.
func inlineAttributes() []backend.Parameter {
	return []backend.Parameter{
		{Name: paramPool, Help: "the name of a pool; needed where there are several"},
		{Name: paramSize, Required: true, Help: "it is a quantity like 1Gi", Check: func(v string) error {
			n, err := backend.ParseSize(v)
			if err == nil && n == 0 {
				err = errs.E(errs.Invalid, "is 0")
			}
			return err
		}},
	}
}

// publishInline makes a volume that stands in a pod's spec. Whoever makes pods wrote the attributes.
func (n *nodeService) publishInline(ctx context.Context, r *csi.NodePublishVolumeRequest, use usage) (*csi.NodePublishVolumeResponse, error) {
	if !IsInline(r.GetVolumeId()) {
		return nil, errs.E(errs.Invalid, "volume_id: %.80q is not what the kubelet calls an inline volume", r.GetVolumeId())
	}
	if err := use.fits("volume_capability", inPlace); err != nil {
		return nil, err
	}
	if use.block {
		return nil, errs.E(errs.Unsupported, "volume_capability.block: an inline volume is a file system; use a claim")
	}
	attributes, err := backend.Complete("volume_context", inlineAttributes(), withoutForeign(r.GetVolumeContext()))
	if err != nil {
		return nil, err
	}
	size, err := backend.ParseSize(attributes[paramSize])
	if err != nil {
		return nil, err
	}
	target, err := absolute("target_path", r.GetTargetPath())
	if err != nil {
		return nil, err
	}
	err = n.node.PublishInline(ctx, node.InlineRequest{
		Volume: r.GetVolumeId(), Pool: attributes[paramPool], Size: size, Target: target,
		FSType: use.fsType, MountOptions: use.mountFlags, ReadOnly: use.readOnly || r.GetReadonly(),
	})
	if err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, nil
}
