package csi

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/backend/fake"
)

// listVolumes returns the handles of a page, and the token of the next.
func (b *bed) listVolumes(t *testing.T, most int32, token string) (handles []string, next string) {
	t.Helper()
	got, err := b.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: most, StartingToken: token})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got.GetEntries() {
		handles = append(handles, e.GetVolume().GetVolumeId())
	}
	return handles, got.GetNextToken()
}

// TestListVolumesPages has two pools whose names sort differently than their handles do.
func TestListVolumesPages(t *testing.T) {
	b := newBed(t, member{name: "a"}, member{name: "a-b"})
	all, next := b.listVolumes(t, 0, "")
	want(t, all, nil)
	want(t, next, "")
	for i := range 3 {
		for _, p := range []string{"a", "a-b"} {
			b.volumeIn(t, fmt.Sprintf("v%d", i), map[string]string{"pool": p})
		}
	}
	sorted := []string{"a-b:v0", "a-b:v1", "a-b:v2", "a:v0", "a:v1", "a:v2"}
	for most := range int32(8) {
		var all []string
		token := ""
		for {
			part, next := b.listVolumes(t, most, token)
			all = append(all, part...)
			if token = next; token == "" {
				break
			}
			want(t, len(part), int(most))
		}
		want(t, all, sorted)
	}
}

func TestListVolumesWhileTheyChange(t *testing.T) {
	b := newBed(t)
	for _, v := range []string{"b", "d", "f"} {
		b.volume(t, v)
	}
	first, next := b.listVolumes(t, 2, "")
	want(t, first, []string{"main:b", "main:d"})
	for _, h := range first { // the one that the token names is among them
		_, err := b.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: h})
		wantOK(t, err)
	}
	b.volume(t, "a") // before the token: not seen in this pass
	b.volume(t, "e")
	rest, next := b.listVolumes(t, 0, next)
	want(t, rest, []string{"main:e", "main:f"})
	want(t, next, "")
}

func TestStartingTokens(t *testing.T) {
	b := newBed(t)
	b.volume(t, "a")
	b.volume(t, "b")
	_, volumes := b.listVolumes(t, 1, "")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		name, token string
		code        codes.Code
	}{
		{"given", volumes, codes.OK},
		{"of no volume", encode("volumes main:zzz"), codes.OK},
		{"a word", "invalid-token", codes.Aborted},
		{"a number", "1", codes.Aborted},
		{"another list's", encode("snapshots main:a"), codes.Aborted},
		{"traversal", encode("volumes main:../a"), codes.Aborted},
		{"nothing after", encode("volumes "), codes.Aborted},
		{"padded", volumes + "=", codes.Aborted},
		{"with a line break", volumes[:4] + "\n" + volumes[4:], codes.Aborted},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.ListVolumes(t.Context(), &csi.ListVolumesRequest{StartingToken: c.token})
			wantCode(t, err, c.code)
		})
	}
	_, err := b.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{StartingToken: volumes})
	wantCode(t, err, codes.Aborted, "starting_token")
	_, err = b.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{StartingToken: volumes})
	wantCode(t, err, codes.Aborted, "starting_token")
}

func TestHalfAListIsNone(t *testing.T) {
	b := newBed(t, member{name: "a"}, member{name: "b"})
	b.volumeIn(t, "v", map[string]string{"pool": "a"})
	b.volumeIn(t, "w", map[string]string{"pool": "b"})
	b.fakes["b"].Arm(func(e *fake.Errors) { e.List.After = errDown(); e.ListSnapshots.After = errDown() })
	got, err := b.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	wantCode(t, err, codes.Unavailable, "pool b")
	want(t, got.GetEntries() == nil, true)
	_, err = b.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{})
	wantCode(t, err, codes.Unavailable, "pool b")
}
