package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// group makes two volumes and a group of them.
func (b *bed) group(t *testing.T, name string) *csi.VolumeGroupSnapshot {
	t.Helper()
	main := map[string]string{"pool": "main"}
	g, err := b.CreateVolumeGroupSnapshot(t.Context(), &csi.CreateVolumeGroupSnapshotRequest{
		Name: name, SourceVolumeIds: []string{b.volumeIn(t, "v", main), b.volumeIn(t, "w", main)},
		Parameters: map[string]string{"csi.storage.k8s.io/volumegroupsnapshot/name": "x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g.GetGroupSnapshot()
}

func memberIDs(g *csi.VolumeGroupSnapshot) []string {
	var all []string
	for _, s := range g.GetSnapshots() {
		all = append(all, s.GetSnapshotId())
	}
	return all
}

func TestCreateVolumeGroupSnapshot(t *testing.T) {
	b := newBed(t, member{name: "main"}, member{name: "other"}, member{name: "shared", mask: fake.Shared})
	g := b.group(t, "g")
	wantProto(t, b.group(t, "g"), g)
	want(t, g.GetGroupSnapshotId(), "main:g")
	wantProto(t, g.GetCreationTime(), timestamppb.New(instant))
	want(t, g.GetReadyToUse(), true)
	want(t, len(g.GetSnapshots()), 2)
	for i, s := range g.GetSnapshots() {
		want(t, s.GetGroupSnapshotId(), "main:g")
		want(t, s.GetSourceVolumeId(), []string{"main:v", "main:w"}[i])
		if _, err := ParseHandle(s.GetSnapshotId()); err != nil {
			t.Error(err)
		}
		_, err := b.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: s.GetSnapshotId()})
		wantCode(t, err, codes.InvalidArgument, "group")
	}
	other := b.volumeIn(t, "o", map[string]string{"pool": "other"})
	shared := b.volumeIn(t, "o", map[string]string{"pool": "shared"})
	for _, c := range []struct {
		name  string
		r     *csi.CreateVolumeGroupSnapshotRequest
		code  codes.Code
		words []string
	}{
		{"no name", &csi.CreateVolumeGroupSnapshotRequest{}, codes.InvalidArgument, []string{"name: missing"}},
		{"no sources", &csi.CreateVolumeGroupSnapshotRequest{Name: "n"}, codes.InvalidArgument, []string{"source_volume_ids: missing"}},
		{"an empty source", &csi.CreateVolumeGroupSnapshotRequest{Name: "n", SourceVolumeIds: []string{""}}, codes.InvalidArgument, []string{"source_volume_ids"}},
		{"parameter", &csi.CreateVolumeGroupSnapshotRequest{Name: "n", SourceVolumeIds: []string{"main:v"}, Parameters: map[string]string{"x": ""}}, codes.InvalidArgument, []string{`parameters["x"]`}},
		{"two pools", &csi.CreateVolumeGroupSnapshotRequest{Name: "n", SourceVolumeIds: []string{"main:v", other}}, codes.FailedPrecondition, []string{"main", "other"}},
		{"cannot", &csi.CreateVolumeGroupSnapshotRequest{Name: "n", SourceVolumeIds: []string{shared}}, codes.InvalidArgument, []string{"group"}},
		{"absent", &csi.CreateVolumeGroupSnapshotRequest{Name: "n", SourceVolumeIds: []string{"main:v", "main:none"}}, codes.NotFound, nil},
		{"not ours", &csi.CreateVolumeGroupSnapshotRequest{Name: "n", SourceVolumeIds: []string{"fake-vol-id"}}, codes.NotFound, nil},
		{"other members", &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: []string{"main:v"}}, codes.AlreadyExists, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(b.leftovers())
			_, err := b.CreateVolumeGroupSnapshot(t.Context(), c.r)
			wantCode(t, err, c.code, c.words...)
			want(t, len(b.leftovers()), before)
		})
	}
}

func TestGetVolumeGroupSnapshot(t *testing.T) {
	b := newBed(t)
	g := b.group(t, "g")
	single := b.snapshot(t, "single", "main:v")
	ids := memberIDs(g)
	for _, c := range []struct {
		name, handle string
		ids          []string
		code         codes.Code
	}{
		{"whole", "main:g", ids, codes.OK},
		{"half", "main:g", ids[:1], codes.InvalidArgument},
		{"none listed", "main:g", nil, codes.InvalidArgument},
		{"one more", "main:g", append([]string{single}, ids...), codes.InvalidArgument},
		{"absent", "main:none", ids, codes.NotFound},
		{"not ours", "fake-vol-id", nil, codes.NotFound},
		{"no id", "", nil, codes.InvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := b.GetVolumeGroupSnapshot(t.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: c.handle, SnapshotIds: c.ids})
			wantCode(t, err, c.code)
			if c.code == codes.OK {
				wantProto(t, got.GetGroupSnapshot(), g)
			}
		})
	}
}

func TestDeleteVolumeGroupSnapshot(t *testing.T) {
	b := newBed(t)
	g := b.group(t, "g")
	single := b.snapshot(t, "single", "main:v")
	ids := memberIDs(g)
	remove := func(handle string, ids ...string) error {
		_, err := b.DeleteVolumeGroupSnapshot(t.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: handle, SnapshotIds: ids})
		return err
	}
	before := b.leftovers()
	for _, c := range []struct {
		name, handle string
		ids          []string
		code         codes.Code
	}{
		{"half", "main:g", ids[:1], codes.InvalidArgument},
		{"none listed", "main:g", nil, codes.InvalidArgument},
		{"one more", "main:g", append([]string{single}, ids...), codes.InvalidArgument},
		{"of another pool", "main:g", append([]string{"other:x"}, ids...), codes.InvalidArgument},
		{"not ours", "main:g", append([]string{"x"}, ids...), codes.InvalidArgument},
		{"another's snapshot", "main:none", []string{single}, codes.InvalidArgument},
		{"absent", "main:none", nil, codes.OK},
		{"unreadable", "fake-vol-id", nil, codes.OK},
		{"pool gone", "gone:g", ids, codes.Unavailable},
		{"no id", "", nil, codes.InvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantCode(t, remove(c.handle, c.ids...), c.code)
			want(t, b.leftovers(), before)
		})
	}
	b.fakes["main"].Arm(func(e *fake.Errors) { e.DeleteSnapshot.After = errs.E(errs.Unavailable, "cut short") })
	wantCode(t, remove("main:g", ids...), codes.Unavailable)
	for range 2 { // the same call goes on with what is left, and then finds nothing
		wantOK(t, remove("main:g", ids...))
	}
	want(t, b.leftovers(), []string{"main snapshot single", "main volume v", "main volume w"})
}
