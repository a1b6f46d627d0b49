package loopfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// pair is an image to copy and the item being built that gets the copy.
type pair struct{ from, to *item }

// copyStill copies images, all of the same instant, while nobody writes to those of volumes. It says in
// each copy when that was, how far the formatting had got, and whether extents are shared.
func (b *Backend) copyStill(ctx context.Context, op string, pairs []pair) (err error) {
	h, err := b.hold(ctx, op, pairs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.release(err)) }()
	for _, p := range pairs {
		shared, err := b.copyImage(h.ctx, op, p.from.image(), p.to.image())
		if err != nil {
			return b.tooLong(h.ctx, err)
		}
		h.torn = h.torn || !shared
		p.to.meta.Created = time.Now().UTC()
		p.to.adopt(p.from, shared)
	}
	return nil
}

// copyImage makes the file to, which exists, hold what from holds: with the same extents where the
// file system can, by copying those that are not holes otherwise.
func (b *Backend) copyImage(ctx context.Context, op, from, to string) (shared bool, err error) {
	src, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer dst.Close()
	err = b.host.Do(op+".copy", func() error {
		err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
		shared = err == nil
		if shared || !cannotClone(err) {
			return err
		}
		return copyExtents(ctx, dst, src)
	})
	return shared, err
}

// cannotClone tells a file system without reflinks from one that failed: the former says one of these.
func cannotClone(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) ||
		errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOSYS)
}

// copyChunk is how much is copied between two looks at the context, in bytes.
const copyChunk = 16 << 20

// copyExtents copies what is not a hole. dst may hold an older copy: its holes are cut anew.
func copyExtents(ctx context.Context, dst, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if err := errors.Join(dst.Truncate(0), dst.Truncate(size)); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		start, err := src.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return err
		}
		end, err := src.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(ctx, dst, src, start, end, size); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func copyRange(ctx context.Context, dst, src *os.File, at, end, size int64) error {
	for at < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := src.Seek(at, io.SeekStart); err != nil {
			return err
		}
		if _, err := dst.Seek(at, io.SeekStart); err != nil {
			return err
		}
		n, err := io.CopyN(dst, src, min(copyChunk, end-at)) // copy_file_range, where the kernel has it
		if err != nil {
			return err
		}
		at += n
		backend.Progress(ctx, fmt.Sprintf("copied up to %s of %s", backend.FormatSize(at), backend.FormatSize(size)))
	}
	return nil
}

// resize makes an image size bytes large, which is never less than it was; with full, all of it is
// taken from the file system first.
func (b *Backend) resize(op, image string, size int64, full bool) error {
	f, err := os.OpenFile(image, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if full {
		err := b.host.Do(op+".allocate", func() error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		})
		if errors.Is(err, unix.EOPNOTSUPP) {
			return errs.E(errs.Unsupported, "parameters[\"allocation\"]: the file system of the pool cannot allocate in advance; use sparse")
		}
		if err != nil {
			return err
		}
		if err := b.settle(op, f); err != nil {
			return err
		}
	}
	if info.Size() >= size {
		return nil
	}
	return b.host.Do(op+".truncate", func() error { return f.Truncate(size) })
}

// settle makes the free space that the file system shows true: btrfs counts what was taken or given back
// only with its next transaction.
func (b *Backend) settle(op string, f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.BTRFS_SUPER_MAGIC {
		return err
	}
	return b.host.Do(op+".settle", func() error { return unix.Syncfs(int(f.Fd())) })
}

func (b *Backend) syncImage(op, image string) error {
	f, err := os.OpenFile(image, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.host.Do(op+".sync", f.Sync)
}

func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}
