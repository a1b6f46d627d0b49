package driver

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

const mib = 1 << 20

// clients are those of one driver.
type clients struct {
	csi.ControllerClient
	csi.NodeClient
	dir string
}

func dial(conn *grpc.ClientConn, dir string) clients {
	return clients{csi.NewControllerClient(conn), csi.NewNodeClient(conn), dir}
}

func capability() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}},
	}
}

// createRequest is a good one; edit makes it bad.
func createRequest(edit func(*csi.CreateVolumeRequest)) *csi.CreateVolumeRequest {
	r := &csi.CreateVolumeRequest{
		Name: "v", CapacityRange: &csi.CapacityRange{RequiredBytes: 16 * mib},
		VolumeCapabilities: []*csi.VolumeCapability{capability()}, Parameters: map[string]string{},
	}
	edit(r)
	return r
}

// badCreates are requests for volumes that cannot be.
func badCreates() map[string]struct {
	edit func(*csi.CreateVolumeRequest)
	code codes.Code
	says string
} {
	type bad = struct {
		edit func(*csi.CreateVolumeRequest)
		code codes.Code
		says string
	}
	return map[string]bad{
		"unknown parameter": {func(r *csi.CreateVolumeRequest) { r.Parameters["colour"] = "red" }, codes.InvalidArgument, "colour"},
		"wrong parameter":   {func(r *csi.CreateVolumeRequest) { r.Parameters["allocation"] = "half" }, codes.InvalidArgument, "allocation"},
		"unknown pool":      {func(r *csi.CreateVolumeRequest) { r.Parameters["pool"] = "gold" }, codes.InvalidArgument, "images"},
		"negative size":     {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = -1 }, codes.OutOfRange, "required_bytes"},
		"negative limit":    {func(r *csi.CreateVolumeRequest) { r.CapacityRange.LimitBytes = -1 }, codes.OutOfRange, "limit_bytes"},
		"huge size":         {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = math.MaxInt64 }, codes.OutOfRange, "required_bytes"},
		"limit below size":  {func(r *csi.CreateVolumeRequest) { r.CapacityRange.LimitBytes = mib }, codes.OutOfRange, "limit_bytes"},
		"no space":          {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 1 << 30 }, codes.ResourceExhausted, "can still be given"},
		"long name":         {func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("n", 300) }, codes.InvalidArgument, "name"},
		"control character": {func(r *csi.CreateVolumeRequest) { r.Name = "a\x00b" }, codes.InvalidArgument, "name"},
		"no name":           {func(r *csi.CreateVolumeRequest) { r.Name = "" }, codes.InvalidArgument, "name"},
		"no capability":     {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = nil }, codes.InvalidArgument, "volume_capabilities"},
		"unknown file system": {func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0].GetMount().FsType = "../../bin/sh"
		}, codes.InvalidArgument, "fs_type"},
		"many writers": {func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0].AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		}, codes.InvalidArgument, "access_mode"},
		"another node": {func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{
				{Segments: map[string]string{"topology.dozo.dev/node": "n2"}}}}
		}, codes.ResourceExhausted, "accessibility_requirements"},
		"source with ..": {func(r *csi.CreateVolumeRequest) {
			r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
				Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: "images:../../etc/passwd"}}}
		}, codes.NotFound, "snapshot_id"},
	}
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	d := Start(t, dir, hosttest.FileSystem(t, "ext4", 256*mib))
	c := dial(d.Dial(t), dir)
	tried := 0
	for name, bad := range badCreates() {
		t.Run(name, func(t *testing.T) {
			_, err := c.CreateVolume(t.Context(), createRequest(bad.edit))
			expect(t, err, bad.code, bad.says)
			d.NothingLeft(t)
		})
		tried++
	}
	for name, bad := range badHandles(c) {
		t.Run(name, func(t *testing.T) {
			expect(t, bad.call(t.Context()), bad.code, bad.says)
			d.NothingLeft(t)
		})
		tried++
	}
	tried += badTargets(t, c)
	d.NothingLeft(t)
	fmt.Printf("bad input: %d requests refused, each naming the field, with its code, leaving nothing\n", tried)
}

// badHandles are calls on volumes that cannot be.
func badHandles(c clients) map[string]struct {
	call func(context.Context) error
	code codes.Code
	says string
} {
	type bad = struct {
		call func(context.Context) error
		code codes.Code
		says string
	}
	const climbing = "images:../../../../etc"
	return map[string]bad{
		"expand ..": {func(ctx context.Context) error {
			_, err := c.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: climbing, CapacityRange: &csi.CapacityRange{RequiredBytes: mib}})
			return err
		}, codes.NotFound, "volume_id"},
		"stage ..": {func(ctx context.Context) error {
			_, err := c.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: climbing, StagingTargetPath: c.dir, VolumeCapability: capability()})
			return err
		}, codes.NotFound, "volume_id"},
		"snapshot of ..": {func(ctx context.Context) error {
			_, err := c.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{SourceVolumeId: climbing, Name: "s"})
			return err
		}, codes.NotFound, "source_volume_id"},
		"delete in a pool that is not configured": {func(ctx context.Context) error {
			_, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: "gone:v"})
			return err
		}, codes.Unavailable, "gone"},
	}
}

// badTargets tries paths that a pod could have prepared, with a real volume.
func badTargets(t *testing.T, c clients) (tried int) {
	ctx := t.Context()
	v, err := c.CreateVolume(ctx, createRequest(func(*csi.CreateVolumeRequest) {}))
	if err != nil {
		t.Fatal(err)
	}
	id, staging, victim := v.Volume.VolumeId, filepath.Join(c.dir, "staging"), filepath.Join(c.dir, "victim")
	must(t, os.Mkdir(staging, 0o700), os.Mkdir(victim, 0o700))
	must(t, os.Symlink(victim, filepath.Join(c.dir, "link")))
	if _, err := c.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: filepath.Join(c.dir, "link"), VolumeCapability: capability(), VolumeContext: v.Volume.VolumeContext,
	}); err == nil {
		t.Error("a volume was staged through a symlink")
	} else {
		expect(t, err, codes.InvalidArgument, "staging_target_path")
	}
	if _, err := c.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: staging, VolumeCapability: capability(), VolumeContext: v.Volume.VolumeContext,
	}); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"link", "link/below", "../outside", "staging/inside/../../x"} {
		_, err := c.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: id, StagingTargetPath: staging, TargetPath: c.dir + "/" + target, VolumeCapability: capability(), VolumeContext: v.Volume.VolumeContext,
		})
		expect(t, err, codes.InvalidArgument, "target_path")
		tried++
	}
	if _, err := c.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: staging}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Error(err)
	}
	must(t, os.Remove(victim), os.Remove(staging), os.Remove(filepath.Join(c.dir, "link")))
	return tried + 1
}

func must(t *testing.T, all ...error) {
	t.Helper()
	for _, err := range all {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func expect(t *testing.T, err error, code codes.Code, says string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), says) {
		t.Errorf("got %v, want %v naming %q", err, code, says)
	}
}
