package fs

import (
	"context"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// DefaultType is the file system made where none is asked for.
const DefaultType = "ext4"

// Raw is what a mark says of a volume that was handed out as a block device: whatever is on it was
// put there by its user, so it is never blank to us.
const Raw = backend.Raw

// Types are the file systems that can be asked for.
func Types() []string { return []string{"ext4", "xfs", "btrfs"} }

// Marks remember beside one volume how far its first formatting got; see [backend.Marker]. known is
// false where nothing does.
type Marks interface {
	Mark(ctx context.Context) (m backend.Mark, known bool, err error)
	SetMark(ctx context.Context, m backend.Mark) error
}

// Told is a mark that somebody told who keeps it. It stays as it is, whatever is done.
type Told backend.Mark

// Mark is [Marks].
func (t Told) Mark(context.Context) (backend.Mark, bool, error) { return backend.Mark(t), true, nil }

// SetMark is [Marks].
func (Told) SetMark(context.Context, backend.Mark) error { return nil }

// Request asks for a file system on a device that is not mounted.
type Request struct {
	Device      string
	Type        string // "": whatever is there, else [DefaultType]
	MkfsOptions []string
	ReadOnly    bool // nothing is formatted
	NoDiscard   bool // mkfs leaves alone what it does not need: marks are there; see [OnDevice]
}

// Check returns errs.Invalid unless the request can be met on some device.
func (r Request) Check() error {
	if r.Type != "" && !slices.Contains(Types(), r.Type) {
		return errs.E(errs.Invalid, "fs_type: %.40q is none of %s", r.Type, strings.Join(Types(), ", "))
	}
	return checkMkfsOptions(r.MkfsOptions)
}

// Ensure returns the type of the file system on a device, which it makes only if the device is blank
// and was never formatted before. It may be killed at any point and called again.
//
// Where the storage keeps marks, this is the order: mark begun, mkfs, mark done, and only then may
// anything be mounted. So a mark that is begun and not done means that no data was ever on it, and
// one that is done means that there was, whatever a probe says.
func Ensure(ctx context.Context, h *host.Host, r Request, marks Marks) (kind string, err error) {
	if err := r.Check(); err != nil {
		return "", err
	}
	m, known, err := marks.Mark(ctx)
	if err != nil {
		return "", err
	}
	c, err := probe(ctx, h, r.Device)
	if err != nil {
		return "", err
	}
	if c.what != "" {
		return "", errs.E(errs.InUse, "device %s: holds %s and not a file system; it is left as it is. If its content is not needed, make a new volume", r.Device, c.what)
	}
	begun := known && m.FS != "" && !m.Done
	if c.kind != "" && !begun {
		return r.use(ctx, c, m, known, marks)
	}
	if err := r.mayFormat(c, m, known); err != nil {
		return "", err
	}
	kind = r.Type
	if kind == "" && m.FS != "" {
		kind = m.FS
	}
	if kind == "" {
		kind = DefaultType
	}
	if !begun || m.FS != kind {
		if err := marks.SetMark(ctx, backend.Mark{FS: kind}); err != nil {
			return "", err
		}
	}
	return kind, r.format(ctx, h, kind, begun, marks)
}

// use takes the file system that is there.
func (r Request) use(ctx context.Context, c content, m backend.Mark, known bool, marks Marks) (string, error) {
	if r.Type != "" && r.Type != c.kind {
		return "", errs.E(errs.InUse, "fs_type: %s was asked for, and device %s holds %s; ask for %s or make a new volume", r.Type, r.Device, c.kind, c.kind)
	}
	if !slices.Contains(Types(), c.kind) {
		return "", errs.E(errs.InUse, "device %s: holds %s, and Dozo mounts only %s", r.Device, c.kind, strings.Join(Types(), ", "))
	}
	if known && !r.ReadOnly && (!m.Done || m.FS != c.kind) {
		m.FS, m.Done = c.kind, true
		if err := marks.SetMark(ctx, m); err != nil {
			return "", err
		}
	}
	return c.kind, nil
}

// mayFormat is the last word before data could be lost.
func (r Request) mayFormat(c content, m backend.Mark, known bool) error {
	begun := known && m.FS != "" && !m.Done
	switch {
	case r.ReadOnly:
		return errs.E(errs.InUse, "device %s: has no file system, and is to be only read; use it once for writing or restore it from a snapshot that has one", r.Device)
	case known && m.Done && m.FS == Raw:
		return errs.E(errs.InUse, "device %s: was used as a block device before, or imported, or is a copy of such a one, and shows no file system; it will not be formatted. If its content is not needed, make a new volume", r.Device)
	case known && m.Done:
		return errs.E(errs.Internal, "device %s: was formatted as %s before and now shows no file system; it will not be formatted again. Look at it with blkid -p and fsck.%s -n, restore it from a snapshot, or delete the volume", r.Device, m.FS, m.FS)
	case begun && c.kind != "" && c.kind != m.FS:
		return errs.E(errs.InUse, "device %s: mkfs.%s was begun on it, and it holds %s, which Dozo did not make; it is left as it is", r.Device, m.FS, c.kind)
	case !begun && !c.zero:
		// All storage hands out volumes whose beginning is zeros. Data with a format of its own, as
		// databases on bare devices have it, shows no signature.
		return errs.E(errs.InUse, "device %s: shows no file system, and is not blank: its first 4 KiB are not zeros; it will not be formatted. If its content is not needed, make a new volume", r.Device)
	}
	return nil
}

// format makes the file system, whose mark is begun. Only one whose making was interrupted is made by force.
func (r Request) format(ctx context.Context, h *host.Host, kind string, force bool, marks Marks) error {
	backend.Progress(ctx, "mkfs."+kind)
	if err := mkfs(ctx, h, r, kind, force); err != nil {
		return err
	}
	c, err := probe(ctx, h, r.Device)
	if err != nil {
		return err
	}
	if c.kind != kind {
		return errs.E(errs.Internal, "device %s: mkfs.%s said it was done, and the device shows %q %s", r.Device, kind, c.kind, c.what)
	}
	return marks.SetMark(ctx, backend.Mark{FS: kind, Done: true})
}

// MarkRaw notes that a volume is handed out as a block device, before it is: from then on it is not
// blank, whatever a probe says.
func MarkRaw(ctx context.Context, marks Marks) error {
	m, known, err := marks.Mark(ctx)
	if err != nil || !known || m.Done {
		return err
	}
	m.FS, m.Done = Raw, true
	return marks.SetMark(ctx, m)
}
