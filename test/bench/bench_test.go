// Package bench measures the driver's operations, and counts what they ask of the machine: effects and
// programs run must not grow with the number of volumes.
package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
)

const size = 64 << 20

// bed is a driver whose effects are counted.
type bed struct {
	pool              *pool.Pool
	node              *node.Node
	dir               string
	effects, programs atomic.Int64
}

// newBed has a pool on xfs with a number of volumes in it already.
func newBed(b testing.TB, volumes int) *bed {
	b.Helper()
	dir := hosttest.FileSystem(b, "xfs", 64<<30)
	d := &bed{dir: dir}
	h := host.New()
	h.Seam = func(e host.Effect, do func() error) error {
		if e.Program {
			d.programs.Add(1)
		}
		if !e.Reads {
			d.effects.Add(1)
		}
		return do()
	}
	for _, sub := range []string{"images", "staging"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	set, err := pool.OpenSet(b.Context(), all.Kinds(h), []pool.Spec{{
		Name: "p", Kind: "loopfile", Options: map[string]string{"path": filepath.Join(dir, "images"), "spare": "0"},
	}}, pool.Options{Node: "n1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	d.pool = set.All()[0]
	if d.node, err = node.New(h, set, node.Options{Name: "n1", StateDir: filepath.Join(dir, "state"), TargetRoot: dir}); err != nil {
		b.Fatal(err)
	}
	for n := range volumes {
		d.create(b, fmt.Sprintf("old-%d", n))
	}
	return d
}

func (d *bed) create(b testing.TB, name string) {
	if _, err := d.pool.Create(context.Background(), pool.VolumeRequest{Name: name, Required: size}); err != nil {
		b.Fatal(err)
	}
}

func (d *bed) delete(b testing.TB, name string) {
	if err := d.pool.Delete(context.Background(), backend.ID(name)); err != nil {
		b.Fatal(err)
	}
}

func (d *bed) stage(b testing.TB, name string) {
	if err := d.node.Stage(context.Background(), node.StageRequest{
		Volume: "p:" + name, Access: backend.LocalAccess("p", backend.ID(name)), Staging: filepath.Join(d.dir, "staging"), FSType: "xfs",
		MkfsOptions: nil,
	}); err != nil {
		b.Fatal(err)
	}
}

func (d *bed) unstage(b testing.TB, name string) {
	if err := d.node.Unstage(context.Background(), "p:"+name, filepath.Join(d.dir, "staging")); err != nil {
		b.Fatal(err)
	}
}

func (d *bed) publish(b testing.TB, name string) {
	if err := d.node.Publish(context.Background(), node.PublishRequest{
		Volume: "p:" + name, Staging: filepath.Join(d.dir, "staging"), Target: filepath.Join(d.dir, "target"),
	}); err != nil {
		b.Fatal(err)
	}
}

func (d *bed) unpublish(b testing.TB, name string) {
	if err := d.node.Unpublish(context.Background(), "p:"+name, filepath.Join(d.dir, "target")); err != nil {
		b.Fatal(err)
	}
}

// each runs an operation with 1 and with 500 volumes in the pool, and reports what it asked for.
func each(b *testing.B, prepare func(*testing.B, *bed), run func(*testing.B, *bed, int)) {
	for _, volumes := range []int{1, 500} {
		b.Run(fmt.Sprintf("volumes=%d", volumes), func(b *testing.B) {
			d := newBed(b, volumes)
			prepare(b, d)
			d.effects.Store(0)
			d.programs.Store(0)
			b.ResetTimer()
			for n := 0; n < b.N; n++ {
				run(b, d, n)
			}
			b.StopTimer()
			b.ReportMetric(float64(d.effects.Load())/float64(b.N), "effects/op")
			b.ReportMetric(float64(d.programs.Load())/float64(b.N), "programs/op")
		})
	}
}

func nothing(*testing.B, *bed) {}

func BenchmarkCreateDelete(b *testing.B) {
	each(b, nothing, func(b *testing.B, d *bed, n int) {
		name := fmt.Sprintf("v%d", n)
		d.create(b, name)
		d.delete(b, name)
	})
}

func BenchmarkPublishUnpublish(b *testing.B) {
	each(b, func(b *testing.B, d *bed) {
		if _, err := d.pool.Create(b.Context(), pool.VolumeRequest{Name: "v", Required: 300 << 20}); err != nil {
			b.Fatal(err)
		}
		d.stage(b, "v")
		b.Cleanup(func() { d.unstage(b, "v") })
	}, func(b *testing.B, d *bed, _ int) {
		d.publish(b, "v")
		d.unpublish(b, "v")
	})
}

func BenchmarkStageUnstage(b *testing.B) {
	each(b, func(b *testing.B, d *bed) {
		if _, err := d.pool.Create(b.Context(), pool.VolumeRequest{Name: "v", Required: 300 << 20}); err != nil {
			b.Fatal(err)
		}
	}, func(b *testing.B, d *bed, _ int) {
		d.stage(b, "v")
		d.unstage(b, "v")
	})
}

func BenchmarkSnapshot(b *testing.B) {
	each(b, func(b *testing.B, d *bed) { d.create(b, "v") }, func(b *testing.B, d *bed, _ int) {
		if _, err := d.pool.Snapshot(b.Context(), "s", "v"); err != nil {
			b.Fatal(err)
		}
		if err := d.pool.DeleteSnapshot(b.Context(), "s"); err != nil {
			b.Fatal(err)
		}
	})
}
