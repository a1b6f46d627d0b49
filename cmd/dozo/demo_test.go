package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/test/lab"
)

func TestDemo(t *testing.T) {
	hosttest.NeedRoot(t)
	for fs, size := range map[string]string{"ext4": "64Mi", "xfs": "300Mi", "btrfs": "128Mi", "block": "64Mi"} {
		t.Run(fs, func(t *testing.T) {
			if fs == "ext4" && !lab.WithCapability(t, unix.CAP_SYS_RESOURCE, lab.Guest{MemoryMiB: 2048, Modules: []string{"loop"}}) {
				return
			}
			dir := t.TempDir()
			out, err := dozo(t, "demo", "--fs", fs, "--size", size, "--dir", dir)
			if err != nil || strings.Contains(out, "FAIL") || !strings.Contains(out, "no loop device, mount or file is left") {
				t.Errorf("%v\n%s", err, out)
			}
			if left := hosttest.Left(t, dir); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestDemoThatFails has no room for its volumes: it must say so, fail, and leave nothing.
func TestDemoThatFails(t *testing.T) {
	dir := hosttest.FileSystem(t, "ext4", 64<<20)
	out, err := dozo(t, "demo", "--fs", "block", "--dir", dir)
	if err == nil || !strings.Contains(out, "FAIL create a volume") || !strings.Contains(out, "can still be given") {
		t.Errorf("%v\n%s", err, out)
	}
	if left := hosttest.Left(t, dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestDemoThatIsKept leaves its volumes mounted, and says how to be rid of them in words that work.
func TestDemoThatIsKept(t *testing.T) {
	hosttest.NeedRoot(t)
	dir := t.TempDir()
	out, err := dozo(t, "demo", "--fs", "block", "--dir", dir, "--keep")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, commands, _ := strings.Cut(out, "To remove them, as root:\n")
	for line := range strings.Lines(commands) {
		words := strings.Fields(line)
		hosttest.Command(t, words[0], words[1:]...)
	}
	if left := hosttest.Left(t, dir); len(left) != 0 {
		t.Errorf("left: %v\n%s", left, out)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v %v", entries, err)
	}
}
