package csi

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

func TestEverySeverityHasAStatus(t *testing.T) {
	seen := map[csi.VolumeHealthErrorType]bool{csi.VolumeHealthErrorType_UNKNOWN_VOLUME_HEALTH_TYPE: true}
	for s := backend.Degraded; s <= backend.DataLoss; s++ {
		if st := statusOf(s); seen[st] {
			t.Errorf("severity %d is told as %v, unknown or taken", s, st)
		} else {
			seen[st] = true
		}
	}
	want(t, len(seen), len(csi.VolumeHealthErrorType_name))
}

func TestVolumeHealth(t *testing.T) {
	b := newBed(t, member{name: "main"}, member{name: "basic", mask: fake.Basic})
	main, basic := map[string]string{"pool": "main"}, map[string]string{"pool": "basic"}
	for _, v := range []string{"well", "sick", "worse"} {
		b.volumeIn(t, v, main)
	}
	unasked := b.volumeIn(t, "unasked", basic)
	b.fakes["main"].SetProblems("sick", backend.Problem{Severity: backend.Degraded, Reason: "Slow", Message: "a"},
		backend.Problem{Severity: backend.Degraded, Reason: "Slow", Message: "b"}, backend.Problem{Severity: backend.DataLoss, Reason: "Slow", Message: "c"})
	b.fakes["main"].SetProblems("worse", backend.Problem{Severity: backend.Inaccessible, Reason: "Gone"})
	sick := &csi.VolumeHealth{VolumeId: "main:sick", HealthStatuses: []*csi.VolumeHealth_VolumeHealthEntry{
		{Status: csi.VolumeHealthErrorType_DEGRADED, Reason: "Slow", Message: "a; b"},
		{Status: csi.VolumeHealthErrorType_DATA_LOSS, Reason: "Slow", Message: "c"},
	}}
	worse := &csi.VolumeHealth{VolumeId: "main:worse", HealthStatuses: []*csi.VolumeHealth_VolumeHealthEntry{
		{Status: csi.VolumeHealthErrorType_INACCESSIBLE, Reason: "Gone"},
	}}
	for _, wanted := range []*csi.VolumeHealth{sick, worse, {VolumeId: "main:well"}, {VolumeId: unasked}} {
		got, err := b.ControllerGetVolumeHealth(t.Context(), &csi.ControllerGetVolumeHealthRequest{VolumeId: wanted.GetVolumeId()})
		wantOK(t, err)
		wantProto(t, got.GetVolumeHealth(), wanted)
	}
	for handle, code := range map[string]codes.Code{"": codes.InvalidArgument, "main:none": codes.NotFound, "x": codes.NotFound, "gone:v": codes.Unavailable} {
		_, err := b.ControllerGetVolumeHealth(t.Context(), &csi.ControllerGetVolumeHealthRequest{VolumeId: handle})
		wantCode(t, err, code, "volume_id")
	}

	all, err := b.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{})
	wantOK(t, err)
	wantProto(t, all, &csi.ControllerListVolumeHealthResponse{Entries: []*csi.VolumeHealth{sick, worse}})
	first, err := b.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{MaxEntries: 1})
	wantOK(t, err)
	rest, err := b.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{MaxEntries: 1, StartingToken: first.GetNextToken()})
	wantOK(t, err)
	wantProto(t, rest, &csi.ControllerListVolumeHealthResponse{Entries: []*csi.VolumeHealth{worse}})
}

func TestListVolumeHealthWhileVolumesGo(t *testing.T) {
	b := newBed(t)
	b.volume(t, "v")
	b.fakes["main"].Arm(func(e *fake.Errors) { e.Check.Before = errs.E(errs.NotFound, "deleted meanwhile") })
	_, err := b.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{})
	wantOK(t, err)
	b.fakes["main"].Arm(func(e *fake.Errors) { e.Check.Before = errDown() })
	_, err = b.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{})
	wantCode(t, err, codes.Unavailable, "main:v")
}
