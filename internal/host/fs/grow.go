package fs

import (
	"context"
	"encoding/binary"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// Mounted is a file system that is mounted.
type Mounted struct {
	Type, Device string
	Path         string // as in the mount table
}

// Grow makes the file system as large as its device of size bytes, if it is smaller by more than a
// rounding. It reports whether there was anything to do.
func Grow(ctx context.Context, h *host.Host, op string, m Mounted, size int64) (grown bool, err error) {
	has, unit, err := extent(h, m)
	if err != nil {
		return false, err
	}
	if has+unit > size {
		return false, nil
	}
	c := host.Cmd{Op: op, Timeout: growTimeout}
	switch m.Type {
	case "ext4":
		c.Name, c.Args = "resize2fs", []string{m.Device}
	case "xfs":
		c.Name, c.Args = "xfs_growfs", []string{"-d", m.Path}
	case "btrfs":
		c.Name, c.Args = "btrfs", []string{"filesystem", "resize", "max", m.Path}
	}
	if _, err := h.Run(ctx, c); err != nil {
		if _, ran := host.ExitCode(err); !ran {
			return false, err
		}
		if growing(err) {
			return false, errs.E(errs.Busy, "device %s: its %s is growing already; call again: %w", m.Device, m.Type, err)
		}
		if m.Type == "ext4" && !h.HasCapability(unix.CAP_SYS_RESOURCE) {
			return false, errs.E(errs.Unsupported, "device %s: growing a mounted ext4 needs CAP_SYS_RESOURCE, which this process was not given: %w", m.Device, err)
		}
		return false, errs.E(errs.Internal, "device %s: grow %s from %d to %d bytes: %w", m.Device, m.Type, has, size, err)
	}
	return true, nil
}

// growing reports whether a program failed because the file system is being grown, as it is for a moment
// after a process of ours was killed: the kernel finishes what the program began. The tools have no exit
// status for it, only the words that ext4, xfs and btrfs each say.
func growing(err error) bool {
	for _, words := range []string{"in progress", "Device or resource busy"} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}

// extent returns how much of its device a mounted file system covers, in bytes, and the least that
// it can grow by.
func extent(h *host.Host, m Mounted) (size, unit int64, err error) {
	err = h.Ask("grow.extent", func() error {
		switch m.Type {
		case "ext4":
			size, unit, err = ext4Extent(m.Device)
		case "xfs":
			size, unit, err = xfsExtent(m.Path)
		case "btrfs":
			size, unit, err = btrfsExtent(m.Path)
		default:
			err = errs.E(errs.Unsupported, "%s cannot be grown here", m.Type)
		}
		return err
	})
	if err != nil {
		return 0, 0, errs.E(errs.Unavailable, "device %s: the size of its %s: %w", m.Device, m.Type, err)
	}
	return size, unit, nil
}

// ext4Extent reads the superblock through the block device's cache, where a mounted ext4 keeps it.
func ext4Extent(device string) (size, unit int64, err error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, 1024); err != nil {
		return 0, 0, err
	}
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != 0xEF53 {
		return 0, 0, errs.E(errs.Internal, "no ext4 superblock")
	}
	blocks := int64(le.Uint32(b[4:]))
	if le.Uint32(b[0x60:])&0x80 != 0 { // the 64bit feature
		blocks |= int64(le.Uint32(b[0x150:])) << 32
	}
	unit = 1024 << le.Uint32(b[0x18:])
	// A last group of blocks that is too small for its own tables is left out, so a rest of that
	// size does not count: 64 blocks are less than any group that is kept.
	return blocks * unit, 64 * unit, nil
}

// xfsExtent asks by XFS_IOC_FSGEOMETRY_V1, which every xfs since 2001 answers.
func xfsExtent(path string) (size, unit int64, err error) {
	const request = 0x80705864 // _IOR('X', 100, struct xfs_fsop_geom_v1)
	b := make([]byte, 112)
	if err := ioctlPath(path, request, b); err != nil {
		return 0, 0, err
	}
	unit = int64(binary.NativeEndian.Uint32(b))
	// Fewer blocks than 64 make no allocation group of their own.
	return int64(binary.NativeEndian.Uint64(b[32:])) * unit, 64 * unit, nil
}

// btrfsExtent asks by BTRFS_IOC_DEV_INFO for the one device that a volume's btrfs has.
func btrfsExtent(path string) (size, unit int64, err error) {
	const request = 0xD000941E // _IOWR(0x94, 30, struct btrfs_ioctl_dev_info_args)
	b := make([]byte, 4096)
	binary.NativeEndian.PutUint64(b, 1)
	if err := ioctlPath(path, request, b); err != nil {
		return 0, 0, err
	}
	return int64(binary.NativeEndian.Uint64(b[32:])), 64 << 10, nil
}

func ioctlPath(path string, request uintptr, arg []byte) error {
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), request, uintptr(unsafe.Pointer(&arg[0])))
	runtime.KeepAlive(arg)
	if errno != 0 {
		return errno
	}
	return nil
}
