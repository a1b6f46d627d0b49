package fs

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// OnDevice are the marks of a volume whose storage keeps none that a node could reach. They are on the device itself,
// and only while it is being formatted: before the first formatting begins it must read as zeros wherever anything
// keeps its metadata, and then has a mark in many places, of which no mkfs writes to all. When the file system is
// there what is left of the marks is overwritten with zeros, before anything is mounted. So a mark says that
// nothing was ever mounted, and without one a device that is not blank is never formatted.
//
// A mark names its disk. That of a copy, taken in the midst of formatting, is no mark.
type OnDevice struct {
	host   *host.Host
	device string
	disk   string // its WWID
	first  string // see NewOnDevice
	none   bool   // it was looked, and there were none
}

// NewOnDevice returns the marks of the disk that is the device. first is the [backend.Mark.FS] of a formatting after which
// another one follows, that of a LUKS header; "" if there is none.
func NewOnDevice(h *host.Host, device, disk, first string) *OnDevice {
	return &OnDevice{host: h, device: device, disk: disk, first: first}
}

// written is a mark as it is on a device, after a line with markMagic and its checksum.
type written struct {
	Disk string       `json:"disk"`
	Mark backend.Mark `json:"mark"`
}

const (
	markMagic = "dozo formatting 1 "
	markBlock = 4096
	markMost  = 512 // bytes that a disk writes wholly or not at all
)

// markPlaces are where marks are on a device of this size. They stay when it grows. None is where a file system
// has its superblocks, and from the sixth on they are behind a LUKS header of 16 MiB.
func markPlaces(size int64) (places []int64) {
	places = append(places, 0)
	for at := int64(5) << 20; at+(1<<20)+2*markBlock <= size; at *= 2 {
		places = append(places, at+1<<20+markBlock)
	}
	return places
}

// Mark is [Marks].
func (o *OnDevice) Mark(ctx context.Context) (m backend.Mark, known bool, err error) {
	found, err := o.read(ctx)
	if err != nil {
		return m, false, err
	}
	for _, f := range found {
		if m.FS == "" || !f.Done { // one that was being changed: the earlier state, which has more to do, is right as well
			m = f
		}
	}
	return m, true, nil
}

// SetMark is [Marks]. errs.InUse if a formatting is to begin and the device is not blank.
func (o *OnDevice) SetMark(ctx context.Context, m backend.Mark) error {
	found, err := o.read(ctx)
	if err != nil {
		return err
	}
	last := m.Done && m.FS != o.first
	switch {
	case len(found) > 0:
		var places []int64
		for at := range found {
			places = append(places, at)
		}
		return o.write(m, last, places)
	case last:
		return nil
	case m.Done:
		return errs.E(errs.Internal, "device %s: nothing is left of its marks after %s was made; delete the volume and make a larger one", o.device, m.FS)
	}
	size, err := o.host.DeviceSize("mark.size", o.device)
	if err != nil {
		return err
	}
	if err := refuseUnlessBlank(ctx, o.host, o.device, size); err != nil {
		return err
	}
	return o.write(m, false, markPlaces(size))
}

// read returns the marks that are there, by their places.
func (o *OnDevice) read(ctx context.Context) (map[int64]backend.Mark, error) {
	if o.none {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	size, err := o.host.DeviceSize("mark.size", o.device)
	if err != nil {
		return nil, err
	}
	found := map[int64]backend.Mark{}
	for _, at := range markPlaces(size) {
		b, err := o.host.ReadDevice(ctx, "mark.read", o.device, at, markBlock)
		if err != nil {
			return nil, err
		}
		if m, ok := parseMark(b, o.disk); ok {
			found[at] = m
		}
	}
	o.none = len(found) == 0
	return found, nil
}

// write puts a mark, or zeros in place of one, durably at these places.
func (o *OnDevice) write(m backend.Mark, zeros bool, places []int64) error {
	b := host.AlignedBuffer(markBlock)
	if !zeros {
		if err := formatMark(b, written{o.disk, m}); err != nil {
			return err
		}
	}
	o.none = false
	op := "stage.mark"
	if zeros {
		op = "stage.mark.clear"
	}
	err := o.host.Do(op, func() error {
		// Not exclusively: a LUKS mapping may be on it.
		f, err := os.OpenFile(o.device, os.O_WRONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		for _, at := range places {
			if _, err := f.WriteAt(b, at); err != nil {
				return err
			}
		}
		return f.Sync()
	})
	if err != nil {
		return errs.E(errs.Unavailable, "device %s: write its mark: %w", o.device, err)
	}
	return nil
}

func formatMark(b []byte, w written) error {
	text, err := json.Marshal(w)
	if err != nil {
		return errs.E(errs.Internal, "mark: %w", err)
	}
	line := fmt.Sprintf("%s%08x\n%s\n", markMagic, crc32.ChecksumIEEE(text), text)
	if len(line) > markMost {
		return errs.E(errs.Internal, "mark: %d bytes are too many", len(line))
	}
	copy(b, line)
	return nil
}

// parseMark reads a block. It is a mark only if it is one wholly, with zeros behind it, of the disk.
func parseMark(b []byte, disk string) (m backend.Mark, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(markMagic))
	sum, rest, ok2 := bytes.Cut(rest, []byte("\n"))
	text, zeros, ok3 := bytes.Cut(rest, []byte("\n"))
	if !ok || !ok2 || !ok3 || len(bytes.Trim(zeros, "\x00")) > 0 {
		return m, false
	}
	var w written
	want, err := hex.DecodeString(string(sum))
	if err != nil || len(want) != 4 || fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) != string(sum) || json.Unmarshal(text, &w) != nil {
		return m, false
	}
	return w.Mark, w.Disk == disk && w.Mark.FS != ""
}

// refuseUnlessBlank returns errs.InUse if there is anything but zeros where file systems, LVM, RAID, LUKS and partition
// tables keep metadata, at the beginning, at the end, and where ext4, xfs and btrfs have their spares, and in
// samples of the rest. A device whose first blocks were overwritten is told from one that is new.
func refuseUnlessBlank(ctx context.Context, h *host.Host, device string, size int64) error {
	backend.Progress(ctx, "look whether the device is blank")
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for _, at := range telling(size) {
		b, err := h.ReadDevice(ctx, "blank.read", device, at, block)
		if err != nil {
			return err
		}
		if i := bytes.IndexFunc(b, func(r rune) bool { return r != 0 }); i >= 0 {
			return errs.E(errs.InUse, "device %s: shows no file system, and is not blank: there is data at byte %d; it will not be formatted. If its content is not needed, make a new volume", device, at+int64(i))
		}
	}
	return nil
}

// telling are the places of blocks that something would be in if a device had been used.
func telling(size int64) (places []int64) {
	seen := map[int64]bool{}
	add := func(at int64) {
		at = min(at, size-block) &^ 4095
		if at >= 0 && !seen[at] {
			seen[at] = true
			places = append(places, at)
		}
	}
	const mib = 1 << 20
	for at := int64(0); at < 4*mib; at += block {
		add(at)
		add(size - mib + at/4)
	}
	for _, group := range []int64{8 * mib, 32 * mib, 128 * mib} { // ext4's, by the size of its blocks
		for _, n := range []int64{1, 3, 5, 7, 9, 25, 27, 49} {
			add(n * group)
		}
	}
	for _, at := range superOffsets() { // btrfs
		add(at)
	}
	const samples = 64 // among them xfs's allocation groups, of which there are four
	for n := range int64(samples) {
		add(size/samples*n - block/2)
	}
	for n := int64(1); n <= 8; n++ { // or larger ones
		add(n << 40)
	}
	for _, at := range markPlaces(size) {
		add(at)
	}
	return places
}

var _ Marks = (*OnDevice)(nil)
