package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/dm"
)

// chunk is how much is copied or overwritten between two looks at the context, in bytes.
const chunk = 4 << 20

// reportPause is the least time between two reports of progress.
const reportPause = 300 * time.Millisecond

// copyDevice copies size bytes from one device to the other, past the page cache, and makes them durable.
func copyDevice(ctx context.Context, h *host.Host, op, from, to string, size int64) error {
	return h.Do(op, func() error {
		src, err := os.OpenFile(from, os.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return failed(err)
		}
		defer src.Close()
		dst, err := openAlone(to)
		if err != nil {
			return err
		}
		defer dst.Close()
		buf := host.AlignedBuffer(chunk)
		err = inChunks(ctx, "copied", size, func(at, n int64) error {
			b := buf[:n]
			if _, err := src.ReadAt(b, at); err != nil {
				return err
			}
			if len(bytes.TrimLeft(b, "\x00")) == 0 {
				return zeroRange(dst, at, n)
			}
			_, err := dst.WriteAt(b, at)
			return err
		})
		return failed(errors.Join(err, dst.Sync()))
	})
}

// zeroDevice overwrites a device with zeros: by the disk itself where it can, which takes no time.
func zeroDevice(ctx context.Context, h *host.Host, op, device string, size int64) error {
	return h.Do(op, func() error {
		f, err := openAlone(device)
		if err != nil {
			return err
		}
		defer f.Close()
		err = inChunks(ctx, "overwrote", size, func(at, n int64) error { return zeroRange(f, at, n) })
		return failed(errors.Join(err, f.Sync()))
	})
}

// wipeEnds overwrites where signatures of file systems, partition tables and the like are.
func wipeEnds(h *host.Host, op, device string, size int64) error {
	const begin, end = 4 << 20, 1 << 20
	return h.Do(op, func() error {
		f, err := openAlone(device)
		if err != nil {
			return err
		}
		defer f.Close()
		first, last := min(begin, size), min(end, size)
		return failed(errors.Join(zeroRange(f, 0, first), zeroRange(f, size-last, last), f.Sync()))
	})
}

// openAlone opens a device for writing that nobody has mounted or claimed.
func openAlone(device string) (*os.File, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, errs.E(errs.InUse, "%s is in use; see: lsblk %s", device, device)
	}
	return f, failed(err)
}

func inChunks(ctx context.Context, did string, size int64, do func(at, n int64) error) error {
	told := time.Now()
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunk, size-at)
		if err := do(at, n); err != nil {
			return err
		}
		at += n
		if time.Since(told) > reportPause {
			told = time.Now()
			backend.Progress(ctx, fmt.Sprintf("%s %s of %s", did, backend.FormatSize(at), backend.FormatSize(size)))
		}
	}
	return nil
}

// zeroRange is BLKZEROOUT: what was there reads as zeros afterwards, whatever the disk does for that.
func zeroRange(f *os.File, at, n int64) error {
	arg := [2]uint64{uint64(at), uint64(n)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return os.NewSyscallError("BLKZEROOUT", errno)
	}
	return nil
}

// failed gives an error of a device its kind.
func failed(err error) error {
	switch {
	case err == nil || errs.KindOf(err) != errs.Internal:
		return err
	case errors.Is(err, unix.ENOSPC):
		return errs.E(errs.NoSpace, "%w", err)
	default:
		return errs.E(errs.Unavailable, "%w", err)
	}
}

// overflowed reports whether a classic snapshot is of no use any more.
func overflowed(h *host.Host, i item) bool {
	targets, err := dm.Status(h, i.state.DeviceUUID(i.lv))
	return err == nil && len(targets) == 1 && targets[0].Type == "snapshot" &&
		(strings.HasPrefix(targets[0].Params, "Invalid") || strings.HasPrefix(targets[0].Params, "Overflow"))
}
