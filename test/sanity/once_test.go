package sanity

import (
	"os"
	"os/exec"
	"testing"
)

const onceVariable = "DOZO_SANITY"

// once runs the suite in a process of its own: Ginkgo runs one suite in a process.
func once(t *testing.T, w world) {
	t.Helper()
	if os.Getenv(onceVariable) == w.fs {
		w.run(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), onceVariable+"="+w.fs)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: see above", err)
	}
}

func TestExt4(t *testing.T)  { once(t, world{fs: "ext4", size: 64 * mib}) }
func TestXFS(t *testing.T)   { once(t, world{fs: "xfs", size: 300 * mib}) }
func TestBtrfs(t *testing.T) { once(t, world{fs: "btrfs", size: 128 * mib}) }
func TestBlock(t *testing.T) { once(t, world{fs: "block", size: 16 * mib}) }
