package vg

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// TestErrors has LVM's own words, as version 2.03.16 wrote them.
func TestErrors(t *testing.T) {
	g := New(host.New()).Get("vg")
	for said, want := range map[string]errs.Kind{
		`Volume group "vg" has insufficient free space (264 extents): 1000 required.`:                 errs.NoSpace,
		`Insufficient free space: 996 extents needed, but only 264 available`:                         errs.NoSpace,
		`Insufficient suitable allocatable extents for logical volume a: 4 more required`:             errs.NoSpace,
		`VG vg 1667 metadata on /dev/sdb (521694 bytes) exceeds maximum metadata size (521472 bytes)`: errs.NoSpace,
		`Cannot create new thin volume, free space in thin pool vg/tp reached threshold.`:             errs.NoSpace,
		`Logical Volume "t1" already exists in volume group "vg"`:                                     errs.Exists,
		`Snapshot origin volumes can be resized only while inactive: try lvchange -an.`:               errs.InUse,
		`Logical volume vg/a contains a filesystem in use.`:                                           errs.InUse,
		`Logical volume vg/a is used by another device.`:                                              errs.InUse,
		`Can't get lock for vg`:                                               errs.Busy,
		`Cannot change VG vg while PVs are missing.`:                          errs.Unavailable,
		`Failed to find logical volume "vg/nothere"`:                          errs.NotFound,
		"Volume group \"novg\" not found\n  Cannot process volume group novg": errs.Unavailable,
		`Cannot update volume group vg-0 with duplicate PV devices.`:          errs.Unavailable,
		`device-mapper: reload ioctl on  (254:3) failed: No data available`:   errs.Internal,
	} {
		err := g.classify(&host.ExitError{Name: "lvm", Code: 5, Stderr: said})
		if !errs.Is(err, want) || !strings.Contains(err.Error(), said) {
			t.Errorf("%s: is %v, want %v with LVM's words: %v", said, errs.KindOf(err), want, err)
		}
	}
	other := errs.E(errs.Unsupported, "lvm: this program is not installed on the node")
	if err := g.classify(other); err != other {
		t.Errorf("%v: an error that is not LVM's answer was changed", err)
	}
}

func TestTurnsEnd(t *testing.T) {
	g := New(host.New()).Get("vg")
	g.turn <- struct{}{} // somebody is at it
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Change(ctx, func(*State) error { return errors.New("called") }); !errs.Is(err, errs.Aborted) {
		t.Errorf("change: %v, want errs.Aborted", err)
	}
	if err := g.Remove(ctx, "test", false, "a"); !errs.Is(err, errs.Aborted) {
		t.Errorf("remove: %v, want errs.Aborted", err)
	}
	if len(g.removals) != 0 {
		t.Errorf("who gave up waits still: %d", len(g.removals))
	}
}

func TestOneGroupForAll(t *testing.T) {
	groups := New(host.New())
	a := groups.Get("a")
	if a != groups.Get("a") || a == groups.Get("b") {
		t.Error("pools on one group do not share it")
	}
}

// disk writes the first MiB of a physical volume, as LVM wrote it, to a file.
func disk(t *testing.T, file, fixture string) {
	t.Helper()
	f, err := os.Open("../metadata/testdata/" + fixture + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// uuid is that of the physical volume in the fixtures.
const uuid = "17m8b3-XeyM-0gQ0-6SOG-zagm-c2Xs-mpVbvu"

func onFile(t *testing.T, file string) (*Group, *hosttest.Recorder) {
	t.Helper()
	var r hosttest.Recorder
	h := host.New()
	h.Seam = r.Seam
	report := fmt.Sprintf(`{"report":[{"pv":[{"pv_name":%q,"pv_uuid":%q,"vg_name":"vg"}]}]}`, file, uuid)
	h.Runner = &hosttest.Script{Answers: map[string]hosttest.Answer{"vg.pvs": {Stdout: report}}}
	return New(h).Get("vg"), &r
}

func load(t *testing.T, g *Group) *State {
	t.Helper()
	s, err := g.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKnown: LVM is asked once, and the text read only when it is another one.
func TestKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	disk(t, file, "full-pv0")
	g, r := onFile(t, file)
	s := load(t, g)
	if s.Seqno != 24 || s.LVs["striped"] == nil || s.ByTag["volume/main/pvc-1"] == nil || s.Missing() != "" {
		t.Fatalf("%+v", s)
	}
	if got := strings.Join(r.Ops(true), " "); got != "vg.pvs vg.label vg.header vg.text" {
		t.Errorf("the first time: %s", got)
	}
	if again := load(t, g); again != s {
		t.Error("what is known was read again")
	}
	if got := strings.Join(r.Ops(true), " "); got != "vg.header" {
		t.Errorf("with nothing changed: %s", got)
	}
	disk(t, file, "empty-pv0") // another group of the same name has the same areas, and no less a change
	if _, err := g.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.Ops(true), " "); got != "vg.header vg.text" {
		t.Errorf("with a change: %s", got)
	}
}

// TestUnreadable: what cannot be read is not empty, and comes back as it was.
func TestUnreadable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	disk(t, file, "full-pv0")
	g, r := onFile(t, file)
	want := load(t, g)
	r.Fail("vg.header", errors.New("input/output error"))
	if s, err := g.Load(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("%+v, %v: want errs.Unavailable", s, err)
	}
	r.Fail("vg.header", nil)
	if s := load(t, g); s.Seqno != want.Seqno || len(s.LVs) != len(want.LVs) {
		t.Errorf("%+v", s)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[4096+100] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := g.Load(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a damaged header: %+v, %v: want errs.Unavailable", s, err)
	}
}

func TestVolumesLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	disk(t, file, "empty-pv0")
	g, _ := onFile(t, file)
	if n := load(t, g).VolumesLeft(); n < 500 || n > 1000 {
		t.Errorf("an area of 1 MiB has room for %d volumes", n)
	}
}
