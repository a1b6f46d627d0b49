package layout

import (
	"testing"

	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
)

// group is one with a physical volume for each number of free extents, of 4 MiB.
func group(free ...int64) *vg.State {
	s := &vg.State{VG: &metadata.VG{Name: "vg", ExtentSize: 4 << 20}, Most: 1 << 20}
	for _, f := range free {
		s.PVs = append(s.PVs, metadata.PV{Extents: 100, Free: f, Allocatable: true})
	}
	return s
}

func TestLayoutRoom(t *testing.T) {
	layoutOf := func(name string) Layout { return New(name, 2, 2, 64<<10, false) }
	sums := New("raid1", 2, 2, 64<<10, true)
	for what, c := range map[string]struct {
		l         Layout
		free      []int64
		spare     int64 // extents
		available int64
		largest   int64
	}{
		"linear":                         {layoutOf("linear"), []int64{10, 20}, 0, 30, 30},
		"linear with spare":              {layoutOf("linear"), []int64{10, 20}, 5, 25, 25},
		"linear, all spare":              {layoutOf("linear"), []int64{10, 20}, 50, 0, 0},
		"striped":                        {layoutOf("striped"), []int64{10, 20}, 0, 20, 20},
		"striped over one disk":          {layoutOf("striped"), []int64{20}, 0, 0, 0},
		"striped, one after the other":   {layoutOf("striped"), []int64{10, 10, 10, 10}, 0, 40, 20},
		"striped with spare":             {layoutOf("striped"), []int64{20, 20}, 10, 30, 30},
		"a mirror takes twice":           {layoutOf("raid1"), []int64{10, 10}, 0, 9, 9},
		"a mirror on unequal disks":      {layoutOf("raid1"), []int64{10, 50}, 0, 9, 9},
		"mirrors, on three disks":        {layoutOf("raid1"), []int64{10, 10, 10}, 0, 14, 9},
		"a mirror with spare":            {layoutOf("raid1"), []int64{10, 10}, 4, 7, 7},
		"a mirror on one disk":           {layoutOf("raid1"), []int64{10}, 0, 0, 0},
		"raid5 has parity":               {layoutOf("raid5"), []int64{10, 10, 10}, 0, 18, 18},
		"raid5 lacks a disk":             {layoutOf("raid5"), []int64{10, 10}, 0, 0, 0},
		"raid10":                         {layoutOf("raid10"), []int64{10, 10, 10, 10}, 0, 18, 18},
		"checksums take room":            {sums, []int64{20, 20}, 0, 17, 17}, // as measured: 2 extents for 16 MiB
		"checksums in a tiny group":      {sums, []int64{2, 2}, 0, 0, 0},
		"nothing is left for anybody":    {layoutOf("raid1"), []int64{0, 0}, 0, 0, 0},
		"one extent is a leg's metadata": {layoutOf("raid1"), []int64{1, 1}, 0, 0, 0},
	} {
		r := c.l.Room(group(c.free...), c.spare*4<<20)
		if r.Available != c.available || r.Largest != c.largest {
			t.Errorf("%s: %+v, want %d available and a largest of %d", what, r, c.available, c.largest)
		}
	}
}

func TestNoRoomWithoutADisk(t *testing.T) {
	s := group(10, 10)
	s.PVs[1].Missing = true
	if r := New("linear", 2, 2, 0, false).Room(s, 0); r.Largest != 0 || r.Available != 0 || r.Total != 200 {
		t.Errorf("%+v: LVM changes nothing in a group that lacks a disk", r)
	}
	s = group(10, 10)
	s.PVs[0].Allocatable = false
	if r := New("linear", 2, 2, 0, false).Room(s, 0); r.Largest != 10 {
		t.Errorf("%+v: a disk that is not to be used counts", r)
	}
	s = group(10, 10)
	s.TextSize = s.Most
	if r := New("linear", 2, 2, 0, false).Room(s, 0); r.Largest != 0 {
		t.Errorf("%+v: the metadata is full", r)
	}
}
