package lvm

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/block"
	"github.com/dozo-dev/dozo/internal/host/dm"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// copied makes a volume of a snapshot or of another volume.
func (t *Thick) copied(ctx context.Context, r backend.Request) (item, error) {
	from, err := t.source(ctx, r.Source)
	if err != nil {
		return item{}, err
	}
	f := facts{name: r.Name, source: r.Source, mark: from.facts.mark, limits: r.Limits}
	f.mark.Copied = true
	return t.copy(ctx, "create", from, t.volumeKey(r.ID), f, r.Size, r.Limit)
}

// CreateSnapshot is [backend.Snapshotter]: a whole copy, of the instant at which it begins.
func (t *Thick) CreateSnapshot(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	k := t.snapshotKey(r.ID)
	unlock, err := t.lock(ctx, t.withCopy(keylock.TakeSnapshots(r), k))
	if err != nil {
		return backend.Snapshot{}, err
	}
	defer unlock()
	i, found, err := t.look(ctx, k)
	if err != nil {
		return backend.Snapshot{}, err
	}
	if !found || !i.whole() {
		from, err := t.get(ctx, t.volumeKey(r.Source))
		if err != nil {
			return backend.Snapshot{}, err
		}
		f := facts{name: r.Name, source: backend.Source{Volume: r.Source}, mark: from.facts.mark, group: r.Group}
		if i, err = t.copy(ctx, "snapshot", from, k, f, from.size(), 0); err != nil {
			return backend.Snapshot{}, err
		}
	}
	s := t.snapshot(i)
	return s, s.Satisfies(r)
}

// copy makes an LV with what another one holds. It has a tag that says "building" until that is done, so
// a crash leaves something that does not exist, and the next call begins anew in the same LV.
func (t *Thick) copy(ctx context.Context, op string, from item, k key, f facts, size, limit int64) (to item, err error) {
	if to, err = t.stage(ctx, op, k, f, size, limit); err != nil {
		return item{}, err
	}
	if err = t.fill(ctx, op, from, to, &f); err == nil {
		err = t.retag(ctx, op, to, f)
	}
	if err != nil {
		if !errs.Is(err, errs.Aborted) { // which will be called again
			err = errors.Join(err, t.destroy(context.WithoutCancel(ctx), op+".undo", k))
		}
		return item{}, err
	}
	return t.get(ctx, k)
}

// stage makes the LV for a copy, or finds the one that an earlier call made.
func (t *Thick) stage(ctx context.Context, op string, k key, f facts, size, limit int64) (item, error) {
	if err := t.removeTemporary(ctx, op, k); err != nil {
		return item{}, err
	}
	i, found, err := t.look(ctx, k)
	if err != nil {
		return item{}, err
	}
	if found && i.facts.building && !i.facts.deleting && i.facts.source == f.source && i.lv.Extents() == t.opts.layout.Extents(i.state, size) {
		return i, nil
	}
	if err := t.destroy(ctx, op+".clear", k); err != nil {
		return item{}, err
	}
	f.building = true
	return t.allocate(ctx, op, k, f, size, limit)
}

// fill copies. From a volume it goes by way of a temporary snapshot of LVM's, which stays as it is while
// the volume is written to; what the volume is at that instant it notes in f. Snapshots of ours are never written to.
func (t *Thick) fill(ctx context.Context, op string, from, to item, f *facts) (err error) {
	size := from.size() // that of a snapshot's LV is the room for what is overwritten
	if from.key.sort == volumeSort {
		temporary, err := t.temporary(ctx, op, from, to.key, f)
		if err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, t.removeTemporary(context.WithoutCancel(ctx), op, to.key))
		}()
		from = temporary
	}
	if to.key.sort == snapshotSort {
		f.created = time.Now().UTC()
	}
	source, err := t.openDevice(ctx, op, from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := t.openDevice(ctx, op, to)
	if err != nil {
		return err
	}
	defer target.Close()
	err = block.Copy(ctx, t.host, op+".copy", target, source, size)
	if err == nil || from.key.sort != copySort || ctx.Err() != nil {
		return err
	}
	return t.explain(from, err)
}

// explain says why a copy failed whose snapshot was full.
func (t *Thick) explain(from item, err error) error {
	if overflowed(t.host, from) {
		return errs.E(errs.InUse, "more than %d %% of the volume was written to while it was copied; pause its writer, or raise the pool's copySpace: %w", t.opts.copySpace, err)
	}
	return err
}

// withCopy are locks with that of the temporary snapshot from which something is copied to the LV with key k.
func (p *pool) withCopy(keys keylock.Keys, k key) keylock.Keys {
	keys.Alone = append(keys.Alone, p.copyKey(k).lockName())
	return keys
}

func (p *pool) copyKey(k key) key {
	// A volume and a snapshot may have the same ID.
	return key{copySort, p.name, backend.IDFor(k.sort + "/" + string(k.id))}
}

// temporary takes a classic snapshot of a volume, from which to copy to the LV with key to and facts f. Its room may
// be what the pool keeps spare.
func (t *Thick) temporary(ctx context.Context, op string, from item, to key, f *facts) (item, error) {
	k := t.copyKey(to)
	err := from.group.Change(ctx, func(s *vg.State) error {
		f.markOf(from, s)
		n := max(1, (from.lv.Extents()*t.opts.copySpace+99)/100)
		args := []string{"--snapshot", "--extents", strconv.FormatInt(n, 10), "--name", k.lvName(s.Name), "--yes"}
		return from.group.Run(ctx, op+".lvcreate-snapshot", "lvcreate", append(append(args, addTags(facts{}.tags(k))...), from.path())...)
	})
	if err != nil {
		return item{}, err
	}
	return t.get(ctx, k)
}

// removeTemporary removes the snapshot from which something was copied to the LV with key k.
func (t *Thick) removeTemporary(ctx context.Context, op string, k key) error {
	i, found, err := t.look(ctx, t.copyKey(k))
	if err != nil || !found {
		return err
	}
	return t.dissolve(ctx, op, i)
}

// dissolve removes a temporary snapshot. Its room has data of the volume in it, and is overwritten where
// that is what happens to deleted data: for that it is made an LV of its own first.
func (t *Thick) dissolve(ctx context.Context, op string, i item) error {
	if err := t.unused(ctx, i); err != nil {
		return err
	}
	if t.opts.wipe == "zero" {
		if i.state.IsSnapshot(i.lv.Name) {
			err := i.group.Change(ctx, func(*vg.State) error {
				return i.group.Run(ctx, op+".lvconvert", "lvconvert", "--splitsnapshot", "--yes", i.path())
			})
			if err != nil {
				return err
			}
		}
		again, found, err := t.look(ctx, i.key)
		if err != nil || !found {
			return err
		}
		if _, err := t.activate(ctx, op, again); err != nil {
			return err
		}
		if err := t.remap(ctx, op, again); err != nil {
			return err
		}
		if err := t.overwrite(ctx, op+".zero-snapshot", again); err != nil {
			return err
		}
	}
	return i.group.Remove(ctx, op+".lvremove-snapshot", t.opts.wipe == "discard", i.lv.Name)
}

// remap makes the device of an LV that is a plain one its own, which a killed command may have left as
// that of a snapshot.
func (t *Thick) remap(ctx context.Context, op string, i item) error {
	targets, err := dm.Status(t.host, i.state.DeviceUUID(i.lv))
	if err != nil || !slices.ContainsFunc(targets, func(d dm.Target) bool { return d.Type == "snapshot" }) {
		return err
	}
	return i.group.Change(ctx, func(*vg.State) error {
		return i.group.Run(ctx, op+".refresh", "lvchange", "--refresh", i.path())
	})
}

// overflowed reports whether a classic snapshot is of no use any more.
func overflowed(h *host.Host, i item) bool {
	targets, err := dm.Status(h, i.state.DeviceUUID(i.lv))
	return err == nil && len(targets) == 1 && targets[0].Type == "snapshot" &&
		(strings.HasPrefix(targets[0].Params, "Invalid") || strings.HasPrefix(targets[0].Params, "Overflow"))
}
