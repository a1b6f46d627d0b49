package mnt

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// mountedPlace is a place with a file system at it.
func mountedPlace(t *testing.T) *Place {
	t.Helper()
	hosttest.NeedRoot(t)
	dir := filepath.Join(t.TempDir(), "at")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	p, err := Open(host.New(), "target_path", "", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// TestUnmountWaitsForAPassingUse: whoever only looks at the file system while it is unmounted, as
// xfs_growfs of another volume does, must not make the unmount fail.
func TestUnmountWaitsForAPassingUse(t *testing.T) {
	p := mountedPlace(t)
	f, err := os.Open(p.path)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(busyPatience/10, func() { f.Close() })
	if err := p.Unmount(t.Context(), "test.unmount"); err != nil {
		t.Fatal(err)
	}
	if m, err := p.Mounted(); m != nil || err != nil {
		t.Errorf("mounted afterwards: %v, %v", m, err)
	}
}

func TestUnmountSaysWhoIsInside(t *testing.T) {
	p := mountedPlace(t)
	inside := exec.Command("sleep", "1000")
	inside.Dir = p.path
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inside.Wait() }()
	defer func() { _ = inside.Process.Kill() }()
	err := p.Unmount(t.Context(), "test.unmount")
	want := fmt.Sprintf("target_path: unmount %s: still held open by sleep (process %d)", p.path, inside.Process.Pid)
	if !errs.Is(err, errs.InUse) || err.Error() != want {
		t.Errorf("%v (%v), want %s", err, errs.KindOf(err), want)
	}
	if m, err := p.Mounted(); m == nil || err != nil {
		t.Errorf("mounted afterwards: %v, %v", m, err)
	}
}
