package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/node"
)

const staging = "/var/lib/kubelet/plugins/s"

func goodContext() map[string]string {
	return map[string]string{
		contextAccess: `{"version":1,"local":{"pool":"main","id":"v"}}`, contextMkfsOptions: "-m 0",
		"storage.kubernetes.io/csiProvisionerIdentity": "x",
	}
}

func goodStage() *csi.NodeStageVolumeRequest {
	return &csi.NodeStageVolumeRequest{VolumeId: "main:v", StagingTargetPath: staging, VolumeCapability: mountOnce(), VolumeContext: goodContext()}
}

func TestNodeGetInfo(t *testing.T) {
	for _, bound := range []bool{true, false} {
		b := newBed(t, member{name: "a", bound: bound})
		wanted := &csi.NodeGetInfoResponse{NodeId: "node-1"}
		if bound {
			wanted.AccessibleTopology = &csi.Topology{Segments: map[string]string{"topology.dozo.dev/node": "node-1"}}
		}
		got, err := b.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
		wantOK(t, err)
		wantProto(t, got, wanted)
	}
}

func TestNodeStageVolume(t *testing.T) {
	base := node.StageRequest{
		Volume: "main:v", Access: backend.LocalAccess("main", "v"), Staging: staging, FSType: "ext4", MkfsOptions: []string{"-m", "0"},
	}
	for _, c := range []struct {
		name   string
		change func(*csi.NodeStageVolumeRequest)
		want   func(*node.StageRequest)
	}{
		{"mount", func(*csi.NodeStageVolumeRequest) {}, func(*node.StageRequest) {}},
		{"flags", func(r *csi.NodeStageVolumeRequest) {
			r.VolumeCapability.GetMount().MountFlags = []string{"noatime", "discard"}
		},
			func(w *node.StageRequest) { w.MountOptions = []string{"noatime", "discard"} }},
		{"block", func(r *csi.NodeStageVolumeRequest) {
			r.VolumeCapability = block(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)
		},
			func(w *node.StageRequest) { w.Block, w.FSType = true, "" }},
		{"read only", func(r *csi.NodeStageVolumeRequest) {
			r.VolumeCapability = capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY)
		}, func(w *node.StageRequest) { w.ReadOnly = true }},
		{"encrypted", func(r *csi.NodeStageVolumeRequest) {
			r.VolumeContext[contextAccess] = `{"version":2,"local":{"pool":"main","id":"v"},"encryption":{"type":"luks2","discard":true}}`
			r.Secrets = map[string]string{"passphrase": "p"}
		}, func(w *node.StageRequest) {
			w.Access = w.Access.Encrypted(backend.Encryption{Type: "luks2", Discard: true})
			w.Secrets = map[string]string{"passphrase": "p"}
		}},
		{"slashes", func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = staging + "//" }, func(*node.StageRequest) {}},
		{"publish context wins", func(r *csi.NodeStageVolumeRequest) {
			r.PublishContext = map[string]string{contextAccess: r.VolumeContext[contextAccess]}
			r.VolumeContext = nil
		}, func(w *node.StageRequest) { w.MkfsOptions = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			r, wanted := goodStage(), base
			c.change(r)
			c.want(&wanted)
			_, err := b.NodeStageVolume(t.Context(), r)
			wantOK(t, err)
			got := b.machine.staged["main:v"]
			if len(got.MkfsOptions) == 0 {
				got.MkfsOptions = nil
			}
			want(t, got, wanted)
		})
	}
}

func TestNodeStageVolumeRefuses(t *testing.T) {
	b := newBed(t)
	access := func(s string) func(*csi.NodeStageVolumeRequest) {
		return func(r *csi.NodeStageVolumeRequest) { r.VolumeContext = map[string]string{contextAccess: s} }
	}
	for _, c := range []struct {
		name   string
		change func(*csi.NodeStageVolumeRequest)
		code   codes.Code
		words  []string
	}{
		{"no id", func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "" }, codes.InvalidArgument, []string{"volume_id: missing"}},
		{"not ours", func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "fake-vol-id" }, codes.NotFound, []string{"volume_id"}},
		{"traversal", func(r *csi.NodeStageVolumeRequest) { r.VolumeId = "main:../v" }, codes.NotFound, []string{"volume_id"}},
		{"no path", func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "" }, codes.InvalidArgument, []string{"staging_target_path: missing"}},
		{"relative", func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "a/b" }, codes.InvalidArgument, []string{"staging_target_path"}},
		{"dots", func(r *csi.NodeStageVolumeRequest) { r.StagingTargetPath = "/a/../b" }, codes.InvalidArgument, []string{"staging_target_path"}},
		{"no capability", func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability = nil }, codes.InvalidArgument, []string{"volume_capability: missing"}},
		{"mount group", func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability.GetMount().VolumeMountGroup = "7" }, codes.InvalidArgument, []string{"volume_mount_group"}},
		{"fs type", func(r *csi.NodeStageVolumeRequest) { r.VolumeCapability.GetMount().FsType = "../sh" }, codes.InvalidArgument, []string{"fs_type"}},
		{"flags", func(r *csi.NodeStageVolumeRequest) {
			r.VolumeCapability.GetMount().MountFlags = []string{strings.Repeat("f", 5000)}
		}, codes.InvalidArgument, []string{"mount_flags", "5000"}},
		{"no access", func(r *csi.NodeStageVolumeRequest) { r.VolumeContext = nil }, codes.InvalidArgument, []string{"volume_context", contextAccess, "missing"}},
		{"not JSON", access("{"), codes.InvalidArgument, []string{contextAccess}},
		{"newer", access(`{"version":99,"local":{"pool":"main","id":"v"}}`), codes.InvalidArgument, []string{contextAccess, "99"}},
		{"no way", access(`{"version":1}`), codes.InvalidArgument, []string{contextAccess}},
		{"another volume", access(`{"version":1,"local":{"pool":"main","id":"w"}}`), codes.InvalidArgument, []string{contextAccess, "main:v"}},
		{"another pool", access(`{"version":1,"local":{"pool":"other","id":"v"}}`), codes.InvalidArgument, []string{contextAccess, "main:v"}},
		{"bad id", access(`{"version":1,"local":{"pool":"main","id":"../v"}}`), codes.InvalidArgument, []string{contextAccess}},
		{"mkfs path", func(r *csi.NodeStageVolumeRequest) { r.VolumeContext[contextMkfsOptions] = "-d /etc" }, codes.InvalidArgument, []string{contextMkfsOptions}},
		{"many nodes", func(r *csi.NodeStageVolumeRequest) {
			r.VolumeCapability = capability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)
		}, codes.InvalidArgument, []string{"volume_capability.access_mode"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := goodStage()
			c.change(r)
			_, err := b.NodeStageVolume(t.Context(), r)
			wantCode(t, err, c.code, c.words...)
			want(t, len(b.machine.staged), 0)
		})
	}
}

func TestNodePublishVolume(t *testing.T) {
	base := node.PublishRequest{Volume: "main:v", Staging: staging, Target: "/pods/t"}
	single := csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	for _, c := range []struct {
		name   string
		change func(*csi.NodePublishVolumeRequest)
		want   func(*node.PublishRequest)
		code   codes.Code
		words  []string
	}{
		{"mount", func(*csi.NodePublishVolumeRequest) {}, func(*node.PublishRequest) {}, codes.OK, nil},
		{"flags", func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.GetMount().MountFlags = []string{"ro"} },
			func(w *node.PublishRequest) { w.MountOptions = []string{"ro"} }, codes.OK, nil},
		{"read only", func(r *csi.NodePublishVolumeRequest) { r.Readonly = true }, func(w *node.PublishRequest) { w.ReadOnly = true }, codes.OK, nil},
		{"read only mode", func(r *csi.NodePublishVolumeRequest) {
			r.VolumeCapability = capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY)
		}, func(w *node.PublishRequest) { w.ReadOnly = true }, codes.OK, nil},
		{"one writer, block", func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = block(single) },
			func(w *node.PublishRequest) { w.Block, w.SingleWriter = true, true }, codes.OK, nil},
		{"no id", func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "" }, nil, codes.InvalidArgument, []string{"volume_id: missing"}},
		{"not ours", func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "x" }, nil, codes.NotFound, []string{"volume_id"}},
		{"no target", func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "" }, nil, codes.InvalidArgument, []string{"target_path: missing"}},
		{"dots", func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "/pods/../etc" }, nil, codes.InvalidArgument, []string{"target_path"}},
		{"no capability", func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability, r.StagingTargetPath = nil, "" }, nil, codes.InvalidArgument, []string{"volume_capability: missing"}},
		{"not staged", func(r *csi.NodePublishVolumeRequest) { r.StagingTargetPath = "" }, nil, codes.FailedPrecondition, []string{"staging_target_path"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			r := &csi.NodePublishVolumeRequest{VolumeId: "main:v", StagingTargetPath: staging, TargetPath: "/pods/t", VolumeCapability: mountOnce()}
			c.change(r)
			_, err := b.NodePublishVolume(t.Context(), r)
			wantCode(t, err, c.code, c.words...)
			if c.want == nil {
				want(t, len(b.machine.targets), 0)
				return
			}
			wanted := base
			c.want(&wanted)
			want(t, b.machine.targets["main:v"], wanted)
		})
	}
}

func TestNodeUndo(t *testing.T) {
	b := newBed(t)
	for _, c := range []struct {
		handle, path string
		code         codes.Code
	}{
		{"main:v", "/a//b/", codes.OK},
		{"fake-vol-id", "/a/b", codes.OK}, // nothing of ours: nothing is done
		{"main:../v", "/a/b", codes.OK},
		{"", "/a/b", codes.InvalidArgument},
		{"fake-vol-id", "", codes.InvalidArgument},
		{"main:v", "a", codes.InvalidArgument},
		{"main:v", "/a/..", codes.InvalidArgument},
	} {
		_, err := b.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: c.handle, StagingTargetPath: c.path})
		wantCode(t, err, c.code)
		_, err = b.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: c.handle, TargetPath: c.path})
		wantCode(t, err, c.code)
	}
	want(t, b.machine.undone, []string{"unstage main:v /a/b", "unpublish main:v /a/b"})
	b.machine.fail = errs.E(errs.InUse, "busy")
	_, err := b.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: "main:v", StagingTargetPath: "/a"})
	wantCode(t, err, codes.FailedPrecondition, "busy")
}

func TestNodeExpandVolume(t *testing.T) {
	b := newBed(t)
	_, err := b.NodeStageVolume(t.Context(), goodStage())
	wantOK(t, err)
	for _, c := range []struct {
		name, handle, path string
		size               *csi.CapacityRange
		code               codes.Code
	}{
		{"no range", "main:v", "/a", nil, codes.OK},
		{"range", "main:v", "/a", &csi.CapacityRange{RequiredBytes: gib}, codes.OK},
		{"too small still", "main:v", "/a", &csi.CapacityRange{RequiredBytes: gib + 1}, codes.OutOfRange},
		{"negative", "main:v", "/a", &csi.CapacityRange{RequiredBytes: -1}, codes.OutOfRange},
		{"no id", "", "/a", nil, codes.InvalidArgument},
		{"no path", "main:v", "", nil, codes.InvalidArgument},
		{"not ours", "fake-vol-id", "some/path", nil, codes.NotFound},
		{"no such path", "main:v", "some/path", nil, codes.NotFound},
		{"absent", "main:none", "/a", nil, codes.NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := b.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: c.handle, VolumePath: c.path, CapacityRange: c.size, VolumeCapability: mountOnce()})
			wantCode(t, err, c.code)
			if c.code == codes.OK {
				wantProto(t, got, &csi.NodeExpandVolumeResponse{CapacityBytes: gib})
			}
		})
	}
}

func TestNodeGetVolumeStats(t *testing.T) {
	b := newBed(t)
	_, err := b.NodeStageVolume(t.Context(), goodStage())
	wantOK(t, err)
	b.machine.stats = node.Stats{TotalBytes: 10, UsedBytes: 4, AvailableBytes: 5, TotalInodes: 7, UsedInodes: 1, AvailableInodes: 6}
	bytes := &csi.VolumeUsage{Unit: csi.VolumeUsage_BYTES, Total: 10, Used: 4, Available: 5}
	inodes := &csi.VolumeUsage{Unit: csi.VolumeUsage_INODES, Total: 7, Used: 1, Available: 6}
	got, err := b.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "main:v", VolumePath: "/a"})
	wantOK(t, err)
	wantProto(t, got, &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{bytes, inodes}})

	b.machine.stats = node.Stats{TotalBytes: 10, Block: true}
	got, err = b.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "main:v", VolumePath: "/a"})
	wantOK(t, err)
	wantProto(t, got, &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: 10}}})

	for _, c := range []struct {
		handle, path string
		code         codes.Code
	}{
		{"", "some/path", codes.InvalidArgument}, {"fake-vol-id", "", codes.InvalidArgument},
		{"fake-vol-id", "some/path", codes.NotFound}, {"main:v", "some/path", codes.NotFound}, {"main:none", "/a", codes.NotFound},
	} {
		_, err := b.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: c.handle, VolumePath: c.path})
		wantCode(t, err, c.code)
	}
}

func TestNodeGetVolumeHealth(t *testing.T) {
	b := newBed(t)
	_, err := b.NodeStageVolume(t.Context(), goodStage())
	wantOK(t, err)
	b.machine.problems = []backend.Problem{{Severity: backend.Inaccessible, Reason: "NotMounted", Message: "m"}}
	got, err := b.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: "main:v"})
	wantOK(t, err)
	wantProto(t, got.GetVolumeHealth(), &csi.VolumeHealth{VolumeId: "main:v", HealthStatuses: []*csi.VolumeHealth_VolumeHealthEntry{
		{Status: csi.VolumeHealthErrorType_INACCESSIBLE, Reason: "NotMounted", Message: "m"},
	}})
	for handle, code := range map[string]codes.Code{"": codes.InvalidArgument, "x": codes.NotFound, "main:none": codes.NotFound} {
		_, err := b.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: handle})
		wantCode(t, err, code)
	}
}
