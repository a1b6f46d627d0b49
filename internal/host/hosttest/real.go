package hosttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NoRoot is the environment variable that, set to 1, skips the tests which need root, loudly. Without
// it they fail for anybody else: a test that was not run must not look like one that passed.
const NoRoot = "DOZO_TEST_NO_ROOT"

// NeedRoot is called by tests that attach devices and mount them.
func NeedRoot(t testing.TB) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv(NoRoot) == "1":
		t.Skipf("NOT RUN: needs root, and %s=1 is set", NoRoot)
	default:
		t.Fatalf("needs root, to attach loop devices and mount them: run 'make test' as root or with sudo, or set %s=1 to do without", NoRoot)
	}
}

// FileSystem makes a file system of a type (ext4, xfs, btrfs) in a sparse image of size bytes, mounts
// it for the length of the test, and returns the mount point, which is empty.
func FileSystem(t testing.TB, fstype string, size int64) string {
	t.Helper()
	NeedRoot(t)
	dir := t.TempDir()
	image, point := filepath.Join(dir, "fs.img"), filepath.Join(dir, "fs")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	Command(t, "mkfs."+fstype, "-q", image)
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	Command(t, "mount", "-o", "loop", image, point)
	t.Cleanup(func() { Unmount(t, point) })
	if err := os.Remove(filepath.Join(point, "lost+found")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return point
}

// Unmount unmounts a mount point of a test. Programs that look at every mount of the machine, such as xfs_growfs,
// have each open for a moment: that is waited for.
func Unmount(t testing.TB, point string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
		if err == nil {
			return
		}
		if err != unix.EBUSY || time.Now().After(end) {
			t.Fatalf("umount %s: %v", point, err)
		}
	}
}

// Command runs a program that must succeed and returns what it wrote.
func Command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
