// Package layout is how volumes lie on the disks of a volume group, and what room they have there.
package layout

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
)

// Layout is how volumes lie on the disks. A volume has legs, each on disks that no other leg is on; its
// data takes some of them, what is left is copies or parity.
type Layout struct {
	Name       string
	Data, Legs int64 // Data of the Legs hold what is not a copy or parity
	Raid       bool  // each leg has an extent of metadata
	Integrity  bool  // and room for checksums
	StripeSize int64 // bytes
	Copies     int64
}

// New returns the layout that LVM calls name. stripeSize is in bytes.
func New(name string, stripes, copies, stripeSize int64, integrity bool) Layout {
	l := Layout{Name: name, Data: 1, Legs: 1, Integrity: integrity, StripeSize: stripeSize, Copies: copies}
	switch name {
	case "striped":
		l.Data, l.Legs = stripes, stripes
	case "raid1":
		l.Legs, l.Raid = copies, true
	case "raid5":
		l.Data, l.Legs, l.Raid = stripes, stripes+1, true
	case "raid10":
		l.Data, l.Legs, l.Raid = stripes, stripes*copies, true
	}
	return l
}

// Args are those of lvcreate.
func (l Layout) Args() []string {
	args := []string{"--type", l.Name}
	if l.Data > 1 {
		args = append(args, "--stripes", strconv.FormatInt(l.Data, 10), "--stripesize", fmt.Sprintf("%db", l.StripeSize))
	}
	if l.Name == "raid1" || l.Name == "raid10" {
		args = append(args, "--mirrors", strconv.FormatInt(l.Copies-1, 10))
	}
	if l.Integrity {
		args = append(args, "--raidintegrity", "y")
	}
	return args
}

// Extents is the number of extents that a volume of a size has: as many on each disk that its data is on.
func (l Layout) Extents(s *vg.State, size int64) int64 {
	return (Extents(s, size) + l.Data - 1) / l.Data * l.Data
}

// Room is what volumes of a layout can have of a group, in extents: all that there is, what is left for
// many together, and for one.
type Room struct{ Total, Available, Largest int64 }

// Room works out what a group has for volumes. spare is in bytes. Of a group that lacks a device nothing
// can be had: LVM does not change it.
func (l Layout) Room(s *vg.State, spare int64) Room {
	reserved := Extents(s, spare)
	r := Room{Total: l.together(sizes(s, func(p metadata.PV) int64 { return p.Extents }), reserved, s.ExtentSize)}
	if s.Missing() != "" || s.VolumesLeft() == 0 {
		return r
	}
	free := sizes(s, func(p metadata.PV) int64 { return p.Free })
	r.Largest = l.largest(free, reserved, s.ExtentSize)
	r.Available = max(r.Largest, l.together(free, reserved, s.ExtentSize))
	return r
}

// Grow is how much larger a volume can become, in extents. It has its metadata already, so there is an
// extent more on each leg than this says: what is left is never promised to the last.
func (l Layout) Grow(s *vg.State, spare int64) int64 {
	if s.Missing() != "" {
		return 0
	}
	return l.largest(sizes(s, func(p metadata.PV) int64 { return p.Free }), Extents(s, spare), s.ExtentSize)
}

// Extents is a size in extents of a group, rounded up.
func Extents(s *vg.State, size int64) int64 { return (size + s.ExtentSize - 1) / s.ExtentSize }

// sizes are extents of each physical volume that LVM may allocate from, largest first.
func sizes(s *vg.State, of func(metadata.PV) int64) (all []int64) {
	for _, p := range s.PVs {
		if p.Allocatable {
			all = append(all, of(p))
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all
}

func sum(all []int64) (n int64) {
	for _, v := range all {
		n += v
	}
	return n
}

// largest is the data of one volume, in extents: its legs have the same size, each on a disk of its own;
// a linear one may be in pieces anywhere.
func (l Layout) largest(free []int64, reserved, extent int64) int64 {
	all := max(0, sum(free)-reserved)
	if l.Legs == 1 {
		return all
	}
	if int64(len(free)) < l.Legs {
		return 0
	}
	return l.Data * l.rows(min(free[l.Legs-1], all/l.Legs), extent)
}

// together is the data of many volumes, in extents: the most rows for which there are enough disks in
// each, where a disk has as many as it has extents.
func (l Layout) together(free []int64, reserved, extent int64) int64 {
	all := max(0, sum(free)-reserved)
	if l.Legs == 1 {
		return all
	}
	low, high := int64(0), all/l.Legs
	for low < high {
		rows := (low + high + 1) / 2
		var usable int64
		for _, f := range free {
			usable += min(f, rows)
		}
		if usable >= rows*l.Legs {
			low = rows
		} else {
			high = rows - 1
		}
	}
	return l.Data * l.rows(low, extent)
}

// rows is how many of a leg's extents are left for data.
func (l Layout) rows(leg, extent int64) int64 {
	if l.Raid {
		leg--
	}
	if !l.Integrity {
		return max(0, leg)
	}
	rows := leg
	for rows > 0 && rows+checksums(rows*extent, extent) > leg {
		rows -= max(1, (rows+checksums(rows*extent, extent)-leg)/2)
	}
	return max(0, rows)
}

// checksums is the room that LVM takes for those of so many bytes, in extents: 4 MiB for each 500 MiB
// begun, and a journal of up to 64 MiB.
func checksums(data, extent int64) int64 {
	n := (data/(500<<20) + 1) * 4 << 20
	if data <= 128<<20 {
		n += 4 << 20
	} else {
		n += 64 << 20
	}
	return (n + extent - 1) / extent
}
