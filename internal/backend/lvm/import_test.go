package lvm

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/lab"
)

// foreign makes an LV as somebody else would, with recognisable data at its begin.
func foreign(t testing.TB, name string, args ...string) {
	t.Helper()
	lab.Output(t, "lvcreate", append(append([]string{"--yes", "--name", name}, args...), "vg")...)
	f, err := os.OpenFile("/dev/vg/"+name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(mark(0), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func imported(id backend.ID) backend.Request {
	return backend.Request{ID: id, Name: string(id)}
}

// keeps checks that a volume has the data of the LV that it was.
func keeps(t testing.TB, b backend.Backend, id backend.ID) {
	t.Helper()
	f := device(t, b, id)
	defer f.Close()
	got := host.AlignedBuffer(mib)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, mark(0)) {
		t.Errorf("volume %s has not the data of the LV that it was: %v", id, err)
	}
}

// TestImport takes LVs that somebody else made into thick and thin pools, with their data.
func TestImport(t *testing.T) {
	if !lab.Run(t, guest(400*mib, 400*mib)) {
		return
	}
	newGroup(t, "vg", 0, 1)
	lab.Output(t, "lvcreate", "--yes", "--type", "thin-pool", "--name", "tp", "--size", "100m", "vg")
	thick := openPool(t, host.New(), map[string]string{"volumeGroup": "vg"})
	mirror := openPool(t, host.New(), map[string]string{"volumeGroup": "vg", "layout": "raid1"})
	thin := openPool(t, host.New(), map[string]string{"volumeGroup": "vg", "type": "thin", "thinPool": "tp", "overprovision": "3"})
	foreign(t, "data", "--size", "16m")
	foreign(t, "both", "--size", "16m", "--type", "raid1", "--mirrors", "1")
	foreign(t, "slim", "--virtualsize", "32m", "--thinpool", "tp")
	for _, c := range []struct {
		pool backend.Backend
		from string
		id   backend.ID
		size int64
	}{{thick, "vg/data", "a", 16 * mib}, {mirror, "both", "m", 16 * mib}, {thin, "/dev/vg/slim", "s", 32 * mib}} {
		before, err := c.pool.Capacity(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // it can be repeated
			v, err := c.pool.(backend.Importer).Import(t.Context(), c.from, imported(c.id))
			if err != nil || v.Size != c.size || v.ID != c.id || v.Nodes[0] != "n1" {
				t.Fatalf("%s became %+v, %v", c.from, v, err)
			}
		}
		if after, err := c.pool.Capacity(t.Context(), ""); err != nil || after != before {
			t.Errorf("%s: what it had of the pool already was taken again: %+v, before %+v, %v", c.from, after, before, err)
		}
		keeps(t, c.pool, c.id)
		if m, err := c.pool.(backend.Marker).Mark(t.Context(), c.id); err != nil || !m.Done {
			t.Errorf("%s may be formatted: mark %+v, %v", c.from, m, err)
		}
		// A Create that finds it must not take it for one that is blank.
		again := openPool(t, host.New(), map[string]string{"volumeGroup": "vg"})
		if c.pool == thick {
			if _, err := again.Create(t.Context(), backend.Request{ID: c.id, Name: string(c.id), Size: c.size}); err != nil {
				t.Error(err)
			}
			keeps(t, again, c.id)
		}
	}
	if out := lab.Output(t, "lvs", "--noheadings", "-o", "lv_name,lv_tags", "vg"); strings.Contains(out, " data ") || !strings.Contains(out, "dozo.from=data") {
		t.Errorf("the LVs have their old names:\n%s", out)
	} else {
		fmt.Printf("lvm: imported:\n%s", out)
	}
	if v, err := thick.(backend.Expander).Expand(t.Context(), "a", 24*mib); err != nil || v.Size != 24*mib {
		t.Errorf("it cannot grow: %+v, %v", v, err)
	}
	keeps(t, thick, "a")
	for id, b := range map[backend.ID]backend.Backend{"a": thick, "m": mirror, "s": thin} {
		if err := b.Delete(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// TestImportRefuses: what cannot be a volume of the pool stays as it is, and the reason is said.
func TestImportRefuses(t *testing.T) {
	if !lab.Run(t, guest(400*mib, 400*mib)) {
		return
	}
	newGroup(t, "vg", 0, 1)
	lab.Output(t, "lvcreate", "--yes", "--type", "thin-pool", "--name", "tp", "--size", "100m", "vg")
	thick := openPool(t, host.New(), map[string]string{"volumeGroup": "vg"})
	thin := openPool(t, host.New(), map[string]string{"volumeGroup": "vg", "type": "thin", "thinPool": "tp"})
	other := openPool(t, host.New(), map[string]string{"volumeGroup": "vg", "type": "thin", "thinPool": "elsewhere", "thinPoolSize": "40Mi"})
	foreign(t, "linear", "--size", "8m")
	foreign(t, "mirrored", "--size", "8m", "--type", "raid1", "--mirrors", "1")
	foreign(t, "slim", "--virtualsize", "8m", "--thinpool", "tp")
	foreign(t, "open", "--size", "8m")
	foreign(t, "origin", "--size", "8m")
	foreign(t, "dozo.main.taken", "--size", "8m")
	lab.Output(t, "lvcreate", "--yes", "--snapshot", "--name", "snap", "--size", "8m", "vg/origin")
	foreign(t, "fixed", "--size", "8m")
	lab.Output(t, "lvchange", "--permission", "r", "vg/fixed")
	held, err := os.Open("/dev/vg/open")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	create(t, thick, "ours", 8)
	before := lab.Output(t, "lvs", "--all", "--noheadings", "-o", "lv_name,lv_size,lv_tags,segtype", "vg")
	for _, c := range []struct {
		what  string
		pool  backend.Backend
		from  string
		id    backend.ID
		kind  errs.Kind
		words string
	}{
		{"thin into thick", thick, "vg/slim", "x", errs.Invalid, "volumes of pool main are linear"},
		{"thick into thin", thin, "vg/linear", "x", errs.Invalid, "is no thin volume"},
		{"of another thin pool", other, "vg/slim", "x", errs.Invalid, "is in thin pool tp"},
		{"of another layout", thick, "vg/mirrored", "x", errs.Invalid, "is raid1 on 2 disks"},
		{"one that is open", thick, "vg/open", "x", errs.InUse, "mounted or open on node n1"},
		{"one with a snapshot", thick, "vg/origin", "x", errs.InUse, "has the snapshots snap"},
		{"a snapshot", thick, "vg/snap", "x", errs.Invalid, "is a snapshot"},
		{"a thin pool", thick, "vg/tp", "x", errs.Invalid, "is thin-pool"},
		{"a part", thick, "vg/mirrored_rimage_0", "x", errs.Invalid, "is a part of"},
		{"one that can only be read", thick, "vg/fixed", "x", errs.Invalid, "can only be read"},
		{"Dozo's own", thick, "vg/dozo.main.ours", "x", errs.Exists, "volume/main/ours"},
		{"for an ID that is taken", thick, "vg/linear", "ours", errs.Exists, "another volume"},
		{"for a name that is taken", thick, "vg/linear", "taken", errs.Exists, "dozo.main.taken"},
		{"one that is not there", thick, "vg/nothing", "x", errs.NotFound, "no logical volume nothing"},
		{"of no group", thick, "nothing", "x", errs.NotFound, "no logical volume nothing"},
		{"of another group", thick, "vg9/linear", "x", errs.Invalid, "is on vg and not on"},
		{"an option", thick, "vg/--all", "x", errs.Invalid, "is not a logical volume"},
	} {
		v, err := c.pool.(backend.Importer).Import(t.Context(), c.from, imported(c.id))
		if !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %+v, %v; want %v with %q", c.what, v, err, c.kind, c.words)
		} else {
			t.Logf("%s: %v", c.what, err)
		}
	}
	if after := lab.Output(t, "lvs", "--all", "--noheadings", "-o", "lv_name,lv_size,lv_tags,segtype", "vg"); after != before {
		t.Errorf("what was refused is not as it was:\n%s\nbefore:\n%s", after, before)
	}
}
