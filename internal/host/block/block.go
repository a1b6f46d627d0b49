// Package block copies and overwrites block devices, past the page cache. It never opens for writing one that is mounted.
package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// chunk is how much is copied or overwritten between two looks at the context, in bytes.
const chunk = 4 << 20

// reportPause is the least time between two reports of progress.
const reportPause = 300 * time.Millisecond

// Open opens a device for reading and writing that nobody has mounted or claimed: errs.InUse otherwise.
func Open(device string) (*os.File, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, errs.E(errs.InUse, "%s is in use; see: lsblk %s", device, device)
	}
	return f, failed(err)
}

// Copy makes the first size bytes of to what they are in from, and durable. Both are from [Open].
func Copy(ctx context.Context, h *host.Host, op string, to, from *os.File, size int64) error {
	return h.Do(op, func() error {
		buf := host.AlignedBuffer(chunk)
		err := inChunks(ctx, "copied", size, func(at, n int64) error {
			b := buf[:n]
			if _, err := from.ReadAt(b, at); err != nil {
				return err
			}
			if len(bytes.TrimLeft(b, "\x00")) == 0 {
				return zeroRange(to, at, n)
			}
			_, err := to.WriteAt(b, at)
			return err
		})
		return failed(errors.Join(err, to.Sync()))
	})
}

// Zero overwrites the first size bytes with zeros: by the disk itself where it can, which takes no time.
func Zero(ctx context.Context, h *host.Host, op string, f *os.File, size int64) error {
	return h.Do(op, func() error {
		err := inChunks(ctx, "overwrote", size, func(at, n int64) error { return zeroRange(f, at, n) })
		return failed(errors.Join(err, f.Sync()))
	})
}

// ZeroEnds overwrites, of a device of size bytes, where signatures of file systems, partition tables and
// the like are.
func ZeroEnds(h *host.Host, op string, f *os.File, size int64) error {
	const begin, end = 4 << 20, 1 << 20
	return h.Do(op, func() error {
		first, last := min(begin, size), min(end, size)
		return failed(errors.Join(zeroRange(f, 0, first), zeroRange(f, size-last, last), f.Sync()))
	})
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
