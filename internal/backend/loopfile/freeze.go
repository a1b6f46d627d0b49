package loopfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// frozenFile is in a volume's directory while its file system is frozen, so that whoever locks the
// volume after a crash thaws it.
const frozenFile = "frozen"

// errTooLong ends a copy that held writers back for too long.
var errTooLong = errors.New("writers were held back for too long")

// held are volumes whose images stay as they are until release.
type held struct {
	b      *Backend
	op     string
	ctx    context.Context // ends when writers have been held back for long enough
	cancel context.CancelFunc
	frozen []mounted
	loose  map[*item]time.Time // attached, not mounted: cannot be held, so when each was last written to
	torn   bool                // copies took time: a loose volume must not have been written to meanwhile
}

// hold keeps the images of volumes as they are: mounted file systems are frozen, which also makes
// them consistent. It first makes a trial copy while writers go on: nobody is held back for a copy
// that will not be done in maxFreeze.
func (b *Backend) hold(ctx context.Context, op string, pairs []pair) (*held, error) {
	h := &held{b: b, op: op, ctx: ctx, cancel: func() {}, loose: map[*item]time.Time{}, torn: len(pairs) > 1}
	mounts, err := b.users(pairs, h.loose)
	if err != nil || len(mounts) == 0 {
		return h, err
	}
	if err := b.trial(ctx, op, pairs); err != nil {
		return nil, err
	}
	h.ctx, h.cancel = context.WithTimeoutCause(ctx, b.maxFreeze, errTooLong)
	for _, m := range mounts {
		h.frozen = append(h.frozen, m)
		if err := b.freeze(op, m); err != nil {
			return nil, errors.Join(err, h.release(err))
		}
	}
	return h, nil
}

// release lets writers go on. It fails if the copies, which went well, are not of one instant.
func (h *held) release(copying error) (err error) {
	h.cancel()
	for _, m := range h.frozen {
		err = errors.Join(err, h.b.thaw(h.op, m))
	}
	if err != nil || copying != nil || !h.torn {
		return err
	}
	for i, before := range h.loose {
		after, err := modified(i.image())
		if err != nil {
			return err
		}
		if !after.Equal(before) {
			return errs.E(errs.InUse, "volume %s: written to while it was copied; pause its writer and call again, or keep the pool on xfs or btrfs, where copies take no time", i.id)
		}
	}
	return nil
}

// mounted is a volume whose file system is mounted somewhere.
type mounted struct {
	dir   string // of the volume
	point string // one of its mount points
}

// users finds who could write to the volumes: mounted file systems, which can be frozen, and devices
// open otherwise, which are made to write out what they hold and noted in loose.
func (b *Backend) users(pairs []pair, loose map[*item]time.Time) ([]mounted, error) {
	var all []mounted
	for _, p := range pairs {
		dev, err := b.attached(p.from.image())
		if err != nil {
			return nil, err
		}
		if dev == "" {
			continue
		}
		point, err := b.mountPoint(dev)
		if err != nil {
			return nil, err
		}
		if point != "" {
			all = append(all, mounted{dir: p.from.dir, point: point})
			continue
		}
		if err := flush(dev); err != nil {
			return nil, errs.E(errs.Unavailable, "volume %s: flush %s: %w", p.from.id, dev, err)
		}
		if loose[p.from], err = settled(p.from.image()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// mountPoint returns where the file system on a device is mounted, or on what stands on the device, such as
// its decrypted form; "" if it is not.
func (b *Backend) mountPoint(device string) (string, error) {
	above, err := b.host.Holders(device)
	if err != nil {
		return "", errs.E(errs.Unavailable, "what stands on %s: %w", device, err)
	}
	for _, d := range append(above, device) {
		table, err := b.host.MountsOf(d)
		if err != nil {
			return "", errs.E(errs.Unavailable, "mounts of %s: %w", d, err)
		}
		for _, m := range table {
			if m.FsType != "devtmpfs" { // a raw block volume is a bind mount of its device file
				return m.MountPoint, nil
			}
		}
	}
	return "", nil
}

func flush(device string) error {
	f, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// clockTick is more than the grain of the kernel's file times: two writes further apart than this have
// different times.
const clockTick = 20 * time.Millisecond

// settled returns when a file was last written to, once a later write would show.
func settled(image string) (time.Time, error) {
	for {
		t, err := modified(image)
		if age := time.Since(t); err != nil || age > clockTick || age < 0 {
			return t, err
		}
		time.Sleep(clockTick)
		if u, err := modified(image); err != nil || !u.Equal(t) {
			return t, err // written to all the time: the check afterwards will say so
		}
	}
}

func modified(image string) (time.Time, error) {
	info, err := os.Lstat(image)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// trial copies while writers go on, and refuses what takes longer than they may be held back.
func (b *Backend) trial(ctx context.Context, op string, pairs []pair) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.maxFreeze, errTooLong)
	defer cancel()
	for _, p := range pairs {
		if _, err := b.copyImage(ctx, op+".trial", p.from.image(), p.to.image()); err != nil {
			return b.tooLong(ctx, err)
		}
	}
	return nil
}

func (b *Backend) tooLong(ctx context.Context, err error) error {
	if err == nil || !errors.Is(context.Cause(ctx), errTooLong) {
		return err
	}
	return errs.E(errs.InUse, "copying a mounted volume takes longer than the %v for which its writers may be held back (pool option maxFreeze); "+
		"copy it while it is not mounted, or keep the pool on xfs or btrfs, where copies take no time", b.maxFreeze)
}

func (b *Backend) freeze(op string, m mounted) error {
	note, err := b.host.Create(op+".freeze.note", filepath.Join(m.dir, frozenFile), 0o600)
	if err != nil {
		return err
	}
	if err := note.Close(); err != nil {
		return err
	}
	err = b.host.Freeze(op+".freeze", m.point)
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return errs.E(errs.Unavailable, "freeze %s: %w", m.point, err)
	}
	return nil
}

func (b *Backend) thaw(op string, m mounted) error {
	err := b.host.Thaw(op+".thaw", m.point)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return errs.E(errs.Internal, "thaw %s: %w; run: fsfreeze --unfreeze %s", m.point, err, m.point)
	}
	err = b.host.Remove(op+".thaw.note", filepath.Join(m.dir, frozenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// thawLeft thaws a volume that a process froze and did not live to thaw. The caller has its lock.
func (b *Backend) thawLeft(dir string) error {
	left, err := exists(filepath.Join(dir, frozenFile))
	if err != nil || !left {
		return err
	}
	i := item{id: backend.ID(filepath.Base(dir)), dir: dir}
	dev, err := b.attached(i.image())
	if err != nil {
		return err
	}
	if dev != "" {
		point, err := b.mountPoint(dev)
		if err != nil {
			return err
		}
		if point != "" {
			return b.thaw("recover", mounted{dir: dir, point: point})
		}
	}
	return b.host.Remove("recover.thaw.note", filepath.Join(dir, frozenFile))
}
