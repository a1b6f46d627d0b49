package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/pool"
)

// BenchmarkStats asks for the use of a volume, as the kubelet does of each once a minute, on a node with few
// mounts and on one with those of a thousand volumes.
func BenchmarkStats(b *testing.B) {
	for _, others := range []int{0, 1000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			d := newBed(b, 0)
			if _, err := d.pool.Create(b.Context(), pool.VolumeRequest{Name: "v", Required: 300 << 20}); err != nil {
				b.Fatal(err)
			}
			d.stage(b, "v")
			b.Cleanup(func() { d.unstage(b, "v") })
			d.publish(b, "v")
			b.Cleanup(func() { d.unpublish(b, "v") })
			mountMore(b, 2*others) // each volume is mounted where it is staged and where it is published
			d.programs.Store(0)
			b.ResetTimer()
			b.RunParallel(func(each *testing.PB) {
				for each.Next() {
					if _, err := d.node.Stats(context.Background(), "p:v", filepath.Join(d.dir, "target")); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			b.ReportMetric(float64(d.programs.Load())/float64(b.N), "programs/op")
		})
	}
}

// mountMore mounts a number of further directories for the length of the benchmark.
func mountMore(b *testing.B, number int) {
	b.Helper()
	hosttest.NeedRoot(b)
	base := b.TempDir()
	for n := range number {
		dir := filepath.Join(base, fmt.Sprintf("a-path-about-as-long-as-those-of-the-kubelet-%d", n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			b.Fatal(err)
		}
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
}
