package crash

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab"
)

// openLVM starts a pool of LVM volumes; what nodes do with volumes is tried with image files.
func openLVM(options map[string]string) func(context.Context, *host.Host, string) (Driver, error) {
	return func(ctx context.Context, h *host.Host, dir string) (Driver, error) {
		set, err := pool.OpenSet(ctx, []backend.Kind{lvm.Kind(h)}, []pool.Spec{{Name: "p", Kind: "lvm", Options: options}},
			pool.Options{Node: "n1", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return Driver{}, err
		}
		return Driver{Host: h, Pool: set.All()[0], Dir: dir}, nil
	}
}

// bare is a volume as LVM tests use it: its device, with recognisable data at both ends.
type bare struct {
	id   backend.ID
	size int64
}

type do = func(context.Context, Driver) error

func (v bare) create(s backend.Source) do {
	return func(ctx context.Context, d Driver) error {
		made, err := d.Pool.Create(ctx, pool.VolumeRequest{Name: string(v.id), Required: v.size, Source: s})
		if err == nil && made.Size != v.size {
			err = fmt.Errorf("it has %d bytes", made.Size)
		}
		return err
	}
}

func (v bare) delete(ctx context.Context, d Driver) error { return d.Pool.Delete(ctx, v.id) }

func (v bare) expand(size int64) do {
	return func(ctx context.Context, d Driver) error {
		made, err := d.Pool.Expand(ctx, v.id, size, 0)
		if err == nil && made.Size != size {
			err = fmt.Errorf("it has %d bytes", made.Size)
		}
		return err
	}
}

func (v bare) mark(m backend.Mark) do {
	return func(ctx context.Context, d Driver) error { return d.Pool.SetMark(ctx, v.id, m) }
}

const piece = 64 << 10

// at is where data is written: the begin, and the end as it was at first.
func (v bare) at() []int64 { return []int64{0, v.size - piece} }

func (v bare) open(ctx context.Context, d Driver) (*os.File, error) {
	path, err := d.Pool.Activate(ctx, v.id)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
}

func (v bare) write(seed byte) do {
	return func(ctx context.Context, d Driver) error {
		f, err := v.open(ctx, d)
		if err != nil {
			return err
		}
		defer f.Close()
		for _, at := range v.at() {
			b := host.AlignedBuffer(piece)
			copy(b, bytes.Repeat([]byte{seed}, piece))
			if _, err := f.WriteAt(b, at); err != nil {
				return err
			}
		}
		return f.Sync()
	}
}

// holds checks that the volume has what write wrote, or zeros for seed 0, up to its present size.
func (v bare) holds(seed byte, size int64) do {
	return func(ctx context.Context, d Driver) error {
		f, err := v.open(ctx, d)
		if err != nil {
			return err
		}
		defer f.Close()
		want := map[int64]byte{size - piece: 0, 0: seed, v.size - piece: seed}
		for at, seed := range want {
			b := host.AlignedBuffer(piece)
			if _, err := f.ReadAt(b, at); err != nil {
				return err
			}
			if !bytes.Equal(b, bytes.Repeat([]byte{seed}, piece)) {
				return fmt.Errorf("at %d there is not what was written (%d) but %d", at, seed, b[0])
			}
		}
		return nil
	}
}

func (v bare) marked(m backend.Mark) do {
	return func(ctx context.Context, d Driver) error {
		got, _, err := d.Pool.Mark(ctx, v.id)
		if err == nil && got != m {
			err = fmt.Errorf("the mark is %+v", got)
		}
		return err
	}
}

func snapshot(name string, of backend.ID) do {
	return func(ctx context.Context, d Driver) error {
		_, err := d.Pool.Snapshot(ctx, name, of)
		return err
	}
}

func deleteSnapshot(name backend.ID) do {
	return func(ctx context.Context, d Driver) error { return d.Pool.DeleteSnapshot(ctx, name) }
}

func step(name string, f do) Step { return Step{Name: name, Do: f} }

// lvmTurns are the calls of a volume's life with a snapshot and what is restored from it.
func lvmTurns() []Turn {
	v, larger, clone := bare{"v", 8 * mib}, bare{"larger", 12 * mib}, bare{"clone", 8 * mib}
	restored := bare{"larger", 8 * mib} // where the snapshot's data is in it
	done := backend.Mark{FS: "ext4", Done: true}
	copied := backend.Mark{FS: "ext4", Done: true, Copied: true}
	both := func(all ...do) do {
		return func(ctx context.Context, d Driver) error {
			for _, f := range all {
				if err := f(ctx, d); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return []Turn{
		{Step: step("create", v.create(backend.Source{})), Check: v.holds(0, v.size), Undo: v.delete},
		{Step: step("mark", v.mark(done)), Check: v.marked(done), Undo: v.mark(backend.Mark{})},
		{Step: step("write", v.write(1)), Made: true},
		{Step: step("snapshot", snapshot("s", "v")), Check: v.holds(1, v.size), Undo: deleteSnapshot("s")},
		{Step: step("write on", v.write(2)), Made: true},
		{Step: step("restore", larger.create(backend.Source{Snapshot: "s"})),
			Check: both(restored.holds(1, larger.size), larger.marked(copied), v.holds(2, v.size)), Undo: larger.delete},
		{Step: step("delete", larger.delete), Undo: larger.create(backend.Source{Snapshot: "s"})},
		{Step: step("clone", clone.create(backend.Source{Volume: "v"})), Check: clone.holds(2, clone.size), Made: true},
		{Step: step("delete the clone", clone.delete), Made: true},
		{Step: step("delete snapshot", deleteSnapshot("s")), Made: true},
		{Step: step("expand", v.expand(16*mib)), Check: v.holds(2, 16*mib), Undo: both(v.delete, v.create(backend.Source{}), v.write(2))},
		{Step: step("delete all", v.delete), Made: true},
	}
}

// firstThin is the call that makes the thin pool.
func firstThin(t *testing.T) []Turn {
	first := bare{"first", 8 * mib}
	return []Turn{
		{Step: step("create the first", first.create(backend.Source{})), Check: first.holds(0, first.size),
			Undo: func(ctx context.Context, d Driver) error {
				if err := first.delete(ctx, d); err != nil {
					return err
				}
				_, err := lab.Try(t, "lvremove", "--yes", "vg/dozo.p")
				return err
			}},
		{Step: step("delete the first", first.delete), Made: true},
	}
}

// TestLVM kills the calls of thick and thin pools, and LVM's commands in the middle.
func TestLVM(t *testing.T) {
	for name, options := range map[string]map[string]string{
		"thick": {"type": "thick"},
		"thin":  {"type": "thin", "overprovision": "2.0", "autoExtend": "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab.Long(t, "4 to 10 minutes")
			if !lab.Run(t, lab.Guest{
				MemoryMiB: 768, Disks: []lab.Disk{{Size: 256 * mib}},
				Modules: []string{"dm-mod", "dm-snapshot", "dm-thin-pool"}, Programs: []string{"lvm", "dmsetup"},
			}) {
				return
			}
			if os.Getenv(orderVariable) == "" {
				lab.Output(t, "vgcreate", "vg", lab.DiskPath(0))
			}
			options["volumeGroup"] = "vg"
			turns := lvmTurns()
			if name == "thin" {
				turns = slices.Concat(firstThin(t), turns)
			}
			TryTurns(t, Turns{Open: openLVM(options), Turns: turns, Left: leftInLVM(t), Show: func() string { return showLVM(t) }})
		})
	}
}

func showLVM(t *testing.T) string {
	lvs, _ := lab.Try(t, "lvs", "--all", "-o", "lv_name,lv_attr,lv_size,origin,lv_active,lv_tags", "vg")
	table, _ := lab.Try(t, "dmsetup", "table")
	info, _ := lab.Try(t, "dmsetup", "info", "-c")
	return lvs + table + info
}

// leftInLVM lists LVs and mappings other than those of the thin pool.
func leftInLVM(t *testing.T) func(string) []string {
	return func(string) (left []string) {
		for _, l := range strings.Fields(lab.Output(t, "lvs", "--all", "--noheadings", "-o", "lv_name", "vg")) {
			if !strings.Contains(l, "dozo.p]") && !strings.HasPrefix(strings.Trim(l, "[]"), "dozo.p_") && l != "dozo.p" && !strings.Contains(l, "pmspare") {
				left = append(left, "LV "+l)
			}
		}
		for line := range strings.Lines(lab.Output(t, "dmsetup", "ls")) {
			if name, _, _ := strings.Cut(line, "\t"); strings.HasPrefix(name, "vg-") && !strings.HasPrefix(name, "vg-dozo.p_") && !strings.HasPrefix(name, "vg-dozo.p-tpool") && name != "vg-dozo.p" {
				left = append(left, "mapping "+name)
			}
		}
		return left
	}
}
