package lvm

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
)

// layout is how volumes lie on the disks. A volume has legs, each on disks that no other leg is on; its
// data takes some of them, what is left is copies or parity.
type layout struct {
	name       string
	data, legs int64
	raid       bool // each leg has an extent of metadata
	integrity  bool // and room for checksums
	stripeSize int64
	copies     int64
}

func newLayout(name string, stripes, copies, stripeSize int64, integrity bool) layout {
	l := layout{name: name, data: 1, legs: 1, integrity: integrity, stripeSize: stripeSize, copies: copies}
	switch name {
	case "striped":
		l.data, l.legs = stripes, stripes
	case "raid1":
		l.legs, l.raid = copies, true
	case "raid5":
		l.data, l.legs, l.raid = stripes, stripes+1, true
	case "raid10":
		l.data, l.legs, l.raid = stripes, stripes*copies, true
	}
	return l
}

// args are those of lvcreate.
func (l layout) args() []string {
	args := []string{"--type", l.name}
	if l.data > 1 {
		args = append(args, "--stripes", strconv.FormatInt(l.data, 10), "--stripesize", fmt.Sprintf("%db", l.stripeSize))
	}
	if l.name == "raid1" || l.name == "raid10" {
		args = append(args, "--mirrors", strconv.FormatInt(l.copies-1, 10))
	}
	if l.integrity {
		args = append(args, "--raidintegrity", "y")
	}
	return args
}

// room is what volumes of a layout can have of a group, in extents.
type room struct{ total, available, largest int64 }

// room works out what a group has for volumes. spare is in bytes. Of a group that lacks a device nothing
// can be had: LVM does not change it.
func (l layout) room(s *vg.State, spare int64) room {
	reserved := extents(s, spare)
	r := room{total: l.together(sizes(s, func(p metadata.PV) int64 { return p.Extents }), reserved, s.ExtentSize)}
	if s.Missing() != "" || s.VolumesLeft() == 0 {
		return r
	}
	free := sizes(s, func(p metadata.PV) int64 { return p.Free })
	r.largest = l.largest(free, reserved, s.ExtentSize)
	r.available = max(r.largest, l.together(free, reserved, s.ExtentSize))
	return r
}

// grow is how much larger a volume can become, in extents: it has its metadata already.
func (l layout) grow(s *vg.State, spare int64) int64 {
	if s.Missing() != "" {
		return 0
	}
	bare := l
	bare.raid = false
	return bare.largest(sizes(s, func(p metadata.PV) int64 { return p.Free }), extents(s, spare), s.ExtentSize)
}

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
func (l layout) largest(free []int64, reserved, extent int64) int64 {
	all := max(0, sum(free)-reserved)
	if l.legs == 1 {
		return all
	}
	if int64(len(free)) < l.legs {
		return 0
	}
	return l.data * l.rows(min(free[l.legs-1], all/l.legs), extent)
}

// together is the data of many volumes, in extents: the most rows for which there are enough disks in
// each, where a disk has as many as it has extents.
func (l layout) together(free []int64, reserved, extent int64) int64 {
	all := max(0, sum(free)-reserved)
	if l.legs == 1 {
		return all
	}
	low, high := int64(0), all/l.legs
	for low < high {
		rows := (low + high + 1) / 2
		var usable int64
		for _, f := range free {
			usable += min(f, rows)
		}
		if usable >= rows*l.legs {
			low = rows
		} else {
			high = rows - 1
		}
	}
	return l.data * l.rows(low, extent)
}

// rows is how many of a leg's extents are left for data.
func (l layout) rows(leg, extent int64) int64 {
	if l.raid {
		leg--
	}
	if !l.integrity {
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
	n := (data/(500*mib) + 1) * 4 * mib
	if data <= 128*mib {
		n += 4 * mib
	} else {
		n += 64 * mib
	}
	return (n + extent - 1) / extent
}
