// Package lio serves disks by iSCSI from a lab's guest, with the kernel's own target: a NAS without its front. It writes to
// configfs and needs no program but losetup and blkdiscard.
package lio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab"
)

const config = "/sys/kernel/config/target"

// Modules are those that a guest has to load to be a target.
func Modules() []string {
	return []string{"loop", "target_core_mod", "target_core_iblock", "iscsi_target_mod"}
}

// Disk is a sparse file behind a loop device, as a target offers it.
type Disk struct {
	t      testing.TB
	name   string
	file   string
	Device string // the loop device
	WWID   string // as an initiator sees it
}

// NewDisk makes a blank disk until the test ends. Its identity is the serial, 25 or more hexadecimal digits.
func NewDisk(t testing.TB, name, serial string, size int64) *Disk {
	t.Helper()
	// Not in the temporary directory: its tmpfs has no zeroing of ranges.
	d := &Disk{t: t, name: name, file: filepath.Join("/var/tmp", "lio-"+name), WWID: "36001405" + serial[:25]}
	if err := errors.Join(os.WriteFile(d.file, nil, 0o600), os.Truncate(d.file, size)); err != nil {
		t.Fatal(err)
	}
	d.Device = strings.TrimSpace(lab.Output(t, "losetup", "--find", "--show", d.file))
	mkdir(t, d.store())
	write(t, d.store()+"/control", "udev_path="+d.Device)
	write(t, d.store()+"/enable", "1")
	write(t, d.store()+"/wwn/vpd_unit_serial", serial)
	write(t, d.store()+"/attrib/emulate_tpu", "1")
	t.Cleanup(func() {
		remove(t, d.store())
		lab.Output(t, "losetup", "--detach", d.Device)
		remove(t, d.file)
	})
	return d
}

func (d *Disk) store() string { return config + "/core/iblock_0/" + d.name }

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
	t   testing.TB
	IQN string
}

// NewTarget makes a target until the test ends. With a user name, it wants a login by CHAP.
func NewTarget(t testing.TB, iqn, user, password string, portals ...string) *Target {
	t.Helper()
	a := &Target{t, iqn}
	mkdir(t, a.group())
	write(t, a.group()+"/attrib/generate_node_acls", "1")
	write(t, a.group()+"/attrib/cache_dynamic_acls", "1")
	write(t, a.group()+"/attrib/demo_mode_write_protect", "0")
	write(t, a.group()+"/attrib/authentication", "0")
	if user != "" {
		a.Password(user, password)
	}
	for _, p := range portals {
		mkdir(t, a.group()+"/np/"+p)
	}
	a.Enable(true)
	t.Cleanup(a.remove)
	return a
}

func (a *Target) group() string { return config + "/iscsi/" + a.IQN + "/tpgt_1" }

// Password changes what initiators log in with.
func (a *Target) Password(user, password string) {
	a.t.Helper()
	write(a.t, a.group()+"/attrib/authentication", "1")
	write(a.t, a.group()+"/auth/userid", user)
	write(a.t, a.group()+"/auth/password", password)
}

// Enable lets initiators in, or cuts all off.
func (a *Target) Enable(on bool) {
	a.t.Helper()
	write(a.t, a.group()+"/enable", map[bool]string{true: "1", false: "0"}[on])
}

func (a *Target) lun(n int) string { return fmt.Sprintf("%s/lun/lun_%d", a.group(), n) }

// Map offers a disk under a number.
func (a *Target) Map(d *Disk, n int) {
	a.t.Helper()
	mkdir(a.t, a.lun(n))
	if err := os.Symlink(d.store(), a.lun(n)+"/disk"); err != nil {
		a.t.Fatal(err)
	}
}

// Unmap takes back what is offered under a number.
func (a *Target) Unmap(n int) {
	a.t.Helper()
	remove(a.t, a.lun(n)+"/disk", a.lun(n))
}

func (a *Target) remove() {
	if _, err := os.Stat(a.group()); err != nil {
		return
	}
	a.Enable(false)
	luns, _ := filepath.Glob(a.group() + "/lun/lun_*")
	for _, l := range luns {
		remove(a.t, l+"/disk", l)
	}
	portals, _ := filepath.Glob(a.group() + "/np/*")
	remove(a.t, append(portals, a.group(), filepath.Dir(a.group()))...)
}

// StartInitiator starts iscsid, which stays until the guest ends.
func StartInitiator(t testing.TB) {
	t.Helper()
	mkdir(t, "/run/lock/iscsi")
	lab.Output(t, "iscsid")
	const none = "No active sessions"
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		out, err := lab.Try(t, "iscsiadm", "-m", "session")
		if strings.Contains(string(out), none) || err != nil && strings.Contains(err.Error(), none) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("iscsid does not answer: %s %v", out, err)
		}
	}
}

// Left lists the sessions, disks and records of this machine's initiator.
func Left(t testing.TB) (all []string) {
	t.Helper()
	for _, pattern := range []string{"/sys/class/iscsi_session/*", "/sys/class/scsi_device/*", "/etc/iscsi/nodes/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}
