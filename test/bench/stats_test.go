package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/test/bench/report"
)

// TestStats asks for the use of a volume, as the kubelet does of each once a minute, a thousand times, on a node
// with few mounts and on one with those of a thousand volumes. No program may run for it.
func TestStats(t *testing.T) {
	rounds, many := 1, 10
	if full() {
		rounds, many = 20, 1000
	}
	for _, others := range []int{0, many} {
		t.Run(fmt.Sprintf("others=%d", others), func(t *testing.T) {
			d := newBed(t, 0)
			d.large(t, "v")
			d.stage(t, "v")
			t.Cleanup(func() { d.unstage(t, "v") })
			d.publish(t, "v")
			t.Cleanup(func() { d.unpublish(t, "v") })
			mountMore(t, 2*others) // each volume is mounted where it is staged and where it is published
			d.programs.Store(0)
			var rates []float64
			for range rounds {
				rates = append(rates, d.statsRate(t, 1000))
			}
			if n := d.programs.Load(); n != 0 {
				t.Errorf("%d programs were run for %d calls", n, 1000*rounds)
			}
			keep(t, report.New(fmt.Sprintf("stats: 1000 calls beside %d volumes", others), "host", "calls/s", report.AtLeast(5000), rates))
		})
	}
}

// statsRate returns how many of some calls are answered in a second, with one caller for each core.
func (d *bed) statsRate(t *testing.T, calls int) float64 {
	t.Helper()
	callers := runtime.GOMAXPROCS(0)
	failed := make([]error, callers)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for range calls / callers {
				if _, err := d.node.Stats(context.Background(), "p:v", filepath.Join(d.dir, "target")); err != nil {
					failed[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	return float64(calls/callers*callers) / time.Since(began).Seconds()
}

// mountMore mounts a number of further directories for the length of the test.
func mountMore(t *testing.T, number int) {
	t.Helper()
	hosttest.NeedRoot(t)
	base := t.TempDir()
	for n := range number {
		dir := filepath.Join(base, fmt.Sprintf("a-path-about-as-long-as-those-of-the-kubelet-%d", n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
}
