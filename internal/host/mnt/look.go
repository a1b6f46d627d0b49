package mnt

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// IsOf reports whether m is a mount of the file system on a device. It goes by numbers; btrfs shows
// one of its own in the table, so there the source's number decides.
func IsOf(h *host.Host, m *host.MountInfo, device host.DeviceNumber) bool {
	if m.Major == device.Major && m.Minor == device.Minor {
		return true
	}
	if m.FsType != "btrfs" {
		return false
	}
	source, err := h.DeviceNumber(m.Source)
	return err == nil && source == device
}

// Same reports whether two mounts show the same tree of the same file system.
func Same(a, b *host.MountInfo) bool {
	return a.Major == b.Major && a.Minor == b.Minor && a.Root == b.Root && a.FsType == b.FsType
}

// Device returns the number of the block device node that appears at the place.
func (p *Place) Device() (host.DeviceNumber, error) {
	var st unix.Stat_t
	err := p.host.Ask("path.device", func() error {
		return unix.Fstatat(int(p.parent.Fd()), p.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return host.DeviceNumber{}, errs.E(errs.Unavailable, "%s: %s: %w", p.field, p.path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return host.DeviceNumber{}, errs.E(errs.NotFound, "%s: %s is no block device", p.field, p.path)
	}
	return host.DeviceNumber{Major: int(unix.Major(st.Rdev)), Minor: int(unix.Minor(st.Rdev))}, nil
}

// Use asks the file system at the place how full it is. One that hangs is left when ctx ends:
// errs.Unavailable.
func (p *Place) Use(ctx context.Context) (unix.Statfs_t, error) {
	return ask(ctx, p, "path.statfs", func(f *os.File) (st unix.Statfs_t, err error) {
		return st, unix.Fstatfs(int(f.Fd()), &st)
	})
}

// Alive reads the root directory of what is mounted at the place: a file system that shut itself
// down answers EIO. One that hangs is left when ctx ends: errs.Unavailable.
func (p *Place) Alive(ctx context.Context) error {
	_, err := ask(ctx, p, "path.readdir", func(f *os.File) (struct{}, error) {
		var st unix.Stat_t
		if err := unix.Fstatat(int(f.Fd()), "", &st, unix.AT_EMPTY_PATH); err != nil {
			return struct{}{}, err
		}
		// Through the open mount and not by name, which p's owner may have closed by now.
		d, err := os.Open(p.host.Proc("self", "fd", strconv.Itoa(int(f.Fd()))))
		if err != nil {
			return struct{}{}, err
		}
		defer d.Close()
		if _, err = d.Readdirnames(1); errors.Is(err, io.EOF) {
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

// Flush begins to write what a file system still holds to where it belongs, and returns a channel for what came of it. From one on a
// server that is away nothing comes until that is back.
func (p *Place) Flush(op string) (<-chan error, error) {
	own, err := p.again()
	if err != nil {
		return nil, errs.E(errs.Unavailable, "%s: %s: %w", p.field, p.path, err)
	}
	done := make(chan error, 1)
	go func() {
		defer own.Close()
		done <- own.host.Ask(op, func() error {
			fd, err := unix.Openat(int(own.parent.Fd()), own.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.Syncfs(fd), unix.Close(fd))
		})
	}()
	return done, nil
}

// again is the same place with a descriptor of its own, which outlives p.
func (p *Place) again() (*Place, error) {
	fd, err := unix.FcntlInt(p.parent.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Place{host: p.host, field: p.field, parent: os.NewFile(uintptr(fd), ""), name: p.name, path: p.path}, nil
}

// ask opens the place and asks it something that may never be answered.
func ask[T any](ctx context.Context, p *Place, op string, question func(*os.File) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	// The question must not use p's descriptors after p is closed, so it has some of its own.
	var none T
	own, err := p.again()
	if err != nil {
		return none, errs.E(errs.Unavailable, "%s: %s: %w", p.field, p.path, err)
	}
	done := make(chan result, 1)
	go func() {
		defer own.Close()
		var r result
		r.err = own.host.Ask(op, func() error {
			f, err := own.open()
			if err != nil {
				return err
			}
			defer f.Close()
			r.value, err = question(f)
			return err
		})
		done <- r
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return none, errs.E(errs.Unavailable, "%s: %s: %w", p.field, p.path, r.err)
		}
		return r.value, nil
	case <-ctx.Done():
		return none, errs.E(errs.Unavailable, "%s: %s: no answer: %w", p.field, p.path, ctx.Err())
	}
}
