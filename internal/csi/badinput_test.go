package csi

import (
	"math"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// bad is a request that is wrong in one place, and what to say of it.
type bad struct {
	name    string
	request proto.Message
	code    codes.Code
	words   []string
}

func badCreate(name string, code codes.Code, words string, change func(*csi.CreateVolumeRequest)) bad {
	r := createRequest("v")
	change(r)
	return bad{"create, " + name, r, code, strings.Split(words, "|")}
}

func parameter(key, value string) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{key: value} }
}

func size(required, limit int64) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) {
		r.CapacityRange = &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
	}
}

func badCreates() []bad {
	invalid, outOfRange := codes.InvalidArgument, codes.OutOfRange
	use := func(c ...*csi.VolumeCapability) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = c }
	}
	once := csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	return []bad{
		badCreate("no name", invalid, "name: missing", func(r *csi.CreateVolumeRequest) { r.Name = "" }),
		badCreate("long name", invalid, "name|300", func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("n", 300) }),
		badCreate("control character", invalid, "name|control", func(r *csi.CreateVolumeRequest) { r.Name = "a\x07b" }),
		badCreate("no capabilities", invalid, "volume_capabilities: missing", use()),
		badCreate("empty capability", invalid, "volume_capabilities[0].access_mode: missing", use(&csi.VolumeCapability{})),
		badCreate("no access type", invalid, "volume_capabilities[1].access_type: missing",
			use(mountOnce(), &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: once}})),
		badCreate("no access mode", invalid, "volume_capabilities[0].access_mode: missing",
			use(&csi.VolumeCapability{AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}})),
		badCreate("future access mode", invalid, "volume_capabilities[0].access_mode|77", use(capability(77))),
		badCreate("mount group", invalid, "volume_capabilities[0].mount.volume_mount_group", func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0].GetMount().VolumeMountGroup = "1000"
		}),
		badCreate("fs type", invalid, "volume_capabilities[0].mount.fs_type", func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0].GetMount().FsType = "ext4 /dev/sda"
		}),
		badCreate("unknown parameter", invalid, `parameters["colur"]|pool, mkfsOptions, colour`, parameter("colur", "red")),
		badCreate("wrong parameter", invalid, `parameters["colour"]|red or blue`, parameter("colour", "green")),
		badCreate("unknown pool", invalid, `parameters["pool"]|"x"|main`, parameter("pool", "x")),
		badCreate("pool traversal", invalid, `parameters["pool"]`, parameter("pool", "../main")),
		badCreate("mkfs device", invalid, `parameters["mkfsOptions"]|slash`, parameter("mkfsOptions", "-F /dev/sda")),
		badCreate("mkfs word", invalid, `parameters["mkfsOptions"]`, parameter("mkfsOptions", "sda")),
		badCreate("mkfs line break", invalid, `parameters["mkfsOptions"]`, parameter("mkfsOptions", "-m\n0")),
		badCreate("mkfs length", invalid, `parameters["mkfsOptions"]`, parameter("mkfsOptions", strings.Repeat("-F ", 500))),
		badCreate("mutable", invalid, "mutable_parameters", func(r *csi.CreateVolumeRequest) { r.MutableParameters = map[string]string{"iops": "1"} }),
		badCreate("negative size", outOfRange, "capacity_range.required_bytes|-1", size(-1, 0)),
		badCreate("negative limit", outOfRange, "capacity_range.limit_bytes", size(0, -1)),
		badCreate("limit below", outOfRange, "capacity_range.limit_bytes", size(2*mib, mib)),
		badCreate("huge size", outOfRange, "capacity_range.required_bytes", size(math.MaxInt64, 0)),
		badCreate("huge size and limit", outOfRange, "capacity_range.required_bytes", size(math.MaxInt64, math.MaxInt64)),
		badCreate("tiny limit", outOfRange, "capacity_range.limit_bytes", size(0, 1)),
		badCreate("more than there is", codes.ResourceExhausted, "main", size(1<<40, 0)),
	}
}

func badOthers() []bad {
	invalid, notFound := codes.InvalidArgument, codes.NotFound
	long := strings.Repeat("x", 300)
	return []bad{
		{"delete, nothing", &csi.DeleteVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"get, traversal", &csi.ControllerGetVolumeRequest{VolumeId: "main:../../v"}, notFound, []string{"volume_id"}},
		{"get, long", &csi.ControllerGetVolumeRequest{VolumeId: "main:" + long}, notFound, []string{"volume_id"}},
		{"expand, nothing", &csi.ControllerExpandVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"validate, nothing", &csi.ValidateVolumeCapabilitiesRequest{}, invalid, []string{"volume_id: missing"}},
		{"list, negative", &csi.ListVolumesRequest{MaxEntries: -1}, invalid, []string{"max_entries"}},
		{"list, token", &csi.ListVolumesRequest{StartingToken: long}, codes.Aborted, []string{"starting_token"}},
		{"health list, negative", &csi.ControllerListVolumeHealthRequest{MaxEntries: -1}, invalid, []string{"max_entries"}},
		{"health, nothing", &csi.ControllerGetVolumeHealthRequest{}, invalid, []string{"volume_id: missing"}},
		{"snapshot, nothing", &csi.CreateSnapshotRequest{}, invalid, []string{"name: missing"}},
		{"snapshot, traversal", &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "main:..%2f"}, notFound, []string{"source_volume_id"}},
		{"snapshot, topology", &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: "main:here", AccessibilityRequirements: &csi.TopologyRequirement{}}, invalid, []string{"accessibility_requirements"}},
		{"snapshot, long name", &csi.CreateSnapshotRequest{Name: long, SourceVolumeId: "main:here"}, invalid, []string{"name", "300"}},
		{"delete snapshot, nothing", &csi.DeleteSnapshotRequest{}, invalid, []string{"snapshot_id: missing"}},
		{"get snapshot, nothing", &csi.GetSnapshotRequest{}, invalid, []string{"snapshot_id: missing"}},
		{"group, nothing", &csi.CreateVolumeGroupSnapshotRequest{}, invalid, []string{"name: missing"}},
		{"group, long name", &csi.CreateVolumeGroupSnapshotRequest{Name: long, SourceVolumeIds: []string{"main:here"}}, invalid, []string{"name", "300"}},
		{"group, traversal", &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: []string{"main:here", "main:../x"}}, notFound, []string{"source_volume_ids"}},
		{"delete group, nothing", &csi.DeleteVolumeGroupSnapshotRequest{}, invalid, []string{"group_snapshot_id: missing"}},
		{"get group, nothing", &csi.GetVolumeGroupSnapshotRequest{}, invalid, []string{"group_snapshot_id: missing"}},
		{"stage, nothing", &csi.NodeStageVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"attach, nothing", &csi.ControllerPublishVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"attach, no node", &csi.ControllerPublishVolumeRequest{VolumeId: "main:here", VolumeCapability: mountOnce()}, invalid, []string{"node_id: missing"}},
		{"attach, no capability", &csi.ControllerPublishVolumeRequest{VolumeId: "main:here", NodeId: "node-1"}, invalid, []string{"volume_capability: missing"}},
		{"attach, traversal", &csi.ControllerPublishVolumeRequest{VolumeId: "main:../x", NodeId: "node-1", VolumeCapability: mountOnce()}, notFound, []string{"volume_id"}},
		{"attach, long node", &csi.ControllerPublishVolumeRequest{VolumeId: "main:here", NodeId: long, VolumeCapability: mountOnce()}, notFound, []string{"node_id"}},
		{"attach, wrong context", &csi.ControllerPublishVolumeRequest{VolumeId: "main:here", NodeId: "node-1", VolumeCapability: mountOnce(),
			VolumeContext: map[string]string{contextAccess: "{"}}, invalid, []string{"volume_context"}},
		{"detach, nothing", &csi.ControllerUnpublishVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"unstage, nothing", &csi.NodeUnstageVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"publish, nothing", &csi.NodePublishVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"unpublish, nothing", &csi.NodeUnpublishVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"stats, nothing", &csi.NodeGetVolumeStatsRequest{}, invalid, []string{"volume_id: missing"}},
		{"node expand, nothing", &csi.NodeExpandVolumeRequest{}, invalid, []string{"volume_id: missing"}},
		{"node health, nothing", &csi.NodeGetVolumeHealthRequest{}, invalid, []string{"volume_id: missing"}},
		{"capacity, topology", &csi.GetCapacityRequest{AccessibleTopology: &csi.Topology{}}, invalid, []string{"accessible_topology"}},
	}
}

// TestBadInput sends what is wrong: the code is the right one, the message names the field, and
// nothing is made, staged or removed.
func TestBadInput(t *testing.T) {
	b := newBed(t)
	b.volume(t, "here")
	before := b.leftovers()
	for _, c := range append(badCreates(), badOthers()...) {
		t.Run(c.name, func(t *testing.T) {
			_, err := call(t, b.conn, methodFor(t, c.request), c.request)
			wantCode(t, err, c.code, c.words...)
			want(t, b.leftovers(), before)
			want(t, []int{len(b.machine.staged), len(b.machine.targets), len(b.machine.undone)}, []int{0, 0, 0})
		})
	}
}

// TestEveryCallSurvivesNothing sends every call an empty request: none panics, and whatever has a
// required field says so.
func TestEveryCallSurvivesNothing(t *testing.T) {
	b := newBed(t)
	for method := range methods() {
		_, _ = call(t, b.conn, method, nil)
	}
	if log := b.log.String(); strings.Contains(log, "panicked") {
		t.Errorf("a call with an empty request panicked:\n%s", log)
	}
}
