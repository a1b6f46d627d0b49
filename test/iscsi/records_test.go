package iscsi

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/lab"
)

// cutShort: a record that an iscsiadm had begun when it was killed, which iscsiadm itself takes for none and does not delete.
func cutShort(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	r := b.request("v", a, "block")
	for _, bytes := range []int64{0, 100} {
		for _, again := range []bool{true, false} {
			ends := []string{"iscsi.login", "iscsi.record.delete"} // as if the process had ended there
			for _, op := range ends {
				b.seam.Fail(op, errors.New("cut short"))
			}
			if err := b.node.Stage(t.Context(), r); err == nil {
				t.Fatal("staged without a login")
			}
			for _, op := range ends {
				b.seam.Fail(op, nil)
			}
			records, _ := filepath.Glob(filepath.Join("/etc/iscsi/nodes", iqn, "*"))
			if len(records) != 1 {
				t.Fatalf("records: %v", records)
			}
			if err := os.Truncate(records[0], bytes); err != nil {
				t.Fatal(err)
			}
			if again {
				b.stage(r)
			}
			b.unstage(r)
			if left := lab.InitiatorLeft(); len(left) > 0 {
				t.Errorf("left of a record of %d bytes: %v", bytes, left)
			}
		}
	}
}

// discovered: who looks for all that a storage has makes records of each of its targets, before it is used, meanwhile and while the node is down.
func discovered(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	discover := func() {
		t.Helper()
		lab.Output(t, "iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", address)
		if found, _ := filepath.Glob(filepath.Join("/etc/iscsi/nodes", iqn, "*")); len(found) == 0 {
			t.Fatal("a discovery without a record")
		}
	}
	r := b.request("v", a, "ext4")
	discover()
	b.stage(r)
	discover()
	b.stage(r)
	b.unstage(r)
	if left := lab.InitiatorLeft(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	b.stage(r)
	discover()
	if err := unix.Unmount(r.Staging, 0); err != nil {
		t.Fatal(err)
	}
	lab.Output(t, "iscsiadm", "-m", "node", "-T", iqn, "--logout") // as a boot does, after which there is no disk either
	for disks := []string{""}; len(disks) > 0; time.Sleep(10 * time.Millisecond) {
		disks, _ = filepath.Glob("/sys/class/scsi_device/*")
	}
	b.node = b.open()
	b.stage(r)
	b.unstage(r)
}

// twice: a portal has a record by a discovery beside Dozo's own, in either order of their directory. That of ext4 is by a hash, another one
// in each file system; tmpfs lists what came last first.
func twice(t *testing.T, b *bed) {
	const nodes = "/etc/iscsi/nodes"
	if err := unix.Mount("none", nodes, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(nodes, 0); err != nil {
			t.Error(err)
		}
	}()
	d, a := b.disk(size)
	b.serve("", "", d)
	r := b.request("v", a, "block")
	for _, last := range []string{"127.0.0.1,3260", "127.0.0.1,3260,1"} {
		b.stage(r)
		lab.Output(t, "iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", address)
		lab.Output(t, "iscsiadm", "-m", "node", "-T", iqn, "-p", address, "-o", "new")
		for _, move := range [][2]string{{iqn + "/" + last, "aside"}, {"aside", iqn + "/" + last}} {
			if err := os.Rename(filepath.Join(nodes, move[0]), filepath.Join(nodes, move[1])); err != nil {
				t.Fatal(err)
			}
		}
		if has, err := os.ReadDir(filepath.Join(nodes, iqn)); len(has) != 2 {
			t.Errorf("records: %v, %v", has, err)
		}
		b.unstage(r)
		if left := lab.InitiatorLeft(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// ofNode: in a container iscsiadm is run as the node has it. Here what the process itself would find is another program.
func ofNode(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	root := t.TempDir()
	lab.Output(t, "mount", "--rbind", "--make-rprivate", "/", root)
	t.Cleanup(func() { lab.Output(t, "umount", "--recursive", "--lazy", root) })
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		own := filepath.Join(dir, "iscsiadm")
		if _, err := os.Lstat(own); err != nil {
			continue
		}
		if err := unix.Mount("/bin/false", own, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(own, unix.MNT_DETACH) })
	}
	r := b.request("v", a, "ext4")
	if err := b.node.Stage(t.Context(), r); err == nil {
		t.Fatal("staged with a program that only fails")
	}
	b.root = root
	b.node = b.open()
	b.stage(r)
	b.unstage(r)
}

// admin: a session that a person made is used and never ended.
func admin(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	lab.Output(t, "iscsiadm", "-m", "node", "-T", iqn, "-p", address, "-o", "new")
	r := b.request("v", a, "ext4")
	lab.Output(t, "iscsiadm", "-m", "node", "-T", iqn, "-p", address, "--login")
	b.stage(r)
	b.unstage(r)
	if err := b.node.Sweep(t.Context()); err != nil || b.sessions() != 1 {
		t.Errorf("%v, %d sessions", err, b.sessions())
	}
	lab.Output(t, "iscsiadm", "-m", "node", "-T", iqn, "--logout")
	lab.Output(t, "iscsiadm", "-m", "node", "-T", iqn, "-o", "delete")
}
