package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
)

func (b *bed) limits(t *testing.T, id backend.ID) backend.Limits {
	t.Helper()
	v, err := b.fakes["main"].Get(t.Context(), id)
	wantOK(t, err)
	return v.Limits
}

func (b *bed) modify(t *testing.T, handle string, parameters map[string]string) error {
	t.Helper()
	_, err := b.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: handle, MutableParameters: parameters})
	return err
}

func TestLimits(t *testing.T) {
	b := newBed(t)
	r := createRequest("v")
	r.MutableParameters = map[string]string{"read-bps": "100Mi", "write-iops": "2k", "csi.storage.k8s.io/pv/name": "v"}
	for range 2 {
		_, err := b.CreateVolume(t.Context(), r)
		wantOK(t, err)
		want(t, b.limits(t, "v"), backend.Limits{ReadBPS: 100 * mib, WriteIOPS: 2000})
	}
	for range 2 {
		wantOK(t, b.modify(t, "main:v", map[string]string{"write-bps": "1Gi", "read-iops": "0"}))
		want(t, b.limits(t, "v"), backend.Limits{WriteBPS: gib})
	}
	want(t, b.fakes["main"].Calls("Modify"), 1)
	wantOK(t, b.modify(t, "main:v", nil))
	want(t, b.limits(t, "v"), backend.Limits{})
	wantCode(t, b.modify(t, "main:absent", nil), codes.NotFound, "absent")
	wantCode(t, b.modify(t, "other:v", nil), codes.Unavailable, "other")
	wantCode(t, b.modify(t, "", nil), codes.InvalidArgument, "volume_id")
	wantCode(t, b.modify(t, "main:v", map[string]string{"speed": "high"}), codes.InvalidArgument, `mutable_parameters["speed"]`, "read-bps")
}

// TestLimitsAreValidated: a request with attributes that cannot be had is answered, not refused.
func TestLimitsAreValidated(t *testing.T) {
	b := newBed(t)
	v := b.volume(t, "v")
	ask := func(parameters map[string]string) *csi.ValidateVolumeCapabilitiesResponse {
		got, err := b.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: v, VolumeCapabilities: []*csi.VolumeCapability{mountOnce()}, MutableParameters: parameters,
		})
		wantOK(t, err)
		return got
	}
	if got := ask(map[string]string{"read-bps": "1Mi"}); got.GetConfirmed() == nil {
		t.Errorf("not confirmed: %s", got.GetMessage())
	}
	wantUnconfirmed(t, ask(map[string]string{"speed": "high"}), "speed")
}

// TestNoLimits: a pool that keeps none refuses them, also beside one that does.
func TestNoLimits(t *testing.T) {
	b := newBed(t, member{name: "main"}, member{name: "basic", mask: fake.Basic})
	r := createRequest("v")
	r.Parameters = map[string]string{"pool": "basic"}
	r.MutableParameters = map[string]string{"read-bps": "1Mi"}
	_, err := b.CreateVolume(t.Context(), r)
	wantCode(t, err, codes.InvalidArgument, "mutable_parameters")
	want(t, b.leftovers(), nil)
	v := b.volumeIn(t, "v", r.Parameters)
	wantCode(t, b.modify(t, v, r.MutableParameters), codes.InvalidArgument, "mutable_parameters")
	wantCode(t, b.modify(t, v, nil), codes.InvalidArgument, "mutable_parameters")
}
