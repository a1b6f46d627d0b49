// Package metadata reads LVM2's metadata where LVM keeps it: as text in an area at the begin of each
// physical volume, beside a header of one sector that says where the current text is and what checksum
// it has. So a volume group can be known without a command of LVM being run: as long as the headers are
// the same, nothing has changed.
//
// LVM writes a new text beside the old one, flushes it, and then the header with one write of a sector.
// So the header leads to the old text or the new one, and to nothing in between. The format has been the
// same since 2002; what is unknown in it is refused. Nothing here writes.
package metadata

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// LabelSize is how much of a device's begin [ParseLabel] wants, in bytes.
const LabelSize = 4096

// HeaderSize is how much of an area's begin [ParseHeader] wants, in bytes.
const HeaderSize = 512

const sector = 512

// Label is what a physical volume says of itself.
type Label struct {
	UUID  string // of the physical volume, with hyphens as LVM shows it
	Size  int64  // bytes
	Areas []Area // for metadata; there may be none
}

// Area is a range of a device that holds metadata, in bytes.
type Area struct{ Offset, Size int64 }

// Header says where in an area the text is. Two that are equal lead to the same text.
type Header struct {
	Offset   int64 // bytes from the area's begin; the text may go on after the header once it meets the end
	Size     int64 // bytes; 0: there is no volume group
	Checksum uint32
}

// ParseLabel reads the label in the first LabelSize bytes of a device.
func ParseLabel(b []byte) (Label, error) {
	if len(b) < LabelSize {
		return Label{}, fmt.Errorf("a label of %d bytes", len(b))
	}
	for at := 0; at < 4*sector; at += sector {
		s := b[at : at+sector]
		if !bytes.Equal(s[:8], []byte("LABELONE")) || !bytes.Equal(s[24:32], []byte("LVM2 001")) {
			continue
		}
		if binary.LittleEndian.Uint64(s[8:]) != uint64(at/sector) {
			return Label{}, fmt.Errorf("the label of sector %d is in sector %d", binary.LittleEndian.Uint64(s[8:]), at/sector)
		}
		if got := checksum(s[20:]); got != binary.LittleEndian.Uint32(s[16:]) {
			return Label{}, fmt.Errorf("the label's checksum is wrong")
		}
		return parsePV(s, int(binary.LittleEndian.Uint32(s[20:])))
	}
	return Label{}, fmt.Errorf("no LVM2 label")
}

// parsePV reads struct pv_header: UUID, size, data areas up to an empty one, metadata areas likewise.
func parsePV(s []byte, at int) (Label, error) {
	const fixed, location = 40, 16
	if at < 32 || at+fixed > len(s) {
		return Label{}, fmt.Errorf("the label's content is at byte %d", at)
	}
	l := Label{UUID: Hyphens(string(s[at : at+32])), Size: int64(binary.LittleEndian.Uint64(s[at+32:]))}
	lists := 0
	for at += fixed; at+location <= len(s); at += location {
		a := Area{Offset: int64(binary.LittleEndian.Uint64(s[at:])), Size: int64(binary.LittleEndian.Uint64(s[at+8:]))}
		switch {
		case a.Offset == 0 && lists == 1:
			return l, nil
		case a.Offset == 0:
			lists++
		case lists == 1:
			if a.Offset < 0 || a.Size < 2*HeaderSize || a.Offset%sector != 0 || a.Size > maxArea {
				return Label{}, fmt.Errorf("a metadata area of %d bytes at %d", a.Size, a.Offset)
			}
			l.Areas = append(l.Areas, a)
		}
	}
	return Label{}, fmt.Errorf("the label's lists do not end")
}

// maxArea is more than any metadata area has, in bytes.
const maxArea = 4 << 30

// Hyphens writes a UUID of 32 characters or more as LVM does.
func Hyphens(u string) string {
	return u[:6] + "-" + u[6:10] + "-" + u[10:14] + "-" + u[14:18] + "-" + u[18:22] + "-" + u[22:26] + "-" + u[26:32]
}

// ParseHeader reads struct mda_header from the begin of an area. ok is false if LVM keeps no metadata
// there: none was written yet, or the area is set to be ignored.
func ParseHeader(b []byte, a Area) (h Header, ok bool, err error) {
	const magic = " LVM2 x[5A%r0N*>"
	le := binary.LittleEndian
	switch {
	case len(b) < HeaderSize:
		return h, false, fmt.Errorf("a header of %d bytes", len(b))
	case string(b[4:20]) != magic || le.Uint32(b[20:]) != 1:
		return h, false, fmt.Errorf("no LVM2 metadata header of version 1")
	case checksum(b[4:HeaderSize]) != le.Uint32(b):
		return h, false, fmt.Errorf("the metadata header's checksum is wrong")
	case int64(le.Uint64(b[24:])) != a.Offset || int64(le.Uint64(b[32:])) != a.Size:
		return h, false, fmt.Errorf("the metadata header is that of another area")
	}
	const ignored = 1
	h = Header{Offset: int64(le.Uint64(b[40:])), Size: int64(le.Uint64(b[48:])), Checksum: le.Uint32(b[56:])}
	if h.Offset == 0 || le.Uint32(b[60:])&ignored != 0 {
		return Header{}, false, nil
	}
	if h.Offset < HeaderSize || h.Offset >= a.Size || h.Size <= 0 || h.Size > a.Size-HeaderSize {
		return Header{}, false, fmt.Errorf("metadata of %d bytes at %d in an area of %d", h.Size, h.Offset, a.Size)
	}
	return h, true, nil
}

// Text checks what was read from where a header leads to, and returns it.
func Text(b []byte, sum uint32) (string, error) {
	if checksum(b) != sum {
		return "", fmt.Errorf("the metadata's checksum is wrong")
	}
	return string(bytes.TrimRight(b, "\x00")), nil
}

// checksum is LVM's: CRC-32 with a start value of its own and without the final inversion.
func checksum(b []byte) uint32 {
	const start = 0xf597a6cf
	return ^crc32.Update(^uint32(start), crc32.IEEETable, b)
}

// Most is the largest text that an area can take, in bytes: the old text has to stay beside the new one.
func (a Area) Most() int64 { return (a.Size-HeaderSize)/2 - sector }
