package lab_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/lab/lio"
)

const (
	targetName = "iqn.2026-01.dev.dozo:lun"
	lunSize    = 64 << 20
	grownSize  = 160 << 20
)

func TestISCSILUNGrowsMounted(t *testing.T) {
	n := lab.Network(t,
		lab.Guest{
			Name:     "target",
			Modules:  lio.Modules(),
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
	disk := lio.NewDisk(t, "lun", "0513a3cd1edf296d4d4bdb712", lunSize)
	lio.NewTarget(t, targetName, "", "", n.IP("target").String()+":3260").Map(disk, 0)
	n.Put("exported", "")

	n.Get("grow", 2*time.Minute)
	disk.Grow(grownSize)
	n.Put("grown", "")

	n.Get("logged-out", 2*time.Minute)
}

// useLUN is the initiator's part.
func useLUN(t *testing.T, n *lab.Net) {
	lab.StartInitiator(t)
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
