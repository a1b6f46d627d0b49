package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
)

// TestEncryptionCrosses: what a class asks for reaches the node in the volume's context, and the name of
// a secret is the sidecars' affair.
func TestEncryptionCrosses(t *testing.T) {
	b := newBed(t, member{name: "main"})
	made, err := b.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
		Name: "v", CapacityRange: &csi.CapacityRange{RequiredBytes: 64 << 20},
		VolumeCapabilities: []*csi.VolumeCapability{capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)},
		Parameters: map[string]string{
			"encryption": "luks2", "encryptionDiscard": "true",
			"csi.storage.k8s.io/node-stage-secret-name": "keys", "csi.storage.k8s.io/node-stage-secret-namespace": "dozo",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	context := made.GetVolume().GetVolumeContext()
	a, err := accessOf(Handle{Pool: "main", ID: "v"}, nil, context)
	wantOK(t, err)
	want(t, a, backend.LocalAccess("main", "v").Encrypted(backend.Encryption{Type: "luks2", Discard: true}))
	if len(context) != 1 || strings.Contains(context[contextAccess], "keys") {
		t.Errorf("the context is %v", context)
	}
}
