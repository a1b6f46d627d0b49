package lvm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/block"
	"github.com/dozo-dev/dozo/test/lab"
)

// madeOf are the options of a pool on a group that is made of disks.
func madeOf(patterns string) map[string]string {
	return map[string]string{"volumeGroup": "made", "devices": patterns, "minDeviceSize": "128Mi", "wipe": "none"}
}

// tryOpen opens a pool as a new process does.
func tryOpen(t testing.TB, h *host.Host, options map[string]string) (backend.Backend, error) {
	t.Helper()
	k := Kind(h)
	all, err := backend.Complete("options", k.Options, options)
	if err != nil {
		t.Fatal(err)
	}
	return k.Open(t.Context(), backend.Config{Pool: "main", Node: "n1", Options: all})
}

// empty overwrites both ends of a disk, as a person does who wants it to be used.
func empty(t testing.TB, disk int) {
	t.Helper()
	f, err := block.Open(lab.DiskPath(disk))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := host.New().DeviceSize("test", lab.DiskPath(disk))
	if err != nil {
		t.Fatal(err)
	}
	if err := block.ZeroEnds(host.New(), "test", f, size); err != nil {
		t.Fatal(err)
	}
}

// ends is a sum of both ends of a disk.
func ends(t testing.TB, disk int) string {
	t.Helper()
	h, sum := host.New(), sha256.New()
	size, err := h.DeviceSize("test", lab.DiskPath(disk))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, size - 4*mib} {
		b, err := h.ReadDevice(t.Context(), "test", lab.DiskPath(disk), off, 4*mib)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// members are the devices of the group, as LVM says.
func members(t testing.TB) string {
	t.Helper()
	return strings.Join(strings.Fields(lab.Output(t, "pvs", "--noheadings", "-o", "pv_name", "-S", "vg_name=made", "-O", "pv_name")), " ")
}

// otherwise are disks that somebody uses, each with what is said of it. Disk 0 is empty.
func otherwise(t testing.TB) map[int]string {
	t.Helper()
	d := lab.DiskPath
	lab.Output(t, "mkfs.ext4", "-q", d(1))
	lab.Output(t, "sgdisk", "--clear", d(2))
	lab.Output(t, "sgdisk", "--new=1:0:0", d(3))
	lab.Output(t, "mkfs.ext4", "-q", d(5))
	dir := t.TempDir()
	lab.Output(t, "mount", d(5), dir)
	t.Cleanup(func() { lab.Output(t, "umount", dir) })
	lab.Output(t, "dmsetup", "create", "--noudevsync", "--noudevrules", "stack", "--table", fmt.Sprintf("0 8192 linear %s 0", d(6)))
	f, err := os.OpenFile(d(7), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("a database of its own"), 320*mib-8192); err != nil {
		t.Fatal(err)
	}
	lab.Output(t, "pvcreate", d(8))
	lab.Output(t, "blockdev", "--setro", d(9))
	lab.Output(t, "vgcreate", "other", d(10))
	lab.Output(t, "mkswap", d(11))
	return map[int]string{
		1: "ext4", 2: "a partition table (gpt)", 3: "has partitions", 4: "less than minDeviceSize", 5: "is mounted at " + dir, 6: "is used by dm-",
		7: "holds data in its first or last MiB", 8: "is a physical volume that Dozo did not make", 9: "is read-only", 10: "is in volume group other", 11: "swap",
	}
}

// TestGroupFromDevices makes a volume group among disks of every sort, and takes nothing that is used.
func TestGroupFromDevices(t *testing.T) {
	sizes := slices.Repeat([]int64{320 * mib}, 12)
	sizes[4] = 64 * mib
	g := guest(sizes...)
	g.Programs = append(g.Programs, "blkid", "sgdisk", "mkfs.ext4")
	if !lab.Run(t, g) {
		return
	}
	refused := otherwise(t)
	before := map[int]string{}
	for disk := range refused {
		before[disk] = ends(t, disk)
	}
	delete(before, 5) // its file system writes
	untouched := func(when string) {
		t.Helper()
		for disk, want := range before {
			if ends(t, disk) != want {
				t.Errorf("%s: %s was written to", when, lab.DiskPath(disk))
			}
		}
	}
	_, err := tryOpen(t, host.New(), madeOf("/dev/ubd[c-m],/dev/dm-*"))
	if !errs.Is(err, errs.Unavailable) {
		t.Fatalf("with no empty disk: %v", err)
	}
	t.Logf("it says: %v", err)
	for disk, why := range refused {
		if at := strings.Index(err.Error(), lab.DiskPath(disk)+" "); at < 0 || !strings.Contains(strings.Split(err.Error()[at:], "; /dev/")[0], why) {
			t.Errorf("of %s it does not say %q: %v", lab.DiskPath(disk), why, err)
		}
	}
	if !strings.Contains(err.Error(), "/dev/dm-0 is no disk") {
		t.Errorf("of a device of the device mapper it says: %v", err)
	}
	untouched("refused")

	options := madeOf("/dev/ubd[b-m],/dev/dm-*")
	b, err := tryOpen(t, host.New(), options)
	if err != nil || members(t) != lab.DiskPath(0) {
		t.Fatalf("made of %q, %v", members(t), err)
	}
	create(t, b, "v", 100)
	untouched("made")
	growsAndIsKept(t, b, options)
	before[1] = ends(t, 1)
	untouched("extended")
	isNotMadeTwice(t, options)
	delete(before, 1)
	untouched("in the end")
}

// growsAndIsKept opens the pool again, and again with one more empty disk.
func growsAndIsKept(t *testing.T, b backend.Backend, options map[string]string) {
	t.Helper()
	s, err := b.(*Thick).groups[0].Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	had, err := b.Capacity(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(64 * mib / 2); s.Most < most-mib || s.Most > most+mib {
		t.Errorf("metadata of %d bytes fits, want half of 64 MiB", s.Most)
	}
	again, err := tryOpen(t, host.New(), options)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := again.(*Thick).groups[0].Load(t.Context()); err != nil || now.Seqno != s.Seqno {
		t.Errorf("opened again it was changed: %v", err)
	}
	again.Close()
	empty(t, 1)
	again, err = tryOpen(t, host.New(), options)
	if err != nil || members(t) != lab.DiskPath(0)+" "+lab.DiskPath(1) {
		t.Fatalf("with one more disk: %q, %v", members(t), err)
	}
	defer again.Close()
	if c, err := again.Capacity(t.Context(), ""); err != nil || c.Total != 2*had.Total {
		t.Errorf("capacity %+v, %v; it was %+v with half the disks", c, err, had)
	}
	// The pool that was open before sees the new disk too.
	if n := gauges(t, b)["volume_group_size_bytes made"]; n != float64(2*had.Total) {
		t.Errorf("the pool that was open says %.0f bytes", n)
	}
	if _, err := again.Get(t.Context(), "v"); err != nil {
		t.Error(err)
	}
	if err := again.Delete(t.Context(), "v"); err != nil {
		t.Error(err)
	}
	b.Close()
}

// isNotMadeTwice: disks that are gone or hidden are no reason to begin anew on those that are there.
func isNotMadeTwice(t *testing.T, options map[string]string) {
	t.Helper()
	const backup = "/etc/lvm/backup/made"
	refused := func(what, word string) {
		t.Helper()
		_, err := tryOpen(t, host.New(), options)
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", what, err)
		}
		t.Logf("%s: %v", what, err)
	}
	const local = "/etc/lvm/lvmlocal.conf"
	config, err := os.ReadFile(local)
	if err != nil {
		t.Fatal(err)
	}
	hidden := strings.Replace(string(config), `"a|.*|"`, `"r|/dev/ubd[bc]$|", "a|.*|"`, 1)
	if err := os.WriteFile(local, []byte(hidden), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("LVM does not look at its disks", backup)
	if err := os.Rename(backup, "/backup"); err != nil {
		t.Fatal(err)
	}
	refused("the same without a backup", "which LVM does not look at")
	if err := os.WriteFile(local, config, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename("/backup", backup); err != nil {
		t.Fatal(err)
	}
	empty(t, 0) // as new disks in the place of those that failed
	empty(t, 1)
	refused("other disks are in their place", backup)
	if err := os.Remove(backup); err != nil {
		t.Fatal(err)
	}
	b, err := tryOpen(t, host.New(), options)
	if err != nil || members(t) != lab.DiskPath(0)+" "+lab.DiskPath(1) {
		t.Fatalf("given up: %q, %v", members(t), err)
	}
	b.Close()
}

// killed ends a command of LVM when it is about to read or write for the nth time.
type killed struct {
	host.Runner
	command string
	nth     int
	left    int // of how many such commands it is to be: 1 is the next
	did     bool
}

// Run is [host.Runner].
func (k *killed) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	if c.Name != "lvm" || c.Args[0] != k.command {
		return k.Runner.Run(ctx, c)
	}
	if k.left--; k.left != 0 {
		return k.Runner.Run(ctx, c)
	}
	inject := fmt.Sprintf("inject=io_submit,pwrite64:signal=KILL:when=%d", k.nth)
	c.Args = append([]string{"-f", "-qq", "-o", "/dev/null", "-e", "trace=io_submit,pwrite64", "-e", inject, c.Name}, c.Args...)
	c.Name = "strace"
	out, err := k.Runner.Run(ctx, c)
	code, _ := host.ExitCode(err)
	k.did = code == -1
	return out, err
}

// TestGroupMadeAndKilled kills each of the commands that make a group at each of its reads and writes. The
// next opening goes on from there, or says of a disk that it is not as it should be and takes the others.
func TestGroupMadeAndKilled(t *testing.T) {
	lab.Long(t, "3 minutes")
	g := guest(320*mib, 320*mib)
	g.Programs = append(g.Programs, "blkid", "strace")
	if !lab.Run(t, g) {
		return
	}
	options := madeOf(lab.DiskPath(0) + "," + lab.DiskPath(1))
	both := lab.DiskPath(0) + " " + lab.DiskPath(1)
	total, whole := 0, 0
	for _, c := range []struct {
		command string
		number  int
	}{{"pvcreate", 1}, {"pvcreate", 2}, {"vgcreate", 1}} {
		for nth := 1; ; nth++ {
			k := &killed{Runner: host.Exec{}, command: c.command, nth: nth, left: c.number}
			h := host.New()
			h.Runner = k
			b, first := tryOpen(t, h, options)
			if first == nil {
				b.Close()
			}
			if !k.did {
				break // it was done before that
			}
			b, err := tryOpen(t, host.New(), options)
			got := ""
			if err == nil {
				b.Close()
				got = members(t)
			}
			total++
			if got == both {
				whole++
			} else {
				t.Logf("%s %d killed at %d: made of %q, %v", c.command, c.number, nth, got, err)
			}
			if err != nil {
				asTold(t, err, options, both)
			}
			startOver(t)
		}
		startOver(t)
	}
	fmt.Printf("crash: lvm: %d kills while a group was made, %d go on by themselves\n", total, whole)
	if whole < total*3/4 || total < 20 {
		t.Errorf("of %d kills %d go on by themselves", total, whole)
	}
}

// asTold does what a refusal says that a person can do.
func asTold(t *testing.T, refused error, options map[string]string, want string) {
	t.Helper()
	for _, disk := range strings.Fields(want) {
		if !strings.Contains(refused.Error(), "run: pvremove -ff "+disk) {
			t.Fatalf("it does not say what to do about %s: %v", disk, refused)
		}
		lab.Output(t, "pvremove", "-ff", "--yes", disk)
	}
	b, err := tryOpen(t, host.New(), options)
	if err != nil || members(t) != want {
		t.Fatalf("after that: %q, %v", members(t), err)
	}
	b.Close()
}

// startOver removes the group and all that is left of it.
func startOver(t *testing.T) {
	t.Helper()
	_, _ = lab.Try(t, "vgremove", "--force", "--force", "--yes", "made")
	left, err := filepath.Glob("/etc/lvm/backup/made*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if err := os.Remove(l); err != nil {
			t.Fatal(err)
		}
	}
	empty(t, 0)
	empty(t, 1)
}
