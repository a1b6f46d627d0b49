package loopfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Activate is [backend.Activator]: the image becomes a loop device, without a program being run.
func (b *Backend) Activate(ctx context.Context, id backend.ID) (string, error) {
	unlock, err := b.lock(ctx, key(volumes, id))
	if err != nil {
		return "", err
	}
	defer unlock()
	i, err := b.load(volumes, id)
	if err != nil {
		return "", err
	}
	dev, err := b.attached(i.image())
	if err != nil {
		return "", err
	}
	if dev == "" {
		dev, err = b.attach(i.image(), i.meta.Sector)
	} else {
		err = b.refresh(dev, i.size)
	}
	if err != nil {
		return "", failed("activate "+string(id), err)
	}
	return dev, nil
}

// Deactivate is [backend.Activator].
func (b *Backend) Deactivate(ctx context.Context, id backend.ID) error {
	unlock, err := b.lock(ctx, key(volumes, id))
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.ready(); err != nil {
		return err
	}
	image := filepath.Join(b.path(volumes, string(id)), "image")
	dev, err := b.attached(image)
	if err != nil || dev == "" {
		return err
	}
	return b.detach(dev, image)
}

// attached returns the loop device whose backing file is the image, "" if there is none. The file is
// told by its device and inode, since paths differ between mount namespaces.
func (b *Backend) attached(image string) (string, error) {
	var st unix.Stat_t
	err := unix.Lstat(image, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", errs.E(errs.Unavailable, "%s: %w", image, err)
	}
	// sysfs tells which of many devices to open: its path ends like ours in any namespace.
	rel, err := filepath.Rel(b.dir, image)
	if err != nil {
		return "", err
	}
	devices, err := b.host.LoopDevices()
	if err != nil {
		return "", err
	}
	for _, d := range devices {
		if !strings.HasSuffix(d.File, "/"+rel) {
			continue
		}
		ours, err := backs(d.Path, &st)
		if err != nil {
			return "", errs.E(errs.Unavailable, "%s: %w", d.Path, err)
		}
		if ours {
			return d.Path, nil
		}
	}
	return "", nil
}

// backs reports whether the file is what a loop device is made of.
func backs(dev string, file *unix.Stat_t) (bool, error) {
	f, err := os.OpenFile(dev, os.O_RDONLY, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) {
		return false, nil // it was detached meanwhile
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return info.Device == file.Dev && info.Inode == file.Ino, nil
}

// attachTries is how often another process may take the free device that the kernel offered us.
const attachTries = 64

// attach makes a loop device of the image.
func (b *Backend) attach(image string, sector int) (string, error) {
	file, err := os.OpenFile(image, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	control, err := os.OpenFile(b.host.Dev("loop-control"), os.O_RDWR, 0)
	if err != nil {
		return "", errs.E(errs.Unsupported, "no loop devices on node %s: %w; load the kernel module loop", b.node, err)
	}
	defer control.Close()
	// One effect, however often others are faster: what is killed in between attached nothing.
	var dev string
	err = b.host.Do("activate.attach", func() (err error) {
		dev, err = b.attachFree(control, file, sector)
		return err
	})
	return dev, err
}

// attachFree attaches to whichever device is free when it gets there.
func (b *Backend) attachFree(control, file *os.File, sector int) (string, error) {
	for range attachTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("find a free loop device: %w", err)
		}
		dev := b.host.Dev(fmt.Sprintf("loop%d", n))
		err = configure(dev, file, sector)
		if err == nil {
			return dev, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return "", fmt.Errorf("attach %s: %w", dev, err)
		}
	}
	return "", errs.E(errs.Busy, "others took every loop device that was free; call again")
}

// configure attaches in one step, with direct I/O so that no page is cached twice. The sector size is
// always set: left to choose, the kernel takes 4096 for some files and 512 for others, a copy on xfs
// for one, and a file system made on the one does not mount on the other. Where the size and direct
// I/O do not go together the kernel does without the latter.
func configure(dev string, file *os.File, sector int) error {
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: uint32(sector)}
	config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file.Name())
	return unix.IoctlLoopConfigure(int(f.Fd()), &config)
}

// refresh makes an attached device as large as its image.
func (b *Backend) refresh(dev string, size int64) error {
	now, err := b.host.DeviceSize("activate.size", dev)
	if err != nil || now == size {
		return err
	}
	return b.host.Do("activate.refresh", func() error {
		f, err := os.OpenFile(dev, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY, 0)
	})
}

// detachWait is how long a detached device may take to be gone: something like blkid or udev may have it
// open for a moment.
const detachWait = 2 * time.Second

// detach lets go of a device that nothing has open.
func (b *Backend) detach(dev, image string) error {
	// Opened exclusively, which fails while it is mounted: LOOP_CLR_FD itself would say yes to a
	// device in use, and let go of it at some later time.
	err := b.host.Do("deactivate.detach", func() error {
		f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
	})
	if errors.Is(err, unix.EBUSY) {
		return errs.E(errs.InUse, "%s is mounted or open; see: lsblk %s; fuser -vm %s", dev, dev, dev)
	}
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return failed("detach "+dev, err)
	}
	for end := time.Now().Add(detachWait); ; time.Sleep(5 * time.Millisecond) {
		left, err := b.attached(image)
		if err != nil || left == "" {
			return err
		}
		if time.Now().After(end) {
			return errs.E(errs.InUse, "%s is still open; see: fuser -v %s", dev, dev)
		}
	}
}
