package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

const (
	readers = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	writers = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
)

// attaching is a bed whose volumes are on a server.
func attaching(t *testing.T) *bed { return newBed(t, member{name: "main", out: true}) }

// made makes a volume of 64 MiB, as a class with the parameters would.
func (b *bed) made(t *testing.T, name string, parameters map[string]string, c *csi.VolumeCapability) *csi.Volume {
	t.Helper()
	r := createRequest(name)
	r.Parameters, r.VolumeCapabilities = parameters, []*csi.VolumeCapability{c}
	v, err := b.CreateVolume(t.Context(), r)
	if err != nil {
		t.Fatalf("CreateVolume %s: %v", name, err)
	}
	return v.GetVolume()
}

func publish(v *csi.Volume, node string, c *csi.VolumeCapability) *csi.ControllerPublishVolumeRequest {
	return &csi.ControllerPublishVolumeRequest{VolumeId: v.GetVolumeId(), NodeId: node, VolumeCapability: c, VolumeContext: v.GetVolumeContext()}
}

func folder() map[string]string { return map[string]string{"protocol": "nfs"} }

func anyFS(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	c := capability(mode)
	c.GetMount().FsType = ""
	return c
}

// TestPublish: what the controller learns reaches the node's Stage.
func TestPublish(t *testing.T) {
	b := attaching(t)
	v := b.made(t, "v", nil, mountOnce())
	var first map[string]string
	for range 2 {
		p, err := b.ControllerPublishVolume(t.Context(), publish(v, "node-1", mountOnce()))
		wantOK(t, err)
		if first == nil {
			first = p.GetPublishContext()
		}
		want(t, p.GetPublishContext(), first)
	}
	_, err := b.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: v.GetVolumeId(), StagingTargetPath: "/s", VolumeCapability: mountOnce(), VolumeContext: v.GetVolumeContext(), PublishContext: first,
	})
	wantOK(t, err)
	got := b.machine.staged[v.GetVolumeId()]
	if got.Access.ISCSI == nil || got.Access.ISCSI.Target == nil || len(got.Access.ISCSI.Target.Portals) == 0 || got.ReadOnly {
		t.Errorf("staged as %+v", got)
	}
	want(t, b.fakes["main"].Attached("v"), []string{"node-1"})
	_, err = b.ControllerPublishVolume(t.Context(), publish(v, "node-2", mountOnce()))
	wantCode(t, err, codes.FailedPrecondition, "main:v", "node-1")
	_, err = b.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: v.GetVolumeId()})
	wantCode(t, err, codes.FailedPrecondition, "node-1")
	for range 2 {
		_, err = b.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: v.GetVolumeId(), NodeId: "node-1"})
		wantOK(t, err)
	}
	_, err = b.ControllerPublishVolume(t.Context(), publish(v, "node-2", mountOnce()))
	wantOK(t, err)
}

// TestPublishWithoutContext: the caller may have lost it.
func TestPublishWithoutContext(t *testing.T) {
	b := attaching(t)
	v := b.made(t, "v", folder(), anyFS(writers))
	v.VolumeContext = nil
	p, err := b.ControllerPublishVolume(t.Context(), publish(v, "node-1", anyFS(writers)))
	wantOK(t, err)
	if !strings.Contains(p.GetPublishContext()[contextAccess], `"mount"`) {
		t.Errorf("got %v", p.GetPublishContext())
	}
	want(t, p.GetPublishContext()[AddressesKey], "192.0.2.1")
}

func TestPublishRefuses(t *testing.T) {
	b := attaching(t)
	v := b.made(t, "v", nil, mountOnce())
	for name, c := range map[string]struct {
		change func(*csi.ControllerPublishVolumeRequest)
		code   codes.Code
		words  string
	}{
		"unknown node":        {func(r *csi.ControllerPublishVolumeRequest) { r.NodeId = "node-9" }, codes.NotFound, "node_id|node-9"},
		"nobody knows":        {func(r *csi.ControllerPublishVolumeRequest) { r.NodeId = "node-lost" }, codes.Unavailable, "node_id|does not answer"},
		"unknown volume":      {func(r *csi.ControllerPublishVolumeRequest) { r.VolumeId = "main:w" }, codes.NotFound, "volume_id|main:w"},
		"no context, unknown": {func(r *csi.ControllerPublishVolumeRequest) { r.VolumeId, r.VolumeContext = "main:w", nil }, codes.NotFound, "volume_id"},
		"pool that is away":   {func(r *csi.ControllerPublishVolumeRequest) { r.VolumeId = "other:v" }, codes.Unavailable, "configure its pool"},
		"many nodes":          {func(r *csi.ControllerPublishVolumeRequest) { r.VolumeCapability = capability(writers) }, codes.InvalidArgument, "protocol: nfs|volumeMode: Block"},
		"nfs on a device":     {func(r *csi.ControllerPublishVolumeRequest) { r.VolumeCapability.GetMount().FsType = "nfs" }, codes.InvalidArgument, "ext4"},
	} {
		t.Run(name, func(t *testing.T) {
			r := publish(v, "node-1", mountOnce())
			c.change(r)
			_, err := b.ControllerPublishVolume(t.Context(), r)
			wantCode(t, err, c.code, strings.Split(c.words, "|")...)
			want(t, len(b.fakes["main"].Attached("v")), 0)
		})
	}
}

// TestPublishReadOnly is kept by the storage, if it can, and by the node at any rate.
func TestPublishReadOnly(t *testing.T) {
	b := attaching(t)
	v := b.made(t, "v", nil, mountOnce())
	r := publish(v, "node-1", mountOnce())
	r.Readonly = true
	p, err := b.ControllerPublishVolume(t.Context(), r)
	wantOK(t, err)
	r.Readonly = false
	_, err = b.ControllerPublishVolume(t.Context(), r)
	wantCode(t, err, codes.AlreadyExists, "node-1")
	_, err = b.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: v.GetVolumeId(), StagingTargetPath: "/s", VolumeCapability: mountOnce(), VolumeContext: v.GetVolumeContext(), PublishContext: p.GetPublishContext(),
	})
	wantOK(t, err)
	_, err = b.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: v.GetVolumeId(), StagingTargetPath: "/s", TargetPath: "/t", VolumeCapability: mountOnce(), PublishContext: p.GetPublishContext(),
	})
	wantOK(t, err)
	if !b.machine.staged["main:v"].ReadOnly || !b.machine.targets["main:v"].ReadOnly {
		t.Errorf("staged %+v, published %+v", b.machine.staged, b.machine.targets)
	}
}

// TestUnpublish: it must never seem that a node is out when it is not, and never hang on what is gone.
func TestUnpublish(t *testing.T) {
	b := attaching(t)
	f := b.fakes["main"]
	v := b.made(t, "v", folder(), anyFS(writers))
	unpublish := func(volume, node string) error {
		_, err := b.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: volume, NodeId: node})
		return err
	}
	for _, n := range []string{"node-1", "node-2", "node-3"} {
		_, err := b.ControllerPublishVolume(t.Context(), publish(v, n, anyFS(writers)))
		wantOK(t, err)
	}
	wantOK(t, unpublish("main:v", "node-2"))
	wantOK(t, unpublish("main:v", "a-node-that-is-gone"))
	want(t, f.Attached("v"), []string{"node-1", "node-3"})
	wantOK(t, unpublish("main:v", ""))
	want(t, len(f.Attached("v")), 0)
	wantOK(t, unpublish("main:never-existed", "node-1"))
	wantOK(t, unpublish("what another driver made", "node-1"))
	wantCode(t, unpublish("other:v", "node-1"), codes.Unavailable, "configure its pool")
	f.Arm(func(e *fake.Errors) { e.Down = errs.E(errs.Unavailable, "no answer") })
	wantCode(t, unpublish("main:v", "node-1"), codes.Unavailable, "main:v", "no answer")
}

func sealed() map[string]string { return map[string]string{"encryption": "luks2"} }

// TestWhoMayShare: how many nodes may use a volume follows from what it is, in every call that asks.
func TestWhoMayShare(t *testing.T) {
	for name, c := range map[string]struct {
		bound      bool
		parameters map[string]string
		use        *csi.VolumeCapability
		refusal    string // "": fine
	}{
		"folder, written":         {false, folder(), anyFS(writers), ""},
		"folder, read":            {false, folder(), anyFS(readers), ""},
		"folder, one writer":      {false, folder(), anyFS(csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER), ""},
		"folder, block":           {false, folder(), block(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER), "volumeMode: Filesystem"},
		"folder, ext4":            {false, folder(), capability(writers), "nfs"},
		"device, block, written":  {false, nil, block(writers), ""},
		"sealed, block, written":  {false, sealed(), block(writers), "one node at a time"},
		"sealed, block, read":     {false, sealed(), block(readers), "one node at a time"},
		"sealed, file system":     {false, sealed(), capability(writers), "protocol: nfs"},
		"sealed, block, once":     {false, sealed(), block(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER), ""},
		"device, file system":     {false, nil, capability(writers), "protocol: nfs"},
		"device, read":            {false, nil, capability(readers), "protocol: nfs"},
		"device, once":            {false, nil, mountOnce(), ""},
		"on a node, file system":  {true, nil, capability(writers), "one node at a time"},
		"on a node, block":        {true, nil, block(writers), "one node at a time"},
		"on a node, block, once":  {true, nil, block(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER), ""},
		"on a node, only readers": {true, nil, capability(readers), "one node at a time"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, member{name: "main", bound: c.bound, out: !c.bound})
			judge := func(err error) {
				t.Helper()
				if c.refusal == "" {
					wantOK(t, err)
					return
				}
				wantCode(t, err, codes.InvalidArgument, c.refusal)
			}
			r := createRequest("asked")
			r.Parameters, r.VolumeCapabilities = c.parameters, []*csi.VolumeCapability{c.use}
			_, err := b.CreateVolume(t.Context(), r)
			judge(err)
			fine := anyFS(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)
			v := b.made(t, "v", c.parameters, fine)
			_, err = b.ControllerPublishVolume(t.Context(), publish(v, "node-1", c.use))
			judge(err)
			_, err = b.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: "main:v", StagingTargetPath: "/s", VolumeCapability: c.use, VolumeContext: v.GetVolumeContext()})
			judge(err)
			answer, err := b.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{VolumeId: "main:v", VolumeCapabilities: []*csi.VolumeCapability{c.use}, VolumeContext: v.GetVolumeContext()})
			wantOK(t, err)
			if (answer.GetConfirmed() != nil) != (c.refusal == "") || !strings.Contains(answer.GetMessage(), c.refusal) {
				t.Errorf("validated: %v", answer)
			}
			room, err := b.GetCapacity(t.Context(), &csi.GetCapacityRequest{Parameters: c.parameters, VolumeCapabilities: []*csi.VolumeCapability{c.use}})
			wantOK(t, err)
			if (room.GetAvailableCapacity() > 0) != (c.refusal == "") {
				t.Errorf("room for it: %v", room)
			}
		})
	}
}

// TestNodeExpansion: what is no device has nothing to grow on a node.
func TestNodeExpansion(t *testing.T) {
	b := attaching(t)
	for name, parameters := range map[string]map[string]string{"device": nil, "folder": folder()} {
		v := b.made(t, name, parameters, anyFS(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER))
		got, err := b.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: v.GetVolumeId(), CapacityRange: &csi.CapacityRange{RequiredBytes: 128 * mib}})
		wantOK(t, err)
		want(t, got.GetNodeExpansionRequired(), name == "device")
	}
}

// TestPublishBlock: what is a block device is raw, unless the node encrypts it: that has to format it first.
func TestPublishBlock(t *testing.T) {
	b := attaching(t)
	device := block(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)
	for name, raw := range map[string]bool{"plain": true, "encrypted": false} {
		var class map[string]string
		if !raw {
			class = map[string]string{"encryption": "luks2", "csi.storage.k8s.io/node-stage-secret-name": "keys", "csi.storage.k8s.io/node-stage-secret-namespace": "dozo"}
		}
		v := b.made(t, name, class, device)
		p, err := b.ControllerPublishVolume(t.Context(), publish(v, "node-1", device))
		wantOK(t, err)
		a, err := accessOf(Handle{Pool: "main", ID: backend.ID(name)}, p.GetPublishContext(), v.GetVolumeContext())
		wantOK(t, err)
		if a.ISCSI.Raw != raw || (a.Encryption == nil) != raw {
			t.Errorf("%s: raw %v, encryption %v", name, a.ISCSI.Raw, a.Encryption)
		}
	}
}

// TestAttachedAccess: what the PersistentVolume alone knows is not lost on the way through the attacher.
func TestAttachedAccess(t *testing.T) {
	h := Handle{Pool: "p", ID: "v"}
	wwid, other := "3"+strings.Repeat("6", 32), "3"+strings.Repeat("7", 32)
	target := &backend.ISCSITarget{IQN: "iqn.2000-01.com.example:x", Portals: []string{"192.0.2.1:3260"}}
	context := func(a backend.Access) map[string]string {
		c, err := VolumeContext(backend.Volume{ID: "v", Access: a}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	kept := backend.ISCSIAccess(wwid, nil).Encrypted(backend.Encryption{Type: backend.LUKS2, Discard: true})
	a, err := accessOf(h, context(backend.ISCSIAccess(wwid, target)), context(kept))
	wantOK(t, err)
	want(t, a, backend.ISCSIAccess(wwid, target).Encrypted(backend.Encryption{Type: backend.LUKS2, Discard: true}))
	_, err = accessOf(h, context(backend.ISCSIAccess(other, target)), context(kept))
	wantKind(t, err, errs.Invalid, "something else")
	_, err = accessOf(h, context(backend.MountAccess(backend.Mount{Type: backend.NFS, Source: "nas:/v"})), context(kept))
	wantKind(t, err, errs.Invalid, "something else")
	_, err = accessOf(h, context(backend.ISCSIAccess(wwid, target)), map[string]string{contextAccess: "{"})
	wantKind(t, err, errs.Invalid, "volume_context")
	a, err = accessOf(h, context(backend.ISCSIAccess(wwid, target)), nil)
	wantOK(t, err)
	want(t, a, backend.ISCSIAccess(wwid, target))
}
