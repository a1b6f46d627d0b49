package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

func TestCreateVolume(t *testing.T) {
	b := newBed(t)
	r := createRequest("pvc-1")
	r.Parameters = map[string]string{
		"pool": "main", "mkfsOptions": " -m 0  -E lazy_itable_init=0", "colour": "blue",
		"csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/anything": "else",
	}
	r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: onNode("node-2", "node-1"), Preferred: onNode("node-1")}
	wanted := &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: "main:pvc-1", CapacityBytes: 64 * mib, AccessibleTopology: onNode("node-1"),
		VolumeContext: map[string]string{
			"dozo.dev/access":       `{"version":1,"local":{"pool":"main","id":"pvc-1"}}`,
			"dozo.dev/mkfs-options": "-m 0 -E lazy_itable_init=0",
		},
	}}
	for range 2 { // the same request finds the same volume
		got, err := b.CreateVolume(t.Context(), r)
		wantOK(t, err)
		wantProto(t, got, wanted)
	}
	want(t, b.leftovers(), []string{"main volume pvc-1"})

	larger := createRequest("pvc-1")
	larger.CapacityRange = &csi.CapacityRange{RequiredBytes: 128 * mib}
	_, err := b.CreateVolume(t.Context(), larger)
	wantCode(t, err, codes.AlreadyExists, "pvc-1")
}

func TestCreateVolumeAccessModes(t *testing.T) {
	b := newBed(t)
	for mode, name := range csi.VolumeCapability_AccessMode_Mode_name {
		mode := csi.VolumeCapability_AccessMode_Mode(mode)
		for _, c := range []*csi.VolumeCapability{capability(mode), block(mode)} {
			r := createRequest("v")
			r.VolumeCapabilities = []*csi.VolumeCapability{mountOnce(), c}
			_, err := b.CreateVolume(t.Context(), r)
			switch mode {
			case csi.VolumeCapability_AccessMode_UNKNOWN:
				wantCode(t, err, codes.InvalidArgument, "volume_capabilities[1].access_mode: missing")
			case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY, csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
				csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
				wantCode(t, err, codes.InvalidArgument, "volume_capabilities[1].access_mode", name, "ReadWriteOncePod")
			default:
				wantOK(t, err)
			}
		}
	}
}

func TestCreateVolumePools(t *testing.T) {
	b := newBed(t, member{name: "fast"}, member{name: "large"})
	want(t, b.volumeIn(t, "v", map[string]string{"pool": "large"}), "large:v")
	_, err := b.CreateVolume(t.Context(), createRequest("v2"))
	wantCode(t, err, codes.InvalidArgument, `parameters["pool"]: missing`, "fast, large")
	r := createRequest("v2")
	r.Parameters = map[string]string{"pool": "slow"}
	_, err = b.CreateVolume(t.Context(), r)
	wantCode(t, err, codes.InvalidArgument, `parameters["pool"]`, `"slow"`, "fast, large")
	want(t, b.leftovers(), []string{"large volume v"})
}

func TestCreateVolumeFromSource(t *testing.T) {
	b := newBed(t, member{name: "fast"}, member{name: "large"}, member{name: "basic", mask: fake.Basic})
	fast := map[string]string{"pool": "fast"}
	volume := b.volumeIn(t, "v", fast)
	snapshot := b.snapshot(t, "s", volume)
	ofSnapshot := func(s string) *csi.VolumeContentSource {
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s}}}
	}
	ofVolume := func(v string) *csi.VolumeContentSource {
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v}}}
	}
	for _, c := range []struct {
		name, pool string
		source     *csi.VolumeContentSource
		code       codes.Code
		words      []string
	}{
		{"snapshot", "fast", ofSnapshot(snapshot), codes.OK, nil},
		{"clone", "fast", ofVolume(volume), codes.OK, nil},
		{"snapshot-elsewhere", "large", ofSnapshot(snapshot), codes.InvalidArgument, []string{"snapshot_id", "fast:s", "pool large"}},
		{"clone-elsewhere", "large", ofVolume(volume), codes.InvalidArgument, []string{"volume_id", "within one pool"}},
		{"no-snapshot", "fast", ofSnapshot("fast:none"), codes.NotFound, []string{"none"}},
		{"no-volume", "fast", ofVolume("fast:none"), codes.NotFound, []string{"none"}},
		{"not-ours", "fast", ofSnapshot("non-existing-snapshot-id"), codes.NotFound, []string{"volume_content_source.snapshot.snapshot_id"}},
		{"traversal", "fast", ofVolume("fast:../v"), codes.NotFound, []string{"volume_content_source.volume.volume_id"}},
		{"pool-gone", "fast", ofVolume("gone:v"), codes.Unavailable, []string{"gone"}},
		{"empty", "fast", &csi.VolumeContentSource{}, codes.InvalidArgument, []string{"volume_content_source.type"}},
		{"no-id", "fast", ofVolume(""), codes.InvalidArgument, []string{"volume_content_source.volume.volume_id: missing"}},
		{"cannot-clone", "basic", ofVolume("basic:v"), codes.InvalidArgument, []string{"volume_content_source"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := createRequest("from-" + c.name)
			r.Parameters = map[string]string{"pool": c.pool}
			r.VolumeContentSource = c.source
			got, err := b.CreateVolume(t.Context(), r)
			wantCode(t, err, c.code, c.words...)
			if c.code == codes.OK {
				wantProto(t, got.GetVolume().GetContentSource(), c.source)
			}
		})
	}
}

func TestCreateVolumeTopology(t *testing.T) {
	b := newBed(t)
	zone := []*csi.Topology{{Segments: map[string]string{TopologyKey: "node-1", "zone": "z"}}}
	for _, c := range []struct {
		name  string
		req   *csi.TopologyRequirement
		code  codes.Code
		words []string
	}{
		{"preferred only", &csi.TopologyRequirement{Preferred: onNode("node-1")}, codes.OK, nil},
		{"requisite only", &csi.TopologyRequirement{Requisite: onNode("node-1", "node-1", "node-2")}, codes.OK, nil},
		{"elsewhere", &csi.TopologyRequirement{Requisite: onNode("node-2")}, codes.ResourceExhausted, []string{"accessibility_requirements", "node-2"}},
		{"unknown key", &csi.TopologyRequirement{Requisite: zone}, codes.InvalidArgument, []string{`accessibility_requirements.requisite[0].segments["zone"]`, TopologyKey}},
		{"no segment", &csi.TopologyRequirement{Preferred: []*csi.Topology{{}}}, codes.InvalidArgument, []string{"accessibility_requirements.preferred[0]"}},
		{"nothing", &csi.TopologyRequirement{}, codes.InvalidArgument, []string{"accessibility_requirements"}},
		{"preferred not requisite", &csi.TopologyRequirement{Requisite: onNode("node-1"), Preferred: onNode("node-2")}, codes.InvalidArgument, []string{"preferred"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := createRequest("v")
			r.AccessibilityRequirements = c.req
			_, err := b.CreateVolume(t.Context(), r)
			wantCode(t, err, c.code, c.words...)
		})
	}
}

func TestNodesInOrder(t *testing.T) {
	got, err := nodesOf("f", &csi.TopologyRequirement{Requisite: onNode("a", "b", "c", "d"), Preferred: onNode("c", "a", "c")})
	wantOK(t, err)
	want(t, got, []string{"c", "a", "b", "d"})
}

// TestErrorsComeThrough arms the storage with every kind that it can answer.
func TestErrorsComeThrough(t *testing.T) {
	for k := errs.Internal; k <= errs.Aborted; k++ {
		b := newBed(t)
		b.fakes["main"].Arm(func(e *fake.Errors) { e.Create.Before = errs.E(k, "armed") })
		code, _ := codeOf(k)
		_, err := b.CreateVolume(t.Context(), createRequest("v"))
		wantCode(t, err, code, "armed")
	}
}

func TestDeleteVolume(t *testing.T) {
	b := newBed(t)
	h := b.volume(t, "v")
	for _, c := range []struct {
		handle string
		code   codes.Code
		words  []string
	}{
		{"fake-vol-id", codes.OK, nil},
		{"main:../v", codes.OK, nil},
		{"main/v", codes.OK, nil},
		{"main:none", codes.OK, nil},
		{"gone:v", codes.Unavailable, []string{"volume_id", "gone", "main"}},
		{"", codes.InvalidArgument, []string{"volume_id: missing"}},
	} {
		_, err := b.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: c.handle})
		wantCode(t, err, c.code, c.words...)
	}
	want(t, b.leftovers(), []string{"main volume v"})

	d, err := b.fakes["main"].Open("v")
	wantOK(t, err)
	_, err = b.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: h})
	wantCode(t, err, codes.FailedPrecondition)
	wantOK(t, d.Close())
	for range 2 {
		_, err = b.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: h})
		wantOK(t, err)
	}
	want(t, b.leftovers(), nil)
}

func TestControllerGetVolume(t *testing.T) {
	b := newBed(t)
	h := b.volume(t, "v")
	got, err := b.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: h})
	wantOK(t, err)
	wantProto(t, got, &csi.ControllerGetVolumeResponse{
		Volume: &csi.Volume{VolumeId: h, CapacityBytes: 64 * mib, AccessibleTopology: onNode("node-1")},
		Status: &csi.ControllerGetVolumeResponse_VolumeStatus{},
	})
	for handle, code := range map[string]codes.Code{
		"": codes.InvalidArgument, "main:none": codes.NotFound, "fake-vol-id": codes.NotFound, "gone:v": codes.Unavailable,
	} {
		_, err := b.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: handle})
		wantCode(t, err, code, "volume_id")
	}
	b.fakes["main"].Arm(func(e *fake.Errors) { e.Down = errDown() })
	_, err = b.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: h})
	wantCode(t, err, codes.Unavailable, h)
}

func TestControllerExpandVolume(t *testing.T) {
	b := newBed(t, member{name: "main"}, member{name: "basic", mask: fake.Basic})
	h := b.volumeIn(t, "v", map[string]string{"pool": "main"})
	fixed := b.volumeIn(t, "fixed", map[string]string{"pool": "basic"})
	to := func(required, limit int64) *csi.CapacityRange {
		return &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
	}
	for _, c := range []struct {
		name, handle string
		size         *csi.CapacityRange
		use          *csi.VolumeCapability
		code         codes.Code
		words        []string
	}{
		{"grows", h, to(gib, 0), mountOnce(), codes.OK, nil},
		{"large enough", h, to(mib, 0), nil, codes.OK, nil},
		{"block", h, to(gib, gib), block(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER), codes.OK, nil},
		{"shrinks", h, to(0, mib), nil, codes.OutOfRange, []string{"limit_bytes", "never shrink"}},
		{"negative", h, to(-1, 0), nil, codes.OutOfRange, []string{"capacity_range.required_bytes"}},
		{"huge", h, to(1<<62, 0), nil, codes.OutOfRange, []string{"capacity_range.required_bytes"}},
		{"no range", h, nil, nil, codes.InvalidArgument, []string{"capacity_range: missing"}},
		{"empty range", h, to(0, 0), nil, codes.InvalidArgument, []string{"capacity_range"}},
		{"wrong use", h, to(gib, 0), &csi.VolumeCapability{}, codes.InvalidArgument, []string{"volume_capability.access_mode"}},
		{"absent", "main:none", to(gib, 0), nil, codes.NotFound, nil},
		{"not ours", "fake-vol-id", to(gib, 0), nil, codes.NotFound, []string{"volume_id"}},
		{"not this pool", fixed, to(gib, 0), nil, codes.InvalidArgument, []string{"cannot be expanded"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := b.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{
				VolumeId: c.handle, CapacityRange: c.size, VolumeCapability: c.use,
			})
			wantCode(t, err, c.code, c.words...)
			if c.code == codes.OK {
				wantProto(t, got, &csi.ControllerExpandVolumeResponse{CapacityBytes: gib, NodeExpansionRequired: true})
			}
		})
	}
}

func TestValidateVolumeCapabilities(t *testing.T) {
	b := newBed(t, member{name: "main"}, member{name: "other"})
	main := map[string]string{"pool": "main", "mkfsOptions": "-m 0"}
	made, err := b.CreateVolume(t.Context(), func() *csi.CreateVolumeRequest { r := createRequest("v"); r.Parameters = main; return r }())
	wantOK(t, err)
	good := func() *csi.ValidateVolumeCapabilitiesRequest {
		return &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: made.GetVolume().GetVolumeId(), VolumeContext: made.GetVolume().GetVolumeContext(), Parameters: main,
			VolumeCapabilities: []*csi.VolumeCapability{mountOnce(), block(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)},
		}
	}
	for _, c := range []struct {
		name    string
		change  func(*csi.ValidateVolumeCapabilitiesRequest)
		code    codes.Code
		message string // of an answer that confirms nothing
	}{
		{"good", func(*csi.ValidateVolumeCapabilitiesRequest) {}, codes.OK, ""},
		{"id alone", func(r *csi.ValidateVolumeCapabilitiesRequest) { r.VolumeContext, r.Parameters = nil, nil }, codes.OK, ""},
		{"many nodes", func(r *csi.ValidateVolumeCapabilitiesRequest) {
			r.VolumeCapabilities = []*csi.VolumeCapability{capability(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)}
		}, codes.OK, "volume_capabilities[0].access_mode"},
		{"another's context", func(r *csi.ValidateVolumeCapabilitiesRequest) {
			r.VolumeContext = map[string]string{contextAccess: `{"version":1,"local":{"pool":"main","id":"w"}}`}
		}, codes.OK, "volume_context"},
		{"another pool", func(r *csi.ValidateVolumeCapabilitiesRequest) { r.Parameters = map[string]string{"pool": "other"} }, codes.OK, `parameters["pool"]`},
		{"unknown parameter", func(r *csi.ValidateVolumeCapabilitiesRequest) {
			r.Parameters = map[string]string{"pool": "main", "x": "y"}
		}, codes.OK, `parameters["x"]`},
		{"mutable", func(r *csi.ValidateVolumeCapabilitiesRequest) { r.MutableParameters = map[string]string{"x": "y"} }, codes.OK, "mutable_parameters"},
		{"no id", func(r *csi.ValidateVolumeCapabilitiesRequest) { r.VolumeId = "" }, codes.InvalidArgument, ""},
		{"no capabilities", func(r *csi.ValidateVolumeCapabilitiesRequest) { r.VolumeCapabilities = nil }, codes.InvalidArgument, ""},
		{"absent", func(r *csi.ValidateVolumeCapabilitiesRequest) { r.VolumeId = "main:none" }, codes.NotFound, ""},
		{"not ours", func(r *csi.ValidateVolumeCapabilitiesRequest) { r.VolumeId = "fake-vol-id" }, codes.NotFound, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := good()
			c.change(r)
			got, err := b.ValidateVolumeCapabilities(t.Context(), r)
			wantCode(t, err, c.code)
			if c.code == codes.OK && c.message == "" {
				wantProto(t, got.GetConfirmed(), &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
					VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(), Parameters: r.GetParameters(),
				})
			}
			if c.message != "" {
				wantUnconfirmed(t, got, c.message)
			}
		})
	}
}

func TestWrongAccessIsNeverStored(t *testing.T) {
	_, err := VolumeContext(backend.Volume{ID: "v"}, nil)
	if !errs.Is(err, errs.Internal) {
		t.Errorf("a volume without access: %v, want errs.Internal", err)
	}
}
