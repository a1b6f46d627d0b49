package synology

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/test/driver"
)

// Cluster plays the sidecars and the kubelets over drivers. Its methods end the test if they fail, unless they return an error.
type Cluster struct {
	Secret map[string]string // what nodes are given; at first [NodeSecret]

	t          testing.TB
	controller grpc.ClientConnInterface
	nodes      map[string]kubelet
}

type kubelet struct {
	csi.NodeClient
	dir string
}

// NewCluster is of a controller, and nodes by their names.
func NewCluster(t testing.TB, controller driver.Driver, nodes map[string]driver.Driver) *Cluster {
	t.Helper()
	c := &Cluster{Secret: NodeSecret(), t: t, controller: controller.Dial(t), nodes: map[string]kubelet{}}
	for name, d := range nodes {
		c.nodes[name] = kubelet{csi.NewNodeClient(d.Dial(t)), d.Dir}
	}
	return c
}

// Cluster starts the controller and both nodes.
func (b *Bed) Cluster() *Cluster {
	b.t.Helper()
	return NewCluster(b.t, b.Controller(), map[string]driver.Driver{Node1: b.Node(Node1), Node2: b.Node(Node2)})
}

func (c *Cluster) ctx() context.Context { return context.WithoutCancel(c.t.Context()) }

// SetController has another controller answer from now on.
func (c *Cluster) SetController(controller driver.Driver) {
	c.t.Helper()
	c.controller = controller.Dial(c.t)
}

// Controller returns a client of the controller.
func (c *Cluster) Controller() csi.ControllerClient { return csi.NewControllerClient(c.controller) }

// Node returns a client of a node.
func (c *Cluster) Node(name string) csi.NodeClient { return c.nodes[name].NodeClient }

// Claim says what volume is wanted.
type Claim struct {
	Name       string
	Size       int64
	FS         string // "block": as it is; "nfs", "cifs": a share, for many nodes
	ReadOnly   bool
	Parameters map[string]string
	Source     *csi.VolumeContentSource
}

// capability is the one way in which a volume is used.
func (c Claim) capability() *csi.VolumeCapability {
	v := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	mount := &csi.VolumeCapability_MountVolume{FsType: c.FS}
	v.AccessType = &csi.VolumeCapability_Mount{Mount: mount}
	switch {
	case c.FS == "block":
		v.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	case c.FS == "nfs", c.FS == "cifs":
		mount.FsType, v.AccessMode.Mode = "", csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	}
	return v
}

// Volume is a volume and how it is used.
type Volume struct {
	*csi.Volume
	Claim Claim

	c       *Cluster
	publish map[string]map[string]string // publish contexts by node
}

func (c *Cluster) ok(what string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

// TryCreate makes a volume.
func (c *Cluster) TryCreate(claim Claim) (*Volume, error) {
	r, err := c.Controller().CreateVolume(c.ctx(), &csi.CreateVolumeRequest{
		Name: claim.Name, CapacityRange: &csi.CapacityRange{RequiredBytes: claim.Size}, Parameters: claim.Parameters,
		VolumeCapabilities: []*csi.VolumeCapability{claim.capability()}, VolumeContentSource: claim.Source,
	})
	return &Volume{Volume: r.GetVolume(), Claim: claim, c: c, publish: map[string]map[string]string{}}, err
}

// Create makes a volume.
func (c *Cluster) Create(claim Claim) *Volume {
	c.t.Helper()
	v, err := c.TryCreate(claim)
	c.ok("create "+claim.Name, err)
	return v
}

// Snapshot takes one.
func (v *Volume) Snapshot(name string) *csi.Snapshot {
	v.c.t.Helper()
	r, err := v.c.Controller().CreateSnapshot(v.c.ctx(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: v.VolumeId})
	v.c.ok("snapshot "+name, err)
	return r.Snapshot
}

// DeleteSnapshot deletes one.
func (c *Cluster) DeleteSnapshot(s *csi.Snapshot) {
	c.t.Helper()
	_, err := c.Controller().DeleteSnapshot(c.ctx(), &csi.DeleteSnapshotRequest{SnapshotId: s.SnapshotId})
	c.ok("delete snapshot", err)
}

// FromSnapshot is a claim's source.
func FromSnapshot(s *csi.Snapshot) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.SnapshotId}}}
}

// FromVolume is a claim's source.
func FromVolume(v *Volume) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v.VolumeId}}}
}

// TryAttach has the controller admit a node.
func (v *Volume) TryAttach(node string) error {
	r, err := v.c.Controller().ControllerPublishVolume(v.c.ctx(), &csi.ControllerPublishVolumeRequest{
		VolumeId: v.VolumeId, NodeId: node, VolumeCapability: v.Claim.capability(), VolumeContext: v.VolumeContext, Readonly: v.Claim.ReadOnly,
	})
	if err == nil {
		v.publish[node] = r.PublishContext
	}
	return err
}

// PublishContext is what the controller said of how a node reaches a volume.
func (v *Volume) PublishContext(node string) map[string]string { return v.publish[node] }

// TryDetach has the controller shut a node out.
func (v *Volume) TryDetach(node string) error {
	_, err := v.c.Controller().ControllerUnpublishVolume(v.c.ctx(), &csi.ControllerUnpublishVolumeRequest{VolumeId: v.VolumeId, NodeId: node})
	return err
}

// Staging is where a volume is staged on a node.
func (v *Volume) Staging(node string) string { return v.path(node, "staging") }

// Target is where a pod of a node sees a volume.
func (v *Volume) Target(node, pod string) string { return v.path(node, "pod-"+pod) }

func (v *Volume) path(node, what string) string {
	return filepath.Join(v.c.nodes[node].dir, what+"-"+v.Claim.Name)
}

// TryStage makes an attached volume ready on a node.
func (v *Volume) TryStage(node string) error {
	if err := os.Mkdir(v.Staging(node), 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // as the kubelet does
		return err
	}
	_, err := v.c.Node(node).NodeStageVolume(v.c.ctx(), &csi.NodeStageVolumeRequest{
		VolumeId: v.VolumeId, StagingTargetPath: v.Staging(node), VolumeCapability: v.Claim.capability(),
		VolumeContext: v.VolumeContext, PublishContext: v.publish[node], Secrets: v.c.Secret,
	})
	return err
}

// TryPublish gives a staged volume to a pod.
func (v *Volume) TryPublish(node, pod string) error {
	_, err := v.c.Node(node).NodePublishVolume(v.c.ctx(), &csi.NodePublishVolumeRequest{
		VolumeId: v.VolumeId, StagingTargetPath: v.Staging(node), TargetPath: v.Target(node, pod), VolumeCapability: v.Claim.capability(),
		VolumeContext: v.VolumeContext, PublishContext: v.publish[node], Readonly: v.Claim.ReadOnly,
	})
	return err
}

// Use attaches a volume to a node, and stages and publishes it. It returns where the pod sees it.
func (v *Volume) Use(node, pod string) string {
	v.c.t.Helper()
	v.c.ok("attach "+v.VolumeId+" to "+node, v.TryAttach(node))
	v.c.ok("stage "+v.VolumeId+" on "+node, v.TryStage(node))
	v.c.ok("publish "+v.VolumeId+" on "+node, v.TryPublish(node, pod))
	return v.Target(node, pod)
}

// TryUnpublish takes a volume from a pod.
func (v *Volume) TryUnpublish(node, pod string) error {
	_, err := v.c.Node(node).NodeUnpublishVolume(v.c.ctx(), &csi.NodeUnpublishVolumeRequest{VolumeId: v.VolumeId, TargetPath: v.Target(node, pod)})
	return err
}

// TryUnstage undoes TryStage.
func (v *Volume) TryUnstage(node string) error {
	return v.TryUnstageWithin(v.c.ctx(), node)
}

// TryUnstageWithin is TryUnstage by a kubelet that waits as long as a context lasts.
func (v *Volume) TryUnstageWithin(ctx context.Context, node string) error {
	_, err := v.c.Node(node).NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.VolumeId, StagingTargetPath: v.Staging(node)})
	if err == nil {
		err = os.Remove(v.Staging(node)) // the kubelet's
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return err
}

// Leave undoes Use for these pods of a node.
func (v *Volume) Leave(node string, pods ...string) {
	v.c.t.Helper()
	for _, pod := range pods {
		v.c.ok("unpublish "+v.VolumeId+" on "+node, v.TryUnpublish(node, pod))
	}
	v.c.ok("unstage "+v.VolumeId+" on "+node, v.TryUnstage(node))
	v.c.ok("detach "+v.VolumeId+" from "+node, v.TryDetach(node))
}

// TryDelete deletes it.
func (v *Volume) TryDelete() error {
	_, err := v.c.Controller().DeleteVolume(v.c.ctx(), &csi.DeleteVolumeRequest{VolumeId: v.VolumeId})
	return err
}

// Delete deletes it.
func (v *Volume) Delete() {
	v.c.t.Helper()
	v.c.ok("delete "+v.VolumeId, v.TryDelete())
}

// TryGrow is the controller's part of an expansion. It returns whether the node has one too.
func (v *Volume) TryGrow(size int64) (node bool, err error) {
	r, err := v.c.Controller().ControllerExpandVolume(v.c.ctx(), &csi.ControllerExpandVolumeRequest{
		VolumeId: v.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: size}, VolumeCapability: v.Claim.capability(),
	})
	return r.GetNodeExpansionRequired(), err
}

// TryGrowOn is a node's part of an expansion. It returns the size in bytes that the device has by then.
func (v *Volume) TryGrowOn(node, pod string, size int64) (int64, error) {
	r, err := v.c.Node(node).NodeExpandVolume(v.c.ctx(), &csi.NodeExpandVolumeRequest{
		VolumeId: v.VolumeId, VolumePath: v.Target(node, pod), StagingTargetPath: v.Staging(node),
		CapacityRange: &csi.CapacityRange{RequiredBytes: size}, VolumeCapability: v.Claim.capability(),
	})
	return r.GetCapacityBytes(), err
}
