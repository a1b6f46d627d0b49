package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

func (b *bench) sick(s StageRequest, reasons ...string) {
	b.t.Helper()
	problems, err := b.node.Health(b.ctx, s.Volume)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range reasons {
		if !slices.ContainsFunc(problems, func(p backend.Problem) bool { return p.Reason == r && p.Message != "" }) {
			b.t.Errorf("Health does not say %s: %+v", r, problems)
		}
	}
	if !slices.IsSortedFunc(problems, func(a, b backend.Problem) int { return int(b.Severity) - int(a.Severity) }) {
		b.t.Errorf("not worst first: %+v", problems)
	}
}

func TestHealthOfExt4WithErrors(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 64*mib)
	s := request(b, "v1", "ext4")
	b.stage(s)
	b.well(s)
	device, err := b.disks.attached("v1")
	if err != nil {
		t.Fatal(err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(device), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("a test\n"), 0); err != nil {
		t.Fatal(err)
	}
	b.sick(s, "FileSystemErrors", ReasonReadOnly) // read-only by the errors=remount-ro that we mount with
	if err := os.WriteFile(s.Staging+"/x", nil, 0o600); err == nil {
		t.Error("it can be written to after an error")
	}
	errstest.Refused(t, "Stage of what turned read-only", b.node.Stage(b.ctx, s), errs.Exists, "read-only")
	b.unstage(s)
	b.stage(s) // which checks it
	write(t, s.Staging+"/x", "again")
	b.unstage(s)
}

func TestHealthOfAFileSystemThatShutDown(t *testing.T) {
	const goingDown = 0x8004587d // XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.disk("v1", size)
			s := request(b, "v1", kind)
			p := b.publishRequest(s, "target")
			b.stage(s)
			b.publish(p)
			d, err := os.Open(s.Staging)
			if err != nil {
				t.Fatal(err)
			}
			err = unix.IoctlSetPointerInt(int(d.Fd()), goingDown, 2) // without writing out the log
			d.Close()
			if err != nil {
				t.Fatal(err)
			}
			problems, err := b.node.Health(b.ctx, s.Volume)
			if err != nil || len(problems) == 0 || problems[0].Severity < backend.Inaccessible {
				t.Errorf("Health: %+v, %v", problems, err)
			}
			b.unpublish(p) // though no stat of it is answered
			b.unstage(s)
			b.stage(s)
			b.well(s)
			b.unstage(s)
		})
	}
}

func TestHealthOfADeviceThatIsGone(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs", "block"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.disk("v1", size)
			s := request(b, "v1", kind)
			p := b.publishRequest(s, "target")
			b.stage(s)
			b.publish(p)
			device, err := b.disks.attached("v1")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(b.disks.image("v1"), 0); err != nil {
				t.Fatal(err)
			}
			b.sick(s, ReasonDeviceFails)
			hosttest.Command(t, "losetup", "--set-capacity", device)
			b.sick(s, ReasonDeviceGone)
			b.unpublish(p)
			b.unstage(s)
		})
	}
}

func TestHealthOfWhatWasUnmounted(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	p := b.publishRequest(s, "target")
	b.stage(s)
	b.publish(p)
	hosttest.Unmount(t, s.Staging)
	b.sick(s, ReasonNotMounted)
	errstest.Refused(t, "Publish", b.node.Publish(b.ctx, b.publishRequest(s, "second")), errs.InUse, "stage it again")
	b.stage(s) // beside its live target, without a check
	b.well(s)
	if ops := b.seam.Ops(false); count(ops, "stage.fsck") != 1 {
		t.Errorf("checked while mounted: %v", ops)
	}
	b.unpublish(p)
	b.unstage(s)
}

func TestHealthFromThePool(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	_, err := b.node.Health(b.ctx, s.Volume)
	errstest.Refused(t, "Health of what is not staged", err, errs.NotFound)
	b.stage(s)
	b.disks.problems = []backend.Problem{{Severity: backend.DataLoss, Reason: "Lost", Message: "all of it"}}
	b.sick(s, "Lost")
	b.disks.problems = nil
	b.unstage(s)
}

// TestDeviceThatHangs has one that answers no read.
func TestDeviceThatHangs(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 8*mib)
	device, err := b.disks.Activate(b.ctx, "v1")
	if err != nil {
		t.Fatal(err)
	}
	release, done := make(chan struct{}), make(chan struct{})
	b.host.Seam = func(e host.Effect, do func() error) error {
		if e.Op == "health.read" {
			<-release
			defer close(done)
		}
		return do()
	}
	ctx, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
	defer cancel()
	_, err = b.host.ReadDevice(ctx, "health.read", device, 0, 4096)
	errstest.Refused(t, "a read that hangs", err, errs.Unavailable, "no answer")
	close(release)
	<-done
	if err := b.disks.Deactivate(b.ctx, "v1"); err != nil {
		t.Fatal(err)
	}
}
