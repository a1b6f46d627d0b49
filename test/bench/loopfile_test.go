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
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/bench/report"
)

const size = 64 << 20

// bed is a driver whose effects are counted.
type bed struct {
	pool              *pool.Pool
	node              *node.Node
	dir               string
	effects, programs atomic.Int64
	tables            atomic.Int64 // readings of the mount table
}

// newBed has a pool on xfs with a number of volumes in it already.
func newBed(t testing.TB, volumes int) *bed {
	t.Helper()
	dir := hosttest.FileSystem(t, "xfs", 64<<30)
	d := &bed{dir: dir}
	h := host.New()
	h.Seam = func(e host.Effect, do func() error) error {
		if e.Op == "mounts" {
			d.tables.Add(1)
		}
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
			t.Fatal(err)
		}
	}
	set, err := pool.OpenSet(t.Context(), all.Kinds(h), []pool.Spec{{
		Name: "p", Kind: "loopfile", Options: map[string]string{"path": filepath.Join(dir, "images"), "spare": "0"},
	}}, pool.Options{Node: "n1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d.pool = set.All()[0]
	if d.node, err = node.New(h, set, node.Options{Name: "n1", StateDir: filepath.Join(dir, "state"), TargetRoot: dir}); err != nil {
		t.Fatal(err)
	}
	for n := range volumes {
		d.create(t, fmt.Sprintf("old-%d", n))
	}
	return d
}

func (d *bed) create(t testing.TB, name string) {
	if _, err := d.pool.Create(context.Background(), pool.VolumeRequest{Name: name, Required: size}); err != nil {
		t.Fatal(err)
	}
}

// large makes a volume that xfs fits into.
func (d *bed) large(t testing.TB, name string) {
	if _, err := d.pool.Create(t.Context(), pool.VolumeRequest{Name: name, Required: 300 << 20}); err != nil {
		t.Fatal(err)
	}
}

func (d *bed) delete(t testing.TB, name string) {
	if err := d.pool.Delete(context.Background(), backend.ID(name)); err != nil {
		t.Fatal(err)
	}
}

func (d *bed) stage(t testing.TB, name string) {
	if err := d.node.Stage(context.Background(), node.StageRequest{
		Volume: "p:" + name, Access: backend.LocalAccess("p", backend.ID(name)), Staging: filepath.Join(d.dir, "staging"), FSType: "xfs",
		MkfsOptions: nil,
	}); err != nil {
		t.Fatal(err)
	}
}

func (d *bed) unstage(t testing.TB, name string) {
	if err := d.node.Unstage(context.Background(), "p:"+name, filepath.Join(d.dir, "staging")); err != nil {
		t.Fatal(err)
	}
}

func (d *bed) publish(t testing.TB, name string) {
	if err := d.node.Publish(context.Background(), node.PublishRequest{
		Volume: "p:" + name, Staging: filepath.Join(d.dir, "staging"), Target: filepath.Join(d.dir, "target"),
	}); err != nil {
		t.Fatal(err)
	}
}

func (d *bed) unpublish(t testing.TB, name string) {
	if err := d.node.Unpublish(context.Background(), "p:"+name, filepath.Join(d.dir, "target")); err != nil {
		t.Fatal(err)
	}
}

// TestLoopfile measures operations with 1 and with 500 volumes in the pool, and counts what they ask for.
func TestLoopfile(t *testing.T) {
	rounds, many := 2, 3
	if full() {
		rounds, many = 20, 500
	}
	for _, op := range []struct {
		name    string
		prepare func(*testing.T, *bed)
		run     func(t *testing.T, d *bed, round int)
	}{
		{"create and delete", func(*testing.T, *bed) {}, func(t *testing.T, d *bed, round int) {
			name := fmt.Sprintf("v%d", round)
			d.create(t, name)
			d.delete(t, name)
		}},
		{"publish and unpublish", func(t *testing.T, d *bed) {
			d.large(t, "v")
			d.stage(t, "v")
			t.Cleanup(func() { d.unstage(t, "v") })
		}, func(t *testing.T, d *bed, _ int) {
			d.publish(t, "v")
			d.unpublish(t, "v")
		}},
		{"stage and unstage", func(t *testing.T, d *bed) { d.large(t, "v") }, func(t *testing.T, d *bed, _ int) {
			d.stage(t, "v")
			d.unstage(t, "v")
		}},
		{"snapshot and delete it", func(t *testing.T, d *bed) { d.create(t, "v") }, func(t *testing.T, d *bed, _ int) {
			if _, err := d.pool.Snapshot(t.Context(), "s", "v"); err != nil {
				t.Fatal(err)
			}
			if err := d.pool.DeleteSnapshot(t.Context(), "s"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		for _, volumes := range []int{1, many} {
			t.Run(fmt.Sprintf("%s/%d", op.name, volumes), func(t *testing.T) {
				d := newBed(t, volumes)
				op.prepare(t, d)
				d.measure(t, fmt.Sprintf("loopfile: %s, %d volumes", op.name, volumes), rounds, op.run)
			})
		}
	}
}

func (d *bed) measure(t *testing.T, name string, rounds int, run func(*testing.T, *bed, int)) {
	t.Helper()
	var took, effects, programs, tables []float64
	for round := range rounds {
		d.effects.Store(0)
		d.programs.Store(0)
		d.tables.Store(0)
		began := time.Now()
		run(t, d, round)
		took = append(took, ms(time.Since(began)))
		effects, programs = append(effects, float64(d.effects.Load())), append(programs, float64(d.programs.Load()))
		tables = append(tables, float64(d.tables.Load()))
	}
	keep(t, report.New(name, "host", "ms", nil, took), report.New(name, "host", "effects", nil, effects), report.New(name, "host", "programs", nil, programs),
		report.New(name, "host", "mount tables", nil, tables))
}
