package main

import (
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// centralAddresses: a share is attached anew to a node that has another address, and nothing else is.
func centralAddresses(t *testing.T, c *central, ctl csi.ControllerClient) {
	use := &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
	}
	made, err := ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
		Name: "share", Parameters: map[string]string{"pool": "p", "protocol": "nfs"}, VolumeCapabilities: []*csi.VolumeCapability{use},
		CapacityRange: &csi.CapacityRange{RequiredBytes: 64 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(node string) map[string]string {
		p, err := ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{
			VolumeId: made.GetVolume().GetVolumeId(), NodeId: node, VolumeCapability: use, VolumeContext: made.GetVolume().GetVolumeContext(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return p.GetPublishContext()
	}
	const ours, others = outsideKind + ".dozo.dev", "nfs.csi.example.com"
	c.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "moves"}})
	c.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "last"}})
	c.addressed("moves", "192.0.2.7", "fd00::7")
	c.addressed("last", "192.0.2.9")
	first := publish("moves")
	if got := first["dozo.dev/addresses"]; got != "192.0.2.7 fd00::7" {
		t.Errorf("attached for %q", got)
	}
	c.attached("share-moves", ours, "moves", first)
	c.attached("share-last", ours, "last", publish("last"))
	c.attached("lun-moves", ours, "moves", map[string]string{"dozo.dev/access": "{}"})
	c.attached("other-moves", others, "moves", first)

	c.addressed("moves", "192.0.2.8", "fd00::7")
	c.until("the share is to be attached anew", func() bool { return !c.attachment("share-moves").Status.Attached })
	c.until("an event says so", func() bool { return slices.Contains(c.events("share-moves"), "AddressesChanged") })
	again := publish("moves") // by csi-attacher
	if got := again["dozo.dev/addresses"]; got != "192.0.2.8 fd00::7" {
		t.Errorf("attached anew for %q", got)
	}
	c.mark("share-moves", again)

	// One that is down has no addresses for a while, and order is no matter.
	c.addressed("moves")
	c.addressed("moves", "fd00::7", "192.0.2.8")
	c.addressed("last", "192.0.2.10")
	c.until("the last change has been seen", func() bool { return !c.attachment("share-last").Status.Attached })
	for _, name := range []string{"share-moves", "lun-moves", "other-moves"} {
		if !c.attachment(name).Status.Attached {
			t.Errorf("%s was detached", name)
		}
	}
	for _, node := range []string{"moves", "last"} {
		if _, err := ctl.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: made.GetVolume().GetVolumeId(), NodeId: node}); err != nil {
			t.Error(err)
		}
	}
	if _, err := ctl.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: made.GetVolume().GetVolumeId()}); err != nil {
		t.Error(err)
	}
}

// addressed gives a Node its addresses, as its kubelet does.
func (c *central) addressed(node string, addresses ...string) {
	c.t.Helper()
	n := &corev1.Node{}
	if err := c.Client.Get(c.t.Context(), client.ObjectKey{Name: node}, n); err != nil {
		c.t.Fatal(err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: node}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	if err := c.Client.Status().Update(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
}

// attached makes a VolumeAttachment that csi-attacher has attached.
func (c *central) attached(name, driver, node string, metadata map[string]string) {
	c.t.Helper()
	c.make(&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.VolumeAttachmentSpec{
		Attacher: driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("pv-" + name)},
	}})
	c.mark(name, metadata)
}

// mark notes what csi-attacher does when it has attached.
func (c *central) mark(name string, metadata map[string]string) {
	c.t.Helper()
	a := c.attachment(name)
	a.Status.Attached, a.Status.AttachmentMetadata = true, metadata
	if err := c.Client.Status().Update(c.t.Context(), a); err != nil {
		c.t.Fatal(err)
	}
}

func (c *central) attachment(name string) *storagev1.VolumeAttachment {
	c.t.Helper()
	a := &storagev1.VolumeAttachment{}
	if err := c.Client.Get(c.t.Context(), client.ObjectKey{Name: name}, a); err != nil {
		c.t.Fatal(err)
	}
	return a
}
