package node

import (
	"context"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
)

func (n *Node) unstage(ctx context.Context, volume, staging string) error {
	rec, err := n.load(volume)
	if err != nil {
		return err
	}
	if rec == nil {
		return n.unstageUnknown(ctx, volume, staging)
	}
	if rec.Staging != staging {
		return nil // it is not staged there
	}
	if path, err := n.live(rec, ""); err != nil {
		return err
	} else if path != "" {
		return errs.E(errs.InUse, "%s: %s is still published at %s; unpublish it first", fieldVolume, volume, path)
	}
	return n.teardown(ctx, rec)
}

// teardown undoes a Stage in reverse, each step of which may be undone or never have been done.
func (n *Node) teardown(ctx context.Context, rec *record) error {
	at, err := n.place(fieldStaging, rec.Staging)
	switch {
	case errs.Is(err, errs.NotFound): // then nothing is there to be mounted at
	case err != nil:
		return err
	default:
		defer at.Close()
		if err := n.unmountStaging(ctx, rec, at); err != nil {
			return err
		}
	}
	if err := n.detach(ctx, rec); err != nil {
		return err
	}
	if rec.Inline != nil {
		return nil // until its volume is deleted, see discard
	}
	return n.forget("unstage.record", rec.Volume)
}

func (n *Node) unmountStaging(ctx context.Context, rec *record, at *mnt.Place) error {
	if rec.Block {
		return nil
	}
	m, err := at.Mounted()
	if err != nil {
		return err
	}
	if m != nil && !n.ours(m, rec) {
		return errs.E(errs.InUse, "%s: %s has something else mounted: %s (%s); unmount that by hand", fieldStaging, rec.Staging, m.Source, m.FsType)
	}
	if rec.Access.Mount != nil {
		if err := n.flush(ctx, rec, at); err != nil {
			return err
		}
	}
	if err := n.unmount(ctx, rec, at, "unstage.unmount"); err != nil {
		return err
	}
	if !rec.MadeStaging && rec.Inline == nil { // a target is ours to remove, whoever made it
		return nil
	}
	return at.Remove("unstage.rmdir")
}

// unstageUnknown unmounts what is at the staging path of a volume that has no record, unless it is
// another volume's. Its device, if it has one, stays: nothing here says which that is. A record that was being
// written when the process ended is removed: nothing was done yet.
func (n *Node) unstageUnknown(ctx context.Context, volume, staging string) error {
	if err := n.forgetLeft("unstage.record", volume); err != nil {
		return err
	}
	if owner, err := n.owner(staging, volume); err != nil || owner != "" {
		return err
	}
	at, err := n.place(fieldStaging, staging)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	return at.Unmount(ctx, "unstage.unmount")
}

// unmount unmounts what is the record's volume; rec may be nil.
func (n *Node) unmount(ctx context.Context, rec *record, at *mnt.Place, op string) error {
	if rec != nil && rec.Access.Mount != nil {
		return at.UnmountNet(ctx, op)
	}
	return at.Unmount(ctx, op)
}

// live returns a target of the record, other than the one given, at which something is mounted; ""
// if there is none.
func (n *Node) live(rec *record, but string) (string, error) {
	for _, t := range rec.Targets {
		if t.Path == but {
			continue
		}
		mounted, err := n.mounted(fieldTarget, t.Path)
		if err != nil || mounted {
			return t.Path, err
		}
	}
	return "", nil
}

func (n *Node) mounted(field, path string) (bool, error) {
	at, err := n.place(field, path)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer at.Close()
	return at.IsMountPoint()
}
