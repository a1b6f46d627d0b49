package mnt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// busyPatience is how long an unmount waits for those who only look in: xfs_growfs of one volume asks
// every mounted XFS of the node for its size, the kubelet asks all of them once a minute, and whoever
// is inside for that moment makes the kernel answer EBUSY.
const busyPatience = time.Second

// awayPatience is how long the unmount of a file system on a server may take.
const awayPatience = 60 * time.Second

// Unmount takes away what is mounted at the place, all of it if there are several mounts; nothing is
// no error. It is never lazy: errs.InUse, naming who it is where that can be seen, as long as something
// is open there.
func (p *Place) Unmount(ctx context.Context, op string) error {
	return p.unmountAll(ctx, op, func(mount int) error {
		return p.host.Do(op, func() error { return p.unmountPatiently(ctx) })
	})
}

// UnmountNet is Unmount of a file system on a server, which may be away. The kernel takes the mount out of sight before
// it waits for the server, if at all, and is then left to that. If the mount is still to be seen after a while and
// nobody has anything open there, it is taken out of sight as it is. Who wants to know that all was written calls [Place.Flush] before.
func (p *Place) UnmountNet(ctx context.Context, op string) error {
	return p.unmountAll(ctx, op, func(mount int) error {
		own, err := p.again()
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() {
			defer own.Close()
			done <- own.host.Do(op, func() error { return own.unmountPatiently(ctx) })
		}()
		select {
		case err := <-done:
			return err
		case <-time.After(awayPatience):
		}
		if there, err := p.IsMountPoint(); err != nil || !there {
			return err
		}
		if names := holders(p.host, mount); len(names) > 0 {
			return unix.EBUSY
		}
		return p.host.Do(op+".detach", func() error { return unix.Unmount(p.fdPath(), unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) })
	})
}

func (p *Place) unmountAll(ctx context.Context, op string, unmount func(mount int) error) error {
	for {
		there, err := p.IsMountPoint()
		if err != nil || !there {
			return err
		}
		if err := ctx.Err(); err != nil {
			return errs.E(errs.Aborted, "%s: unmount %s: %w", p.field, p.path, err)
		}
		m, err := p.Mounted()
		if err != nil {
			return err
		}
		if m == nil {
			continue // somebody else did it
		}
		err = unmount(m.ID)
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // the latter: somebody else did it
		case errors.Is(err, unix.EBUSY):
			return errs.E(errs.InUse, "%s: unmount %s: %s", p.field, p.path, whoHas(p.host, m.ID))
		default:
			return errs.E(errs.Unavailable, "%s: unmount %s: %w", p.field, p.path, err)
		}
	}
}

func (p *Place) unmountPatiently(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, busyPatience)
	defer cancel()
	for wait := time.Millisecond; ; wait *= 2 {
		err := unix.Unmount(p.fdPath(), unix.UMOUNT_NOFOLLOW)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// shownHolders is how many processes an error names.
const shownHolders = 3

// whoHas says in words which processes keep a mount busy, as far as this process can see any.
func whoHas(h *host.Host, mount int) string {
	names := holders(h, mount)
	if len(names) == 0 {
		return "something on the node still has files open there"
	}
	if more := len(names) - shownHolders; more > 0 {
		names = append(names[:shownHolders], fmt.Sprintf("%d more", more))
	}
	return "still held open by " + strings.Join(names, ", ")
}

// holders names the processes that have something of a mount open or are in it.
func holders(h *host.Host, mount int) (names []string) {
	_ = h.Ask("mount.holders", func() error { // what cannot be seen is not named
		processes, err := os.ReadDir(h.Proc())
		point := mountPoint(h, mount)
		for _, process := range processes {
			if pid, err := strconv.Atoi(process.Name()); err == nil && holds(h.Proc(process.Name()), mount, point) {
				comm, _ := os.ReadFile(h.Proc(process.Name(), "comm"))
				names = append(names, fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(comm)), pid))
			}
		}
		return err
	})
	return names
}

func mountPoint(h *host.Host, mount int) string {
	table, _ := h.Mounts()
	for _, m := range table {
		if m.ID == mount {
			return m.MountPoint
		}
	}
	return ""
}

// holds reports whether a process, by its directory in /proc, has something of a mount open or is in it.
// The file system itself, which may hang, is not asked: descriptors are known by the numbers of their mounts,
// and where a process is by the path as the process sees it.
func holds(process string, mount int, point string) bool {
	files, _ := filepath.Glob(filepath.Join(process, "fdinfo", "*"))
	if slices.ContainsFunc(files, func(info string) bool {
		id, err := mountIDIn(info)
		return err == nil && id == mount
	}) {
		return true
	}
	return point != "" && slices.ContainsFunc([]string{"cwd", "root"}, func(link string) bool {
		at, err := os.Readlink(filepath.Join(process, link))
		return err == nil && (at == point || strings.HasPrefix(at, point+"/"))
	})
}
