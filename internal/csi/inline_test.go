package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/node"
)

var aHandle = "csi-" + strings.Repeat("0123456789abcdef", 4)

func inlinePublish() *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: aHandle, TargetPath: "/pods/uid/volume/", VolumeCapability: mountOnce(),
		VolumeContext: map[string]string{contextEphemeral: "true", foreignPrefix + "pod.name": "p", "size": "1Gi", "pool": "main"},
	}
}

func TestInlineVolume(t *testing.T) {
	b := newBed(t)
	r := inlinePublish()
	r.Readonly = true
	_, err := b.NodePublishVolume(t.Context(), r)
	wantOK(t, err)
	want(t, b.machine.inline[aHandle], node.InlineRequest{
		Volume: aHandle, Pool: "main", Size: gib, Target: "/pods/uid/volume", FSType: "ext4", ReadOnly: true,
	})
	_, err = b.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: aHandle, TargetPath: r.TargetPath})
	wantOK(t, err)
	want(t, b.machine.undone, []string{"unpublish inline " + aHandle + " /pods/uid/volume"})
}

// TestInlineHandles: what the kubelet calls an inline volume is never taken for another, nor the other
// way round.
func TestInlineHandles(t *testing.T) {
	for handle, is := range map[string]bool{
		aHandle: true, "main:" + aHandle: false, aHandle + "0": false, aHandle[:67]: false, strings.ToUpper(aHandle): false,
		aHandle + "\n": false, "csi-x": false, "": false,
	} {
		want(t, IsInline(handle), is)
		if _, err := ParseHandle(handle); is && err == nil {
			t.Errorf("%s is a handle of both sorts", handle)
		}
	}
	b := newBed(t)
	_, err := b.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: aHandle, StagingTargetPath: staging})
	wantOK(t, err)
	want(t, b.machine.undone, nil)
	_, err = b.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: aHandle, VolumePath: "/pods/uid/volume"})
	wantCode(t, err, codes.NotFound, "volume")
	_, err = b.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: aHandle, TargetPath: "/pods/x", VolumeCapability: mountOnce()})
	wantCode(t, err, codes.FailedPrecondition, "staging_target_path")
}
