package vg

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
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
