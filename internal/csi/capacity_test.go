package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dozo-dev/dozo/internal/backend/fake"
)

func TestGetCapacity(t *testing.T) {
	b := newBed(t, member{name: "here", bound: true, total: 10 * gib}, member{name: "net", total: 3 * gib})
	for _, c := range []struct {
		name           string
		r              *csi.GetCapacityRequest
		available, max int64
		code           codes.Code
		words          []string
	}{
		{"all", &csi.GetCapacityRequest{}, 13 * gib, 10 * gib, codes.OK, nil},
		{"foreign parameters only", &csi.GetCapacityRequest{Parameters: map[string]string{"csi.storage.k8s.io/x": "y"}}, 13 * gib, 10 * gib, codes.OK, nil},
		{"a pool", &csi.GetCapacityRequest{Parameters: map[string]string{"pool": "net"}}, 3 * gib, 3 * gib, codes.OK, nil},
		{"its node", &csi.GetCapacityRequest{AccessibleTopology: onNode("node-1")[0]}, 13 * gib, 10 * gib, codes.OK, nil},
		{"another node", &csi.GetCapacityRequest{AccessibleTopology: onNode("node-2")[0]}, 3 * gib, 3 * gib, codes.OK, nil},
		{"a pool on another node", &csi.GetCapacityRequest{AccessibleTopology: onNode("node-2")[0], Parameters: map[string]string{"pool": "here"}}, 0, 0, codes.OK, nil},
		{"a use", &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{mountOnce()}}, 13 * gib, 10 * gib, codes.OK, nil},
		{"a wrong use", &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{{}}}, 0, 0, codes.InvalidArgument, []string{"volume_capabilities[0]"}},
		{"unknown segment", &csi.GetCapacityRequest{AccessibleTopology: &csi.Topology{Segments: map[string]string{"zone": "z"}}}, 0, 0, codes.InvalidArgument, []string{"accessible_topology", "zone"}},
		{"unknown pool", &csi.GetCapacityRequest{Parameters: map[string]string{"pool": "x"}}, 0, 0, codes.InvalidArgument, []string{`parameters["pool"]`}},
		{"unknown parameter", &csi.GetCapacityRequest{Parameters: map[string]string{"pool": "net", "x": "y"}}, 0, 0, codes.InvalidArgument, []string{`parameters["x"]`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := b.GetCapacity(t.Context(), c.r)
			wantCode(t, err, c.code, c.words...)
			if c.code == codes.OK {
				least := int64(fake.MinSize)
				if len(c.r.GetVolumeCapabilities()) > 0 {
					least = 4 * mib // what ext4 needs
				}
				wantProto(t, got, &csi.GetCapacityResponse{
					AvailableCapacity: c.available, MaximumVolumeSize: wrapperspb.Int64(c.max), MinimumVolumeSize: wrapperspb.Int64(least),
				})
			}
		})
	}
}

func TestGetCapacityOfWhatCannotBe(t *testing.T) {
	b := newBed(t)
	got, err := b.GetCapacity(t.Context(), &csi.GetCapacityRequest{
		VolumeCapabilities: []*csi.VolumeCapability{capability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)},
	})
	wantOK(t, err)
	want(t, got.GetAvailableCapacity(), int64(0))
	want(t, got.GetMaximumVolumeSize().GetValue(), int64(0))

	b.fakes["main"].Arm(func(e *fake.Errors) { e.Down = errDown() })
	_, err = b.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
	wantCode(t, err, codes.Unavailable, "main")
}

// TestMinimumIsTheSmallestLimit holds the minimum to what a pool accepts, for a device and for each file system.
func TestMinimumIsTheSmallestLimit(t *testing.T) {
	b := newBed(t)
	xfs := mountOnce()
	xfs.GetMount().FsType = "xfs"
	for name, use := range map[string]*csi.VolumeCapability{
		"block": block(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER), "ext4": mountOnce(), "xfs": xfs,
	} {
		c, err := b.GetCapacity(t.Context(), &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{use}})
		wantOK(t, err)
		least := c.GetMinimumVolumeSize().GetValue()
		for limit, code := range map[int64]codes.Code{least: codes.OK, least - 1: codes.OutOfRange} {
			r := createRequest(name)
			r.VolumeCapabilities = []*csi.VolumeCapability{use}
			r.CapacityRange = &csi.CapacityRange{LimitBytes: limit}
			_, err := b.CreateVolume(t.Context(), r)
			wantCode(t, err, code)
		}
	}
}

// TestFileSystemsHaveRoom: what is asked for becomes what the file system needs, and no more than the limit.
func TestFileSystemsHaveRoom(t *testing.T) {
	b := newBed(t)
	r := createRequest("v")
	r.VolumeCapabilities[0].GetMount().FsType = "xfs"
	r.CapacityRange = &csi.CapacityRange{RequiredBytes: 1}
	for range 2 {
		v, err := b.CreateVolume(t.Context(), r)
		wantOK(t, err)
		want(t, v.GetVolume().GetCapacityBytes(), int64(300*mib))
	}
	r.Name, r.CapacityRange.LimitBytes = "w", 299*mib
	_, err := b.CreateVolume(t.Context(), r)
	wantCode(t, err, codes.OutOfRange, "capacity_range.limit_bytes", "xfs")
}
