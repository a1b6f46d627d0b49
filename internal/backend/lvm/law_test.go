package lvm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/lab"
)

// guest is a machine with LVM, which most hosts of tests lack.
func guest(disks ...int64) lab.Guest {
	g := lab.Guest{
		MemoryMiB: 768,
		Modules:   []string{"dm-mod", "dm-snapshot", "dm-thin-pool", "dm-raid", "dm-integrity"}, Programs: []string{"lvm", "dmsetup"},
	}
	for _, d := range disks {
		g.Disks = append(g.Disks, lab.Disk{Size: d})
	}
	return g
}

// newGroup makes a volume group of disks, each behind a mapping of its own so that it can be pulled out.
func newGroup(t testing.TB, name string, disks ...int) {
	t.Helper()
	args := []string{name}
	for _, d := range disks {
		args = append(args, pvPath(d))
		lab.Output(t, "dmsetup", "create", "--noudevsync", "--noudevrules", filepath.Base(pvPath(d)), "--table", linear(t, d))
		lab.Output(t, "dmsetup", "mknodes")
	}
	lab.Output(t, "vgcreate", args...)
}

func pvPath(disk int) string { return fmt.Sprintf("/dev/mapper/disk%d", disk) }

func linear(t testing.TB, disk int) string {
	t.Helper()
	return fmt.Sprintf("0 %d linear %s %d", sectors(t, disk), lab.DiskPath(disk), skipped)
}

// skipped sectors keep LVM from finding the same label on the disk itself.
const skipped = 2048

// sectors is the size of the mapping over a disk.
func sectors(t testing.TB, disk int) int64 {
	t.Helper()
	size, err := host.New().DeviceSize("test", lab.DiskPath(disk))
	if err != nil {
		t.Fatal(err)
	}
	return size/512 - skipped
}

// pull makes disks fail every read and write, all at the same moment; push brings them back as they were.
func pull(t testing.TB, disks ...int) {
	t.Helper()
	swap(t, disks, func(disk int) string { return fmt.Sprintf("0 %d error", sectors(t, disk)) })
}

func push(t testing.TB, disks ...int) {
	t.Helper()
	swap(t, disks, func(disk int) string { return linear(t, disk) })
}

// swap gives disks other tables. All stand still meanwhile: a raid whose disks go one after another may write
// on the last of them that the others have failed, and is then lost for the kernel when they are back.
func swap(t testing.TB, disks []int, table func(disk int) string) {
	t.Helper()
	each := func(do func(disk int, name string)) {
		for _, d := range disks {
			do(d, filepath.Base(pvPath(d)))
		}
	}
	each(func(_ int, name string) { lab.Output(t, "dmsetup", "suspend", "--noflush", "--nolockfs", name) })
	each(func(d int, name string) { lab.Output(t, "dmsetup", "load", name, "--table", table(d)) })
	each(func(_ int, name string) { lab.Output(t, "dmsetup", "resume", name) })
}

func openPool(t testing.TB, h *host.Host, options map[string]string) backend.Backend {
	t.Helper()
	k := Kind(h)
	all, err := backend.Complete("options", k.Options, options)
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Open(t.Context(), backend.Config{Pool: "main", Node: "n1", Options: all})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLaw holds the backend to the contract: with real LVM in a real kernel, for each layout.
func TestLaw(t *testing.T) {
	for name, c := range map[string]struct {
		disks   int
		row     int64 // extents that volumes are a multiple of
		options map[string]string
	}{
		"linear":    {2, 1, map[string]string{"type": "thick"}},
		"striped":   {3, 3, map[string]string{"type": "thick", "layout": "striped", "stripes": "3"}},
		"raid1":     {2, 1, map[string]string{"type": "thick", "layout": "raid1"}},
		"raid5":     {3, 2, map[string]string{"type": "thick", "layout": "raid5"}},
		"raid10":    {4, 2, map[string]string{"type": "thick", "layout": "raid10"}},
		"integrity": {3, 1, map[string]string{"type": "thick", "layout": "raid1", "integrity": "true"}},
		"thin":      {2, 1, map[string]string{"type": "thin", "thinPool": "shared", "overprovision": "2.0", "autoExtend": "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab.Long(t, "5 to 10 minutes")
			if !lab.Run(t, guest(slices.Repeat([]int64{320 * mib}, c.disks)...)) {
				return
			}
			var disks []int
			for d := range c.disks {
				disks = append(disks, d)
			}
			newGroup(t, "vg-0", disks...)
			c.options["volumeGroup"] = "vg-0"
			backendtest.Run(t, law(c.options, disks, c.row))
		})
	}
}

func law(options map[string]string, disks []int, row int64) backendtest.Harness {
	open := func(t testing.TB) backend.Backend { t.Helper(); return openPool(t, host.New(), options) }
	kind := Kind(host.New())
	kind.Granularity, kind.MinSize = row*kind.Granularity, row*kind.MinSize // what is asked for is rounded up to rows
	return backendtest.Harness{
		Kind: kind, Node: "n1",
		Open:        open,
		Reopen:      func(t testing.TB, _ backend.Backend) backend.Backend { t.Helper(); return open(t) },
		Unreachable: func(t testing.TB, _ backend.Backend) func() { return unreachable(t, disks) },
		Strangers:   strangers,
		Leaks:       leaks,
		Size:        8 * mib, // two extents: more than the temporary snapshot of a copy has
		Callers:     4,       // each command of LVM takes a third of a second in the guest
		Timeout:     5 * time.Minute,
		Thin:        options["type"] == "thin",
	}
}

func unreachable(t testing.TB, disks []int) (restore func()) {
	t.Helper()
	pull(t, disks...)
	return func() { push(t, disks...) }
}

// strangers makes LVs of others: with no tags, with tags of their own, with a name like ours, and of
// another pool.
func strangers(t testing.TB, _ backend.Backend) (remove func() error) {
	t.Helper()
	names := []string{"home", "dozo.main.law-0", "theirs", "dozo.other.law-1", "nonsense"}
	tags := [][]string{nil, nil, {"dozo"}, {"dozo=volume/other/law-1"}, {"dozo=volume/main"}}
	for i, n := range names {
		args := []string{"--yes", "--extents", "1", "--name", n}
		lab.Output(t, "lvcreate", append(append(args, addTags(tags[i])...), "vg-0")...)
	}
	return func() error {
		for _, n := range names {
			if _, err := os.Stat("/dev/vg-0/" + n); err != nil {
				return err
			}
			lab.Output(t, "lvremove", "--yes", "vg-0/"+n)
		}
		return nil
	}
}

// leaks are LVs and mappings that an empty pool has not.
func leaks(t testing.TB, _ backend.Backend) (left []string) {
	t.Helper()
	for _, l := range strings.Fields(lab.Output(t, "lvs", "--all", "--noheadings", "-o", "lv_name", "vg-0")) {
		if !strings.Contains(l, "shared") && !strings.Contains(l, "pmspare") {
			left = append(left, "LV "+l)
		}
	}
	for line := range strings.Lines(lab.Output(t, "dmsetup", "ls")) {
		if name, _, _ := strings.Cut(line, "\t"); strings.HasPrefix(name, "vg--0-") && !strings.Contains(name, "shared") {
			left = append(left, "mapping "+name)
		}
	}
	return left
}
