package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMounts measures a volume's way into a pod and out again, on a node with no other mounts and with many.
func TestMounts(t *testing.T) {
	rounds, many := 2, 20
	if full() {
		rounds, many = 20, 2000
	}
	for _, others := range []int{0, many} {
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			d := newBed(t, 0)
			d.large(t, "v")
			d.mountOthers(t, others)
			d.stage(t, "v") // it is formatted once
			d.unstage(t, "v")
			d.measure(t, fmt.Sprintf("loopfile: stage, publish, unpublish, unstage beside %d mounts", others), rounds, func(t *testing.T, d *bed, _ int) {
				d.stage(t, "v")
				d.publish(t, "v")
				d.unpublish(t, "v")
				d.unstage(t, "v")
			})
		})
	}
}

// mountOthers makes as many mounts of other pods, in the namespace that hack/as-root.sh gives to a test.
func (d *bed) mountOthers(t *testing.T, number int) {
	t.Helper()
	others := filepath.Join(d.dir, "others")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.Mkdir(others, 0o700))
	do(unix.Mount("tmpfs", others, "tmpfs", 0, ""))
	t.Cleanup(func() { do(unix.Unmount(others, unix.MNT_DETACH)) }) // with all that is below
	do(unix.Mount("", others, "", unix.MS_PRIVATE, ""))
	for n := range number {
		at := filepath.Join(others, fmt.Sprint(n))
		do(os.Mkdir(at, 0o700))
		do(unix.Mount(at, at, "", unix.MS_BIND, ""))
	}
}
