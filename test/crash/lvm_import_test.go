package crash

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/test/lab"
)

// importTurns take an LV that somebody else made, and give it back.
func importTurns(t *testing.T, lvcreate ...string) []Turn {
	v := bare{"v", 8 * mib}
	lvm := func(command string, args ...string) do {
		return func(context.Context, Driver) error {
			_, err := lab.Try(t, command, args...)
			return err
		}
	}
	take := func(ctx context.Context, d Driver) error {
		got, err := d.Pool.ImportExact(ctx, "vg/theirs", backend.Request{ID: v.id, Name: string(v.id)})
		if err == nil && got.Size != v.size {
			err = fmt.Errorf("it has %d bytes", got.Size)
		}
		return err
	}
	give := func(ctx context.Context, d Driver) error {
		if err := lvm("lvchange", "--deltag", "dozo=volume/p/v", "--deltag", "dozo.from=theirs", "--deltag", "dozo.mark=raw:done", "vg/dozo.p.v")(ctx, d); err != nil {
			return err
		}
		return lvm("lvrename", "vg", "dozo.p.v", "theirs")(ctx, d)
	}
	look := func(ctx context.Context, d Driver) error {
		if err := v.marked(backend.Mark{FS: backend.Raw, Done: true})(ctx, d); err != nil {
			return err
		}
		if _, err := os.Stat("/dev/vg/dozo.p.v"); err != nil { // it has its new name
			return err
		}
		return v.holds(7, v.size)(ctx, d)
	}
	return []Turn{
		{Step: step("somebody makes an LV", lvm("lvcreate", append(lvcreate, "--yes", "--name", "theirs", "vg")...)), Made: true},
		{Step: step("import", take), Made: true},
		{Step: step("write", v.write(7)), Made: true},
		{Step: step("give back", give), Made: true},
		{Step: step("import", take), Check: look, Undo: give},
		{Step: step("delete", v.delete), Made: true},
	}
}

// TestLVMImport kills the import of LVs, and LVM's commands in the middle: the data is there, under one name
// or the other, and the next call finishes it.
func TestLVMImport(t *testing.T) {
	for name, options := range map[string]map[string]string{
		"thick": {"type": "thick", "wipe": "none"},
		"thin":  {"type": "thin", "thinPool": "tp", "autoExtend": "0"},
	} {
		t.Run(name, func(t *testing.T) {
			if !lab.Run(t, lab.Guest{
				MemoryMiB: 768, Disks: []lab.Disk{{Size: 256 * mib}},
				Modules: []string{"dm-mod", "dm-snapshot", "dm-thin-pool"}, Programs: []string{"lvm", "dmsetup"},
			}) {
				return
			}
			how := []string{"--size", "8m"}
			if name == "thin" {
				how = []string{"--virtualsize", "8m", "--thinpool", "tp"}
			}
			if os.Getenv(orderVariable) == "" {
				lab.Output(t, "vgcreate", "vg", lab.DiskPath(0))
				if name == "thin" {
					lab.Output(t, "lvcreate", "--yes", "--type", "thin-pool", "--name", "tp", "--size", "100m", "vg")
				}
			}
			options["volumeGroup"] = "vg"
			TryTurns(t, Turns{Open: openLVM(options), Turns: importTurns(t, how...), Show: func() string { return showLVM(t) }})
		})
	}
}
