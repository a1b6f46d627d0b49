package lvm

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/layout"
	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// Thin is a pool of volumes that take their room from a thin pool of LVM's as they are written to. Its
// snapshots and clones share blocks with their source and take no time.
type Thin struct{ *pool }

var _ interface {
	backend.Backend
	backend.Expander
	backend.Cloner
	backend.Snapshotter
	backend.Activator
	backend.Marker
	backend.Checker
	backend.Modifier
} = (*Thin)(nil)

// Create is [backend.Backend].
func (t *Thin) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	unlock, err := t.lock(ctx, keylock.Create(r))
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	k := t.volumeKey(r.ID)
	i, found, err := t.look(ctx, k)
	if err != nil {
		return backend.Volume{}, err
	}
	if found && i.whole() {
		if err := t.volume(i).Satisfies(r); err != nil {
			return backend.Volume{}, err
		}
		found, err = t.works(ctx, i)
	} else if found {
		err = i.group.Remove(ctx, "create.clear", false, i.lv.Name)
		found = false
	}
	if err == nil && !found {
		i, err = t.make(ctx, r)
	}
	if err != nil {
		return backend.Volume{}, err
	}
	return t.volume(i), nil
}

// works reports whether a volume that a Create finds can be used, if nobody can have used it yet: the
// lvcreate that made it may have been killed before the thin pool heard of it. Such a volume has no data,
// and is removed. Before a volume is used it is marked, and a copy exists only once it works.
func (t *Thin) works(ctx context.Context, i item) (bool, error) {
	_, made := t.made.Load(i.key.id)
	if made || !i.facts.source.IsZero() || i.facts.mark != (backend.Mark{}) {
		return true, nil
	}
	_, err := t.activate(ctx, "create", i)
	if errs.Is(err, errs.Internal) {
		return false, i.group.Remove(ctx, "create.clear", false, i.lv.Name)
	}
	if err == nil {
		t.made.Store(i.key.id, true)
	}
	return true, err
}

// make makes a volume that there is not.
func (t *Thin) make(ctx context.Context, r backend.Request) (item, error) {
	k := t.volumeKey(r.ID)
	if !r.Source.IsZero() {
		return t.copied(ctx, k, r)
	}
	if err := t.blank(ctx, k, facts{name: r.Name, limits: r.Limits}, r); err != nil {
		return item{}, err
	}
	t.made.Store(r.ID, true)
	return t.get(ctx, k)
}

// blank makes a new volume, with one command; the thin pool before it if need be.
func (t *Thin) blank(ctx context.Context, k key, f facts, r backend.Request) error {
	g, err := t.roomiest(ctx)
	if err != nil {
		return err
	}
	return g.Change(ctx, func(s *vg.State) error {
		if err := fits(s, layout.Extents(s, r.Size), r.Limit); err != nil {
			return err
		}
		if err := t.promise(s, r.Size); err != nil {
			return err
		}
		if err := t.ensurePool(ctx, g, s); err != nil {
			return err
		}
		args := []string{"--type", "thin", "--thinpool", t.opts.thinPool, "--virtualsize", strconv.FormatInt(layout.Extents(s, r.Size)*s.ExtentSize, 10) + "b",
			"--name", k.lvName(s.Name), "--yes"}
		return g.Run(ctx, "create.lvcreate", "lvcreate", append(append(args, addTags(f.tags(k))...), s.Name)...)
	})
}

// copied makes a volume that shares blocks with a snapshot or another volume.
func (t *Thin) copied(ctx context.Context, k key, r backend.Request) (item, error) {
	from, err := t.source(ctx, r.Source)
	if err != nil {
		return item{}, err
	}
	f := facts{name: r.Name, source: r.Source, mark: from.facts.mark, limits: r.Limits}
	f.mark.Copied = true
	// Without the flag that snapshots have: it is activated like any volume.
	return t.fork(ctx, "create", from, k, f, r, "--permission", "rw", "--setactivationskip", "n", "--activate", "y")
}

// fork makes an LV that shares blocks with another. It has a tag that says "building" until all is done:
// an lvcreate that is killed may leave one that the thin pool knows nothing of.
func (t *Thin) fork(ctx context.Context, op string, from item, k key, f facts, r backend.Request, more ...string) (item, error) {
	err := from.group.Change(ctx, func(s *vg.State) error {
		f.markOf(from, s)
		building := f
		building.building = true
		if err := fits(s, layout.Extents(s, r.Size), r.Limit); err != nil {
			return err
		}
		if err := t.promise(s, r.Size); err != nil {
			return err
		}
		args := append([]string{"--snapshot", "--name", k.lvName(s.Name), "--yes"}, more...)
		return from.group.Run(ctx, op+".lvcreate", "lvcreate", append(append(args, addTags(building.tags(k))...), from.path())...)
	})
	if err != nil {
		return item{}, err
	}
	i, found, err := t.look(ctx, k)
	if err == nil && found && i.size() < r.Size {
		err = t.grow(ctx, op, i, r.Size, false)
	}
	if err == nil && found {
		err = t.retag(ctx, op, i, f)
	}
	if err != nil {
		return item{}, err
	}
	return t.get(ctx, k)
}

// grow makes a volume larger. With ask the room has to be promised first; that of a copy was.
func (t *Thin) grow(ctx context.Context, op string, i item, size int64, ask bool) error {
	return i.group.Change(ctx, func(s *vg.State) error {
		if ask {
			if err := t.promise(s, size-i.size()); err != nil {
				return err
			}
		}
		return i.group.Run(ctx, op+".lvextend", "lvextend", "--yes", "--extents", strconv.FormatInt(layout.Extents(s, size), 10), i.path())
	})
}

// CreateSnapshot is [backend.Snapshotter]. LVM freezes the file system for the instant.
func (t *Thin) CreateSnapshot(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	k := t.snapshotKey(r.ID)
	unlock, err := t.lock(ctx, keylock.TakeSnapshots(r))
	if err != nil {
		return backend.Snapshot{}, err
	}
	defer unlock()
	i, found, err := t.look(ctx, k)
	if err == nil && found && !i.whole() {
		err = i.group.Remove(ctx, "snapshot.clear", false, i.lv.Name)
		found = false
	}
	if err == nil && !found {
		i, err = t.take(ctx, k, r)
	}
	if err != nil {
		return backend.Snapshot{}, err
	}
	s := t.snapshot(i)
	return s, s.Satisfies(r)
}

func (t *Thin) take(ctx context.Context, k key, r backend.SnapshotRequest) (item, error) {
	from, err := t.get(ctx, t.volumeKey(r.Source))
	if err != nil {
		return item{}, err
	}
	f := facts{name: r.Name, source: backend.Source{Volume: r.Source}, mark: from.facts.mark, group: r.Group, created: time.Now().UTC()}
	return t.fork(ctx, "snapshot", from, k, f, backend.Request{Size: from.size()}, "--permission", "r", "--setactivationskip", "y")
}

// Delete is [backend.Backend]. Copies and snapshots of it stay.
func (t *Thin) Delete(ctx context.Context, id backend.ID) error {
	return t.delete(ctx, t.volumeKey(id), keylock.Resize(id))
}

// DeleteSnapshot is [backend.Snapshotter].
func (t *Thin) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	return t.delete(ctx, t.snapshotKey(id), keylock.DeleteSnapshot(id))
}

func (t *Thin) delete(ctx context.Context, k key, keys keylock.Keys) error {
	unlock, err := t.lock(ctx, keys)
	if err != nil {
		return err
	}
	defer unlock()
	return t.destroy(ctx, "delete", k)
}

// destroy removes an LV of ours; the caller has its lock. The thin pool forgets the blocks, and zeroes
// them before it hands them out again.
func (t *Thin) destroy(ctx context.Context, op string, k key) error {
	i, found, err := t.look(ctx, k)
	if err != nil || !found {
		return err
	}
	if err := t.unused(ctx, i); err != nil {
		return err
	}
	t.made.Delete(k.id)
	return i.group.Remove(ctx, op+".lvremove", false, i.lv.Name)
}

// Expand is [backend.Expander]. The device grows with it.
func (t *Thin) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
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
		if err := t.grow(ctx, "expand", i, size, true); err != nil {
			return backend.Volume{}, err
		}
		if i, err = t.get(ctx, k); err != nil {
			return backend.Volume{}, err
		}
	}
	return t.volume(i), nil
}

// Capacity is [backend.Backend].
func (t *Thin) Capacity(ctx context.Context, _ string) (c backend.Capacity, err error) {
	for _, g := range t.groups {
		s, err := g.Load(ctx)
		if err != nil {
			return backend.Capacity{}, err
		}
		total, left, err := t.promises(s)
		if err != nil {
			return backend.Capacity{}, err
		}
		c.Total += total
		c.Available += left
		c.MaxVolume = max(c.MaxVolume, left)
	}
	return c, nil
}

// roomiest is the group whose thin pool can promise most.
func (t *Thin) roomiest(ctx context.Context) (best *vg.Group, err error) {
	most := int64(-1)
	for _, g := range t.groups {
		s, err := g.Load(ctx)
		if err != nil {
			return nil, err
		}
		_, left, err := t.promises(s)
		if err != nil {
			return nil, err
		}
		if left > most {
			best, most = g, left
		}
	}
	return best, nil
}

// promise refuses what a thin pool cannot promise any more.
func (t *Thin) promise(s *vg.State, size int64) error {
	if err := t.admits(s); err != nil {
		return err
	}
	size = layout.Extents(s, size) * s.ExtentSize
	total, left, err := t.promises(s)
	if err != nil || size <= left {
		return err
	}
	why := ""
	if u, ok := t.usage(s); ok && u.full(s) {
		why = "; it is full: " + u.String()
	}
	return errs.E(errs.NoSpace, "pool %s: %s are asked for, thin pool %s/%s can still promise %s of %s (overprovision %g)%s", t.name,
		backend.FormatSize(size), s.Name, t.opts.thinPool, backend.FormatSize(left), backend.FormatSize(total), t.opts.over, why)
}

// promises is what a thin pool can promise in all, and what of that is left, in bytes. Snapshots count
// like volumes: they need as much room once all of their source has been overwritten.
func (t *Thin) promises(s *vg.State) (total, left int64, err error) {
	size, made := int64(0), s.LVs[t.opts.thinPool]
	switch {
	case made == nil || t.unfinished(made):
		size = t.plan(s).data * s.ExtentSize
	case made.Type() != "thin-pool":
		return 0, 0, errs.E(errs.Invalid, "options[\"thinPool\"]: %s/%s is there and no thin pool", s.Name, t.opts.thinPool)
	default:
		size = s.Size(made)
	}
	total = int64(float64(size)*t.opts.over) / s.ExtentSize * s.ExtentSize
	if s.Missing() != "" || s.VolumesLeft() == 0 {
		return total, 0, nil
	}
	if u, ok := t.usage(s); ok && u.full(s) {
		return total, 0, nil
	}
	return total, max(0, total-promised(s, t.opts.thinPool)), nil
}

// promised is the size of all that is in a thin pool, ours or not, in bytes.
func promised(s *vg.State, pool string) (n int64) {
	for _, l := range s.LVs {
		if inPool(l, pool) {
			n += s.Size(l)
		}
	}
	return n
}

func inPool(l *metadata.LV, pool string) bool {
	return l.Type() == "thin" && l.Segments[0].Pool == pool
}

// plan is the size of a thin pool to be made, in extents.
type plan struct{ data, metadata int64 }

// plan works out what a thin pool may have of a group: LVM keeps a spare of the metadata's size besides.
func (t *Thin) plan(s *vg.State) plan {
	free := t.opts.layout.Room(s, t.opts.spare).Largest
	want := free
	if percent, ok := strings.CutSuffix(t.opts.thinPoolSize, "%"); ok {
		n, _ := strconv.ParseInt(percent, 10, 64)
		want = free * n / 100
	} else if n, err := backend.ParseSize(t.opts.thinPoolSize); err == nil {
		want = layout.Extents(s, n)
	}
	// 48 bytes for each block of 64 KiB, twice that for snapshots, and at least what LVM wants: 2 MiB.
	p := plan{data: min(want, free)}
	p.metadata = layout.Extents(s, min(16<<30, max(4*mib, p.data*s.ExtentSize/(64<<10)*96)))
	p.data = max(0, min(p.data, free-2*p.metadata)) / t.opts.layout.Data * t.opts.layout.Data
	return p
}

// unfinished tells what an lvcreate of ours that was killed left of a thin pool: an LV with our tag that is
// not one yet, in which nothing can be.
func (t *Thin) unfinished(l *metadata.LV) bool {
	owner, ok := l.Tag(vg.Tag + ".pool")
	return ok && owner == t.name && l.Type() != "thin-pool"
}

// ensurePool makes the thin pool. The caller has the group's turn.
func (t *Thin) ensurePool(ctx context.Context, g *vg.Group, s *vg.State) error {
	if left := s.LVs[t.opts.thinPool]; left != nil && t.unfinished(left) {
		if err := g.Run(ctx, "create.clear-pool", "lvremove", "--yes", "--force", g.Name()+"/"+left.Name); err != nil {
			return err
		}
		var err error
		if s, err = g.Load(ctx); err != nil {
			return err
		}
	}
	if s.LVs[t.opts.thinPool] != nil {
		return nil
	}
	p := t.plan(s)
	if p.data <= 0 {
		return t.noSpace(s, s.ExtentSize, 0)
	}
	args := []string{"--type", "thin-pool", "--extents", strconv.FormatInt(p.data, 10), "--name", t.opts.thinPool,
		"--poolmetadatasize", strconv.FormatInt(p.metadata*s.ExtentSize, 10) + "b", "--zero", "y", "--discards", "passdown", "--yes",
		"--addtag", vg.Tag + ".pool=" + t.name}
	if t.opts.layout.Data > 1 {
		args = append(args, "--stripes", strconv.FormatInt(t.opts.layout.Data, 10), "--stripesize", strconv.FormatInt(t.opts.layout.StripeSize, 10)+"b")
	}
	return g.Run(ctx, "create.lvcreate-pool", "lvcreate", append(args, s.Name)...)
}
