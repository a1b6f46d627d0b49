package host

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

// DeviceNumber is the number of a block device.
type DeviceNumber struct{ Major, Minor int }

// DeviceNumber returns the number of the block device at path, following symlinks as device mapper
// has them. errs.Unavailable if there is none.
func (h *Host) DeviceNumber(path string) (DeviceNumber, error) {
	var st unix.Stat_t
	if err := h.Ask("device.stat", func() error { return unix.Stat(path, &st) }); err != nil {
		return DeviceNumber{}, errs.E(errs.Unavailable, "device %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return DeviceNumber{}, errs.E(errs.Unavailable, "device %s: is no block device", path)
	}
	return DeviceNumber{int(unix.Major(st.Rdev)), int(unix.Minor(st.Rdev))}, nil
}

// deviceAlign is the alignment that direct I/O wants of offsets, lengths and buffers at most.
const deviceAlign = 4096

// AlignedBuffer returns n bytes where direct I/O can read and write them.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+deviceAlign)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (deviceAlign - 1)
	return b[skip : skip+n : skip+n]
}

// ReadDevice reads n bytes at off from the medium itself and not from a cache; both are multiples of
// 4096. Less is returned only at the device's end. A device that hangs cannot be interrupted: when
// ctx ends, the read is left behind and errs.Unavailable returned, as for any other failure.
func (h *Host) ReadDevice(ctx context.Context, op, device string, off int64, n int) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var data []byte
		err := h.Ask(op, func() (err error) {
			data, err = readDirect(device, off, n)
			return err
		})
		done <- result{data, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, errs.E(errs.Unavailable, "device %s: read at byte %d: %w", device, off, r.err)
		}
		return r.data, nil
	case <-ctx.Done():
		return nil, errs.E(errs.Unavailable, "device %s: read at byte %d: no answer: %w", device, off, ctx.Err())
	}
}

func readDirect(device string, off int64, n int) ([]byte, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := AlignedBuffer(n)
	got, err := f.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:got], err
}

// DeviceSize returns the size of a block device in bytes.
func (h *Host) DeviceSize(op, device string) (size int64, err error) {
	err = h.Ask(op, func() error {
		f, err := os.OpenFile(device, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		size, err = f.Seek(0, io.SeekEnd)
		return err
	})
	if err != nil {
		return 0, errs.E(errs.Unavailable, "device %s: its size: %w", device, err)
	}
	return size, nil
}

// Holders returns the devices that stand directly on a device, such as one of the device mapper.
func (h *Host) Holders(device string) (above []string, err error) {
	err = h.Ask("device.holders", func() error {
		entries, err := os.ReadDir(h.Sys("class", "block", filepath.Base(device), "holders"))
		for _, e := range entries {
			above = append(above, h.Dev(e.Name()))
		}
		return err
	})
	return above, err
}
