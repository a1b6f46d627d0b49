package lab_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab"
)

const (
	targetName    = "iqn.2026-01.dev.dozo:lun"
	initiatorName = "iqn.2026-01.dev.dozo:initiator" // init.sh names it after the guest
	targetConfig  = "/sys/kernel/config/target"
	lunSize       = 64 << 20
	grownSize     = 160 << 20
)

func TestISCSILUNGrowsMounted(t *testing.T) {
	n := lab.Network(t,
		lab.Guest{
			Name:     "target",
			Modules:  []string{"loop", "target_core_mod", "target_core_iblock", "iscsi_target_mod"},
			Programs: []string{"losetup"},
		},
		lab.Guest{
			Name:     "initiator",
			Modules:  []string{"iscsi_tcp", "sd_mod"},
			Programs: []string{"iscsid", "iscsiadm", "mkfs.ext4", "resize2fs"},
		})
	switch n.Self() {
	case lab.Host:
		n.Wait()
	case "target":
		serveLUN(t, n)
	case "initiator":
		useLUN(t, n)
	}
}

// serveLUN is the target's part: a block device that grows on demand.
func serveLUN(t *testing.T, n *lab.Net) {
	// Not in the temporary directory: its tmpfs has no zeroing of ranges.
	file := filepath.Join("/var/tmp", "lun")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	truncate(t, file, lunSize)
	loop := strings.TrimSpace(lab.Output(t, "losetup", "--find", "--show", file))
	export(t, loop, n.IP("target").String()+":3260")
	n.Put("exported", "")

	n.Get("grow", 2*time.Minute)
	truncate(t, file, grownSize)
	lab.Output(t, "losetup", "--set-capacity", loop)
	n.Put("grown", "")

	n.Get("logged-out", 2*time.Minute)
	withdraw(t)
	lab.Output(t, "losetup", "--detach", loop)
}

// useLUN is the initiator's part.
func useLUN(t *testing.T, n *lab.Net) {
	startISCSID(t)
	n.Get("exported", time.Minute)
	portal := n.IP("target").String() + ":3260"
	lab.Output(t, "iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", portal)
	start := time.Now()
	lab.Output(t, "iscsiadm", "-m", "node", "-T", targetName, "-p", portal, "--login")
	t.Logf("login took %v", time.Since(start).Round(time.Millisecond))
	device := awaitLUN(t)
	lab.Output(t, "mkfs.ext4", "-q", device)
	dir := mountAt(t, device)
	sum := writeRandom(t, filepath.Join(dir, "data"), 4<<20)
	before := fileSystemSize(t, dir)

	n.Put("grow", "")
	n.Get("grown", time.Minute)
	lab.Output(t, "iscsiadm", "-m", "session", "-R")
	lab.Output(t, "resize2fs", device)
	if after := fileSystemSize(t, dir); after < 2*before {
		t.Errorf("the file system grew from %d to %d bytes, want two and a half times as much", before, after)
	}
	if got := readSum(t, filepath.Join(dir, "data")); got != sum {
		t.Errorf("the file's checksum is %x after growing, want %x", got, sum)
	}
	lab.Output(t, "umount", dir)

	start = time.Now()
	lab.Output(t, "iscsiadm", "-m", "node", "-T", targetName, "-p", portal, "--logout")
	t.Logf("logout took %v", time.Since(start).Round(time.Millisecond))
	lab.Output(t, "iscsiadm", "-m", "node", "-T", targetName, "-p", portal, "-o", "delete")
	lab.Output(t, "iscsiadm", "-m", "discoverydb", "-t", "sendtargets", "-p", portal, "-o", "delete")
	for _, what := range []string{"session", "node", "discovery"} {
		expectNone(t, what)
	}
	n.Put("logged-out", "")
}

// startISCSID starts the initiator's daemon, which stays until the guest ends.
func startISCSID(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll("/run/lock/iscsi", 0o700); err != nil {
		t.Fatal(err)
	}
	lab.Output(t, "iscsid")
	eventually(t, 30*time.Second, func() string {
		_, err := lab.Try(t, "iscsiadm", "-m", "session")
		if exitCode(err) == noRecords {
			return ""
		}
		return fmt.Sprintf("iscsid does not answer: %v", err)
	})
}

// noRecords is what iscsiadm exits with when it has nothing to list.
const noRecords = 21

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// expectNone checks that iscsiadm lists nothing of the given kind.
func expectNone(t *testing.T, what string) {
	t.Helper()
	out, err := lab.Try(t, "iscsiadm", "-m", what)
	if exitCode(err) != noRecords {
		t.Errorf("iscsiadm still lists a %s: %q, %v", what, out, err)
	}
}

// awaitLUN finds the disk of the only session.
func awaitLUN(t *testing.T) string {
	t.Helper()
	var device string
	eventually(t, 30*time.Second, func() string {
		found, err := filepath.Glob("/sys/class/iscsi_session/session*/device/target*/*/block/*")
		if err != nil || len(found) != 1 {
			return fmt.Sprintf("the session has the disks %q, want one", found)
		}
		device = "/dev/" + filepath.Base(found[0])
		if _, err := os.Stat(device); err != nil {
			return err.Error()
		}
		return ""
	})
	return device
}

// export offers a block device to one initiator.
func export(t *testing.T, device, portal string) {
	t.Helper()
	store := targetConfig + "/core/iblock_0/lun"
	group := targetConfig + "/iscsi/" + targetName + "/tpgt_1"
	acl := group + "/acls/" + initiatorName
	mkdir(t, store)
	write(t, store+"/control", "udev_path="+device)
	write(t, store+"/enable", "1")
	mkdir(t, group+"/lun/lun_0")
	link(t, store, group+"/lun/lun_0/backend")
	mkdir(t, group+"/np/"+portal)
	mkdir(t, acl+"/lun_0")
	link(t, group+"/lun/lun_0", acl+"/lun_0/backend")
	write(t, group+"/attrib/authentication", "0")
	write(t, group+"/enable", "1")
}

// withdraw takes back everything that export made.
func withdraw(t *testing.T) {
	t.Helper()
	target := targetConfig + "/iscsi/" + targetName
	group := target + "/tpgt_1"
	acl := group + "/acls/" + initiatorName
	write(t, group+"/enable", "0")
	portals, err := filepath.Glob(group + "/np/*")
	if err != nil {
		t.Fatal(err)
	}
	paths := append([]string{acl + "/lun_0/backend", acl + "/lun_0", acl}, portals...)
	paths = append(paths, group+"/lun/lun_0/backend", group+"/lun/lun_0", group, target,
		targetConfig+"/core/iblock_0/lun", targetConfig+"/core/iblock_0")
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
}
