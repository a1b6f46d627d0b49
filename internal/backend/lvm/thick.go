package lvm

import (
	"context"
	"strconv"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/block"
	"github.com/dozo-dev/dozo/internal/host/dm"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// Thick is a pool of volumes that have their room from the start. Its snapshots and clones are copies.
type Thick struct{ *pool }

var _ interface {
	backend.Backend
	backend.Expander
	backend.Cloner
	backend.Snapshotter
	backend.Activator
	backend.Marker
	backend.Checker
	backend.Modifier
} = (*Thick)(nil)

var _ interface {
	backend.Gauger
	backend.Importer
} = (*Thick)(nil)

// withoutCopies is a pool of volumes that LVM takes no snapshots of: raid with integrity.
func withoutCopies(t *Thick) backend.Backend {
	return struct {
		backend.Backend
		backend.Expander
		backend.Activator
		backend.Marker
		backend.Checker
		backend.Modifier
		backend.Gauger
		backend.Importer // says why it cannot
	}{t, t, t, t, t, t, t, t}
}

// Create is [backend.Backend].
func (t *Thick) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	unlock, err := t.lock(ctx, t.withCopy(keylock.Create(r), t.volumeKey(r.ID)))
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	k := t.volumeKey(r.ID)
	i, found, err := t.look(ctx, k)
	if err != nil {
		return backend.Volume{}, err
	}
	switch {
	case found && i.whole():
		if err = t.volume(i).Satisfies(r); err == nil {
			err = t.blankAgain(ctx, i)
		}
	case r.Source.IsZero():
		i, err = t.blank(ctx, r)
	default:
		i, err = t.copied(ctx, r)
	}
	if err != nil {
		return backend.Volume{}, err
	}
	return t.volume(i), nil
}

// blank makes a new volume, with one command.
func (t *Thick) blank(ctx context.Context, r backend.Request) (item, error) {
	k := t.volumeKey(r.ID)
	if err := t.destroy(ctx, "create.clear", k); err != nil { // what a crash left
		return item{}, err
	}
	i, err := t.allocate(ctx, "create", k, facts{name: r.Name, limits: r.Limits}, r.Size, r.Limit)
	if err == nil {
		t.made.Store(r.ID, true)
	}
	return i, err
}

// allocate makes an LV in the group with the most room, whose first 4 KiB are zeros and which has no
// signature that LVM knows.
func (t *Thick) allocate(ctx context.Context, op string, k key, f facts, size, limit int64) (item, error) {
	g, err := t.roomiest(ctx)
	if err != nil {
		return item{}, err
	}
	err = g.Change(ctx, func(s *vg.State) error {
		n := t.opts.layout.Extents(s, size)
		if err := fits(s, n, limit); err != nil {
			return err
		}
		if err := t.admits(s); err != nil {
			return err
		}
		if most := t.opts.layout.Room(s, t.opts.spare).Largest; n > most {
			return t.noSpace(s, size, most*s.ExtentSize)
		}
		args := append(t.opts.layout.Args(), "--extents", strconv.FormatInt(n, 10), "--name", k.lvName(g.Name()),
			"--yes", "--zero", "y", "--wipesignatures", "y")
		return g.Run(ctx, op+".lvcreate", "lvcreate", append(append(args, addTags(f.tags(k))...), g.Name())...)
	})
	if err != nil {
		return item{}, err
	}
	i, found, err := t.look(ctx, k)
	if err == nil && !found {
		err = errs.E(errs.Internal, "%s %s: lvcreate said that it is there, and it is not", k.sort, k.id)
	}
	return i, err
}

// roomiest is the group in which the largest volume fits.
func (p *pool) roomiest(ctx context.Context) (best *vg.Group, err error) {
	most := int64(-1)
	for _, g := range p.groups {
		s, err := g.Load(ctx)
		if err != nil {
			return nil, err
		}
		if n := p.opts.layout.Room(s, p.opts.spare).Largest * s.ExtentSize; n > most {
			best, most = g, n
		}
	}
	return best, nil
}

// blankAgain makes sure that a volume which a Create finds is blank, if nobody can have used it: the
// lvcreate that made it may have been killed before it came to that. Before a volume is used it is marked.
func (t *Thick) blankAgain(ctx context.Context, i item) error {
	_, made := t.made.Load(i.key.id)
	if made || !i.facts.source.IsZero() || i.facts.mark != (backend.Mark{}) {
		return nil
	}
	d, err := dm.Find(t.host, i.state.DeviceUUID(i.lv))
	if err == nil && d.Open > 0 {
		return nil // somebody uses it without a mark
	}
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	f, err := t.openDevice(ctx, "create", i)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := block.ZeroEnds(t.host, "create.blank", f, i.size()); err != nil {
		return err
	}
	t.made.Store(i.key.id, true)
	return nil
}

// Delete is [backend.Backend].
func (t *Thick) Delete(ctx context.Context, id backend.ID) error {
	return t.delete(ctx, t.volumeKey(id), keylock.Resize(id))
}

// DeleteSnapshot is [backend.Snapshotter].
func (t *Thick) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	return t.delete(ctx, t.snapshotKey(id), keylock.DeleteSnapshot(id))
}

func (t *Thick) delete(ctx context.Context, k key, keys keylock.Keys) error {
	unlock, err := t.lock(ctx, t.withCopy(keys, k))
	if err != nil {
		return err
	}
	defer unlock()
	return t.destroy(ctx, "delete", k)
}

// destroy removes an LV of ours, and what is left of a copy that was being made to it. The caller has its lock.
func (t *Thick) destroy(ctx context.Context, op string, k key) error {
	if err := t.removeTemporary(ctx, op, k); err != nil {
		return err
	}
	i, found, err := t.look(ctx, k)
	if err != nil || !found {
		return err
	}
	if err := t.unused(ctx, i); err != nil {
		return err
	}
	if err := t.detach(ctx, op, i); err != nil {
		return err
	}
	if t.opts.wipe == "zero" {
		if i, err = t.zero(ctx, op, i); err != nil {
			return err
		}
	}
	t.made.Delete(k.id)
	// A raid's own metadata is out of our reach: the disk is told to forget it, lest it be found in a volume to come.
	discard := t.opts.wipe == "discard" || t.opts.wipe == "zero" && t.opts.layout.Raid
	return i.group.Remove(ctx, op+".lvremove", discard, i.lv.Name)
}

// detach removes the temporary snapshots that killed copies left of an LV: who copies from it has its
// lock, as the caller does. It refuses for a snapshot that is not ours, which LVM would remove with the LV.
func (t *Thick) detach(ctx context.Context, op string, i item) error {
	for _, name := range i.state.Snapshots(i.lv.Name) {
		left, ok := item{}, false
		if l := i.state.LVs[name]; l != nil {
			tag, _ := l.Tag(vg.Tag)
			if k, ours := parseKey(tag); ours && k.sort == copySort && k.pool == t.name {
				left, ok = t.inState(i.group, i.state, k)
			}
		}
		if !ok {
			return errs.E(errs.InUse, "%s %s: %s/%s is a snapshot of it that Dozo did not make; remove that first", i.key.sort, i.key.id, i.group.Name(), name)
		}
		if err := t.dissolve(ctx, op, left); err != nil {
			return err
		}
	}
	return nil
}

// zero overwrites an LV, which from before that on does not exist any more.
func (t *Thick) zero(ctx context.Context, op string, i item) (item, error) {
	if !i.facts.deleting {
		now := i.facts
		now.deleting = true
		if err := t.retag(ctx, op, i, now); err != nil {
			return i, err
		}
	}
	again, found, err := t.look(ctx, i.key)
	if err != nil || !found {
		return i, err
	}
	return again, t.overwrite(ctx, op+".zero", again)
}

// overwrite fills an LV with zeros.
func (t *Thick) overwrite(ctx context.Context, op string, i item) error {
	f, err := t.openDevice(ctx, op, i)
	if err != nil {
		return err
	}
	defer f.Close()
	return block.Zero(ctx, t.host, op, f, i.size())
}

// Expand is [backend.Expander]. The device grows with it.
func (t *Thick) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	k := t.volumeKey(id)
	unlock, err := t.lock(ctx, keylock.Resize(id))
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	i, err := t.get(ctx, k)
	if err != nil {
		return backend.Volume{}, err
	}
	if i.size() < size {
		err := i.group.Change(ctx, func(s *vg.State) error {
			if err := t.admits(s); err != nil {
				return err
			}
			n := t.opts.layout.Extents(s, size)
			more, most := n-i.lv.Extents(), t.opts.layout.Grow(s, t.opts.spare)
			if more > most {
				return t.noSpace(s, more*s.ExtentSize, most*s.ExtentSize)
			}
			return i.group.Run(ctx, "expand.lvextend", "lvextend", "--yes", "--extents", strconv.FormatInt(n, 10), i.path())
		})
		if err != nil {
			return backend.Volume{}, err
		}
		if i, err = t.get(ctx, k); err != nil {
			return backend.Volume{}, err
		}
	}
	return t.volume(i), nil
}

// Capacity is [backend.Backend].
func (t *Thick) Capacity(ctx context.Context, _ string) (c backend.Capacity, err error) {
	for _, g := range t.groups {
		s, err := g.Load(ctx)
		if err != nil {
			return backend.Capacity{}, err
		}
		r := t.opts.layout.Room(s, t.opts.spare)
		c.Total += r.Total * s.ExtentSize
		c.Available += r.Available * s.ExtentSize
		c.MaxVolume = max(c.MaxVolume, r.Largest*s.ExtentSize)
	}
	return c, nil
}
