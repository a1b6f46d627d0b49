package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dozo-dev/dozo/internal/backend/fake"
)

func TestCreateSnapshot(t *testing.T) {
	b := newBed(t)
	v := b.volume(t, "v")
	w := b.volume(t, "w")
	r := &csi.CreateSnapshotRequest{
		Name: "s", SourceVolumeId: v, Parameters: map[string]string{"csi.storage.k8s.io/volumesnapshot/name": "x"},
		AccessibilityRequirements: &csi.TopologyRequirement{Requisite: onNode("node-1")},
	}
	wanted := &csi.Snapshot{
		SnapshotId: "main:s", SourceVolumeId: v, SizeBytes: 64 * mib, CreationTime: timestamppb.New(instant), ReadyToUse: true,
		AccessibleTopology: onNode("node-1"),
	}
	for range 2 {
		got, err := b.CreateSnapshot(t.Context(), r)
		wantOK(t, err)
		wantProto(t, got.GetSnapshot(), wanted)
	}
	read, err := b.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: "main:s"})
	wantOK(t, err)
	wantProto(t, read.GetSnapshot(), wanted)

	for _, c := range []struct {
		name  string
		r     *csi.CreateSnapshotRequest
		code  codes.Code
		words []string
	}{
		{"another volume", &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: w}, codes.AlreadyExists, []string{"s"}},
		{"no volume", &csi.CreateSnapshotRequest{Name: "n", SourceVolumeId: "main:none"}, codes.NotFound, []string{"none"}},
		{"not ours", &csi.CreateSnapshotRequest{Name: "n", SourceVolumeId: "testId"}, codes.NotFound, []string{"source_volume_id"}},
		{"pool gone", &csi.CreateSnapshotRequest{Name: "n", SourceVolumeId: "gone:v"}, codes.Unavailable, []string{"gone"}},
		{"no name", &csi.CreateSnapshotRequest{SourceVolumeId: "testId"}, codes.InvalidArgument, []string{"name: missing"}},
		{"no source", &csi.CreateSnapshotRequest{Name: "n"}, codes.InvalidArgument, []string{"source_volume_id: missing"}},
		{"parameter", &csi.CreateSnapshotRequest{Name: "n", SourceVolumeId: v, Parameters: map[string]string{"x": "y"}}, codes.InvalidArgument, []string{`parameters["x"]`}},
		{"elsewhere", &csi.CreateSnapshotRequest{Name: "n", SourceVolumeId: v, AccessibilityRequirements: &csi.TopologyRequirement{
			Requisite: onNode("node-2")}}, codes.ResourceExhausted, []string{"accessibility_requirements", "node-2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.CreateSnapshot(t.Context(), c.r)
			wantCode(t, err, c.code, c.words...)
		})
	}
	want(t, b.leftovers(), []string{"main snapshot s", "main volume v", "main volume w"})
}

func TestDeleteSnapshot(t *testing.T) {
	b := newBed(t, member{name: "main"}, member{name: "basic", mask: fake.Basic})
	s := b.snapshot(t, "s", b.volumeIn(t, "v", map[string]string{"pool": "main"}))
	for handle, code := range map[string]codes.Code{
		"": codes.InvalidArgument, "reallyfakesnapshotid": codes.OK, "main:..": codes.OK, "main:none": codes.OK,
		"gone:s": codes.Unavailable, "basic:s": codes.InvalidArgument,
	} {
		_, err := b.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: handle})
		wantCode(t, err, code)
	}
	want(t, b.leftovers(), []string{"main snapshot s", "main volume v"})
	for range 2 {
		_, err := b.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: s})
		wantOK(t, err)
	}
	for handle, code := range map[string]codes.Code{s: codes.NotFound, "": codes.InvalidArgument, "none-exist-id": codes.NotFound} {
		_, err := b.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: handle})
		wantCode(t, err, code, "snapshot_id")
	}
}

func TestListSnapshots(t *testing.T) {
	b := newBed(t, member{name: "a"}, member{name: "b"}, member{name: "basic", mask: fake.Basic})
	v := b.volumeIn(t, "v", map[string]string{"pool": "a"})
	w := b.volumeIn(t, "v", map[string]string{"pool": "b"})
	for _, s := range []string{"s1", "s2"} {
		b.snapshot(t, s, v)
	}
	b.snapshot(t, "s3", w)
	for _, c := range []struct {
		name string
		r    *csi.ListSnapshotsRequest
		want []string
		code codes.Code
	}{
		{"all", &csi.ListSnapshotsRequest{}, []string{"a:s1", "a:s2", "b:s3"}, codes.OK},
		{"of a volume", &csi.ListSnapshotsRequest{SourceVolumeId: v}, []string{"a:s1", "a:s2"}, codes.OK},
		{"of another", &csi.ListSnapshotsRequest{SourceVolumeId: w}, []string{"b:s3"}, codes.OK},
		{"one", &csi.ListSnapshotsRequest{SnapshotId: "a:s2"}, []string{"a:s2"}, codes.OK},
		{"one of its volume", &csi.ListSnapshotsRequest{SnapshotId: "a:s2", SourceVolumeId: v}, []string{"a:s2"}, codes.OK},
		{"one of another volume", &csi.ListSnapshotsRequest{SnapshotId: "a:s2", SourceVolumeId: w}, nil, codes.OK},
		{"absent", &csi.ListSnapshotsRequest{SnapshotId: "a:none"}, nil, codes.OK},
		{"not ours", &csi.ListSnapshotsRequest{SnapshotId: "none-exist-id"}, nil, codes.OK},
		{"of an absent volume", &csi.ListSnapshotsRequest{SourceVolumeId: "a:none"}, nil, codes.OK},
		{"of a volume not ours", &csi.ListSnapshotsRequest{SourceVolumeId: "fake-vol-id"}, nil, codes.OK},
		{"of a pool without", &csi.ListSnapshotsRequest{SourceVolumeId: "basic:v"}, nil, codes.OK},
		{"of a pool that is gone", &csi.ListSnapshotsRequest{SourceVolumeId: "gone:v"}, nil, codes.Unavailable},
		{"negative", &csi.ListSnapshotsRequest{MaxEntries: -1}, nil, codes.InvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := b.ListSnapshots(t.Context(), c.r)
			wantCode(t, err, c.code)
			var handles []string
			for _, e := range got.GetEntries() {
				handles = append(handles, e.GetSnapshot().GetSnapshotId())
			}
			want(t, handles, c.want)
		})
	}
	first, err := b.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{MaxEntries: 2})
	wantOK(t, err)
	rest, err := b.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{StartingToken: first.GetNextToken()})
	wantOK(t, err)
	want(t, []int{len(first.GetEntries()), len(rest.GetEntries())}, []int{2, 1})
}
