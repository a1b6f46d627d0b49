package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/errs"
)

// TestNodeExpansion: the controller does not offer to grow volumes, and the node does all of it.
func TestNodeExpansion(t *testing.T) {
	b := newBedWith(t, Options{NodeExpansion: true})
	has := b.advertised(t)
	for capability, expected := range map[string]bool{
		"controller EXPAND_VOLUME": false, "node EXPAND_VOLUME": true, "plugin expansion ONLINE": true,
	} {
		if has[capability] != expected {
			t.Errorf("%s: %v", capability, has[capability])
		}
	}
	_, err := b.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
		VolumeId: "main:v", CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * gib}})
	wantCode(t, err, codes.Unimplemented)
	_, err = b.NodeStageVolume(t.Context(), goodStage())
	wantOK(t, err)
	for _, c := range []struct {
		name string
		size *csi.CapacityRange
		want int64
	}{
		{"grown", &csi.CapacityRange{RequiredBytes: 2 * gib}, 2 * gib},
		{"to less than it has", &csi.CapacityRange{RequiredBytes: gib}, 2 * gib},
		{"nothing to grow to", nil, 2 * gib},
	} {
		got, err := b.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: "main:v", VolumePath: "/a", CapacityRange: c.size})
		if err != nil || got.GetCapacityBytes() != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

// TestNodeExpansionIsForLocalPools: one that several nodes reach has to be grown once, by the controller.
func TestNodeExpansionIsForLocalPools(t *testing.T) {
	b := newBed(t)
	o := Options{DriverName: "fake.dozo.dev", Version: "v1", Controller: true, NodeExpansion: true}
	o.Pools = b.pools(t, []member{{name: "a", bound: true}, {name: "b"}})
	_, err := newServer(o, b.machine)
	wantKind(t, err, errs.Invalid, "NodeExpansion")
	o.Pools = b.pools(t, []member{{name: "a", bound: true}})
	_, err = newServer(o, nil)
	wantKind(t, err, errs.Invalid, "NodeExpansion")
	_, err = newServer(o, b.machine)
	wantOK(t, err)
}
