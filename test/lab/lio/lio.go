// Package lio gives a Go test that runs in a guest of the lab disks behind iSCSI targets, served by the kernel's own target: a
// NAS without its front. It needs no program but losetup and blkdiscard.
package lio

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/test/dsmsim/lio"
	"github.com/dozo-dev/dozo/test/lab"
)

// Modules are those that a guest has to load to be a target.
func Modules() []string {
	return []string{"loop", "target_core_mod", "target_core_iblock", "iscsi_target_mod"}
}

func open(t testing.TB, portals ...string) *lio.LIO {
	t.Helper()
	l, err := lio.Open("/sys/kernel/config/target", portals...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Disk is a sparse file behind a loop device, as a target offers it.
type Disk struct {
	t      testing.TB
	name   string
	serial string
	file   string
	Device string // the loop device
	WWID   string // as an initiator sees it
}

// NewDisk makes a blank disk until the test ends. Its identity is the serial, 25 or more hexadecimal digits.
func NewDisk(t testing.TB, name, serial string, size int64) *Disk {
	t.Helper()
	// Not in the temporary directory: its tmpfs has no zeroing of ranges.
	d := &Disk{t: t, name: name, serial: serial, file: filepath.Join("/var/tmp", "lio-"+name), WWID: "36001405" + serial[:25]}
	if err := errors.Join(os.WriteFile(d.file, nil, 0o600), os.Truncate(d.file, size)); err != nil {
		t.Fatal(err)
	}
	d.Device = strings.TrimSpace(lab.Output(t, "losetup", "--find", "--show", d.file))
	t.Cleanup(d.remove)
	return d
}

func (d *Disk) remove() {
	l := open(d.t)
	released, err := l.Release(d.name)
	if !released {
		d.t.Errorf("disk %s is in use: %v", d.name, err)
	}
	lab.Output(d.t, "losetup", "--detach", d.Device)
	if err := errors.Join(l.Close(), os.Remove(d.file)); err != nil {
		d.t.Error(err)
	}
}

// Grow makes the disk larger.
func (d *Disk) Grow(size int64) {
	d.t.Helper()
	if err := os.Truncate(d.file, size); err != nil {
		d.t.Fatal(err)
	}
	lab.Output(d.t, "losetup", "--set-capacity", d.Device)
}

// Blank makes all of the disk zeros again. Nobody may be using it.
func (d *Disk) Blank() { lab.Output(d.t, "blkdiscard", "--force", d.Device) }

// Holds fails unless the disk has a text at a place, whatever an initiator believes.
func (d *Disk) Holds(text string, at int64) {
	d.t.Helper()
	f, err := os.Open(d.file)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(text))
	if _, err := f.ReadAt(got, at); err != nil || string(got) != text {
		d.t.Errorf("disk %s has %q at %d, %v; want %q", d.name, got, at, err, text)
	}
}

// Target is a target with any number of disks. Whoever logs in sees all of them.
type Target struct {
	t    testing.TB
	lio  *lio.LIO
	wish lio.Target
}

// NewTarget makes a target until the test ends. With a user name, it wants a login by CHAP.
func NewTarget(t testing.TB, iqn, user, password string, portals ...string) *Target {
	t.Helper()
	a := &Target{t, open(t, portals...), lio.Target{IQN: iqn, Enabled: true, User: user, Password: password}}
	a.set()
	t.Cleanup(func() {
		if err := a.lio.Remove(iqn); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (a *Target) set() {
	a.t.Helper()
	if err := a.lio.Set(a.wish); err != nil {
		a.t.Fatal(err)
	}
}

// Password changes what initiators log in with.
func (a *Target) Password(user, password string) {
	a.t.Helper()
	a.wish.User, a.wish.Password = user, password
	a.set()
}

// Enable lets initiators in, or cuts all off.
func (a *Target) Enable(on bool) {
	a.t.Helper()
	a.wish.Enabled = on
	a.set()
}

// identity is what LIO itself says if nobody tells it what to say.
func identity(serial string) lio.Identity {
	return lio.Identity{Vendor: "LIO-ORG", Product: "IBLOCK", Revision: "4.0", Serial: serial}
}

// Map offers a disk under a number.
func (a *Target) Map(d *Disk, n int) {
	a.t.Helper()
	a.wish.LUNs = append(a.wish.LUNs, lio.LUN{Name: d.name, Index: n, Device: d.Device, Discard: true, Identity: identity(d.serial)})
	a.set()
}

// Unmap takes back what is offered under a number.
func (a *Target) Unmap(n int) {
	a.t.Helper()
	a.wish.LUNs = slices.DeleteFunc(a.wish.LUNs, func(l lio.LUN) bool { return l.Index == n })
	a.set()
}
