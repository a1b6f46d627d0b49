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

// Unmount takes away what is mounted at the place, all of it if there are several mounts; nothing is
// no error. It is never lazy: errs.InUse, naming who it is where that can be seen, as long as something
// is open there.
func (p *Place) Unmount(ctx context.Context, op string) error {
	for {
		id, err := p.mount()
		if err != nil || id == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return errs.E(errs.Aborted, "%s: unmount %s: %w", p.field, p.path, err)
		}
		err = p.host.Do(op, func() error { return p.unmountPatiently(ctx) })
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // the latter: somebody else did it
		case errors.Is(err, unix.EBUSY):
			return errs.E(errs.InUse, "%s: unmount %s: %s", p.field, p.path, whoHas(p.host, id))
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
	var names []string
	_ = h.Ask("mount.holders", func() error { // what cannot be seen is not named
		processes, err := os.ReadDir(h.Proc())
		for _, process := range processes {
			if pid, err := strconv.Atoi(process.Name()); err == nil && holds(h, h.Proc(process.Name()), mount) {
				comm, _ := os.ReadFile(h.Proc(process.Name(), "comm"))
				names = append(names, fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(comm)), pid))
			}
		}
		return err
	})
	if len(names) == 0 {
		return "something on the node still has files open there"
	}
	if more := len(names) - shownHolders; more > 0 {
		names = append(names[:shownHolders], fmt.Sprintf("%d more", more))
	}
	return "still held open by " + strings.Join(names, ", ")
}

// holds reports whether a process, by its directory in /proc, has something of a mount open or is in it.
// The file system itself, which may hang, is not asked.
func holds(h *host.Host, process string, mount int) bool {
	files, _ := filepath.Glob(filepath.Join(process, "fd", "*"))
	return slices.ContainsFunc(append(files, filepath.Join(process, "cwd"), filepath.Join(process, "root")), func(link string) bool {
		f, err := os.OpenFile(link, unix.O_PATH, 0)
		if err != nil {
			return false
		}
		defer f.Close()
		id, err := mountID(h, f)
		return err == nil && id == mount
	})
}
