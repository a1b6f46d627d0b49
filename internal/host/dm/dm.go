// Package dm asks the kernel's device mapper about devices, by ioctl: no program is run, so asking
// costs microseconds. It changes nothing.
package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// Device is a device as the device mapper has it.
type Device struct {
	Name      string
	UUID      string
	Minor     int
	Open      int  // how often it is open; a mount counts as one
	Live      bool // it has a table, so that it can be read and written
	Suspended bool // I/O waits until somebody resumes it
}

// Path is the device file that the kernel itself makes, whether or not there is udev.
func (d Device) Path(h *host.Host) string { return h.Dev(fmt.Sprintf("dm-%d", d.Minor)) }

// Target is one range of a device.
type Target struct {
	Start, Length int64 // in bytes
	Type          string
	Params        string // as the target's documentation in the kernel has it
}

// The part of linux/dm-ioctl.h that x/sys/unix does not name.
const (
	cmdDevices = 2
	cmdStatus  = 7
	cmdTable   = 12

	flagSuspended  = 1 << 1
	flagActive     = 1 << 5
	flagTable      = 1 << 4 // of cmdTable: the table itself and not its status
	flagBufferFull = 1 << 8
	flagNoFlush    = 1 << 11 // of cmdTable: do not make a thin pool commit for it

	nameSize, uuidSize = 128, 129
	sectorSize         = 512
)

// header is struct dm_ioctl.
type header struct {
	Version     [3]uint32
	DataSize    uint32
	DataStart   uint32
	TargetCount uint32
	OpenCount   int32
	Flags       uint32
	EventNr     uint32
	_           uint32
	Dev         uint64
	Name        [nameSize]byte
	UUID        [uuidSize]byte
	_           [7]byte
}

const headerSize = int(unsafe.Sizeof(header{}))

// Find returns the device with a UUID: errs.NotFound if there is none, errs.Unavailable if the device
// mapper could not be asked.
func Find(h *host.Host, uuid string) (Device, error) {
	a, err := ask(h, cmdStatus, byUUID(uuid), 0, headerSize)
	return a.device(), err
}

// Named is Find by name.
func Named(h *host.Host, name string) (Device, error) {
	a, err := ask(h, cmdStatus, which{name: name}, 0, headerSize)
	return a.device(), err
}

// Status returns the targets of a device with what each says of its state; see Find for the errors.
func Status(h *host.Host, uuid string) ([]Target, error) { return targets(h, uuid, flagNoFlush) }

// Table returns the targets of a device with what each is made of; see Find for the errors.
func Table(h *host.Host, uuid string) ([]Target, error) { return targets(h, uuid, flagTable) }

// List returns the names of all devices.
func List(h *host.Host) ([]string, error) {
	a, err := ask(h, cmdDevices, which{}, 0, 64<<10)
	if err != nil {
		return nil, err
	}
	return parseNames(a.data)
}

func targets(h *host.Host, uuid string, flags uint32) ([]Target, error) {
	a, err := ask(h, cmdTable, byUUID(uuid), flags, 16<<10)
	if err != nil {
		return nil, err
	}
	return parseTargets(a.data, int(a.TargetCount))
}

// answer is what the kernel wrote into our buffer.
type answer struct {
	header
	data []byte
}

func (a answer) device() Device {
	return Device{
		Name: text(a.Name[:]), UUID: text(a.UUID[:]), Minor: int(unix.Minor(a.Dev)), Open: int(a.OpenCount),
		Live: a.Flags&flagActive != 0, Suspended: a.Flags&flagSuspended != 0,
	}
}

// maxAnswer bounds what is asked for when the kernel says that the buffer is too small, in bytes.
const maxAnswer = 64 << 20

// which device is meant, by one of the two.
type which struct{ name, uuid string }

func byUUID(uuid string) which { return which{uuid: uuid} }

func ask(h *host.Host, cmd uintptr, dev which, flags uint32, size int) (a answer, err error) {
	if len(dev.uuid) >= uuidSize || len(dev.name) >= nameSize {
		return a, errs.E(errs.Invalid, "device mapper: %.60q… is too long", dev.uuid+dev.name)
	}
	for {
		a, err = once(h, cmd, dev, flags, size)
		if err != nil || a.Flags&flagBufferFull == 0 {
			return a, err
		}
		if size *= 4; size > maxAnswer {
			return a, errs.E(errs.Internal, "device mapper: its answer about %s is larger than %d bytes", dev.uuid+dev.name, maxAnswer)
		}
	}
}

func once(h *host.Host, cmd uintptr, dev which, flags uint32, size int) (a answer, err error) {
	buf := make([]byte, max(size, headerSize))
	in := (*header)(unsafe.Pointer(&buf[0]))
	// Version 4.0.0 is understood by every kernel since 2.6; the kernel answers with its own.
	in.Version = [3]uint32{4, 0, 0}
	in.DataSize, in.DataStart, in.Flags = uint32(len(buf)), uint32(headerSize), flags
	copy(in.Name[:], dev.name)
	copy(in.UUID[:], dev.uuid)
	err = h.Ask("dm.ask", func() error {
		f, err := os.OpenFile(h.Dev("mapper", "control"), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		request := uintptr(3)<<30 | uintptr(headerSize)<<16 | 0xfd<<8 | cmd // _IOWR(0xfd, cmd, struct dm_ioctl)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&buf[0]))); errno != 0 {
			return errno
		}
		return nil
	})
	switch {
	case errors.Is(err, unix.ENXIO):
		return a, errs.E(errs.NotFound, "device mapper: there is no device %s", dev.uuid+dev.name)
	case errors.Is(err, os.ErrNotExist):
		return a, errs.E(errs.Unavailable, "device mapper: %w; load the kernel module dm-mod", err)
	case err != nil:
		return a, errs.E(errs.Unavailable, "device mapper: %w", err)
	}
	a.header = *in
	start, end := int(a.DataStart), int(a.DataSize)
	if start >= headerSize && start <= end && end <= len(buf) {
		a.data = buf[start:end]
	}
	return a, nil
}

func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

var errShort = errs.E(errs.Internal, "device mapper: an answer that is cut short")

// parseTargets reads a list of struct dm_target_spec, each followed by its parameters. The first field
// "next" counts from the list's begin.
func parseTargets(b []byte, count int) (all []Target, err error) {
	const specSize = 40 // u64 start, u64 length, s32 status, u32 next, char type[16]
	at := 0
	for range count {
		if at < 0 || at+specSize > len(b) {
			return nil, errShort
		}
		spec := b[at:]
		next := int(binary.NativeEndian.Uint32(spec[20:]))
		all = append(all, Target{
			Start:  int64(binary.NativeEndian.Uint64(spec)) * sectorSize,
			Length: int64(binary.NativeEndian.Uint64(spec[8:])) * sectorSize,
			Type:   text(spec[24:40]), Params: strings.TrimSpace(text(spec[specSize:])),
		})
		if next <= at {
			break
		}
		at = next
	}
	if len(all) != count {
		return nil, errShort
	}
	return all, nil
}

// parseNames reads a list of struct dm_name_list; "next" counts from the entry's begin.
func parseNames(b []byte) (all []string, err error) {
	const head = 12 // u64 dev, u32 next
	if len(b) == 0 {
		return nil, nil
	}
	for len(b) >= head {
		if binary.NativeEndian.Uint64(b) == 0 {
			return all, nil // there are none
		}
		next := int(binary.NativeEndian.Uint32(b[8:]))
		all = append(all, text(b[head:]))
		if next == 0 {
			return all, nil
		}
		if next < head || next > len(b) {
			return nil, errShort
		}
		b = b[next:]
	}
	return nil, errShort
}
