// Package lvm keeps volumes as logical volumes of LVM: thick ones, which have their room from the start,
// and thin ones, which take it from a thin pool as they are written to. The two are two types, [Thick]
// and [Thin].
//
// The volume group is all the state there is. Names, owners and how far things got are in tags of the
// LVs (tags.go), so that everything can be rebuilt from it. A volume exists when its LV does and has no
// tag that says it is being built or deleted; such an LV is what a crash left, and the next call for the
// same ID or the opening of the pool clears it.
package lvm

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// pool is what thick and thin pools have in common.
type pool struct {
	host   *host.Host
	name   string
	node   string
	groups []*vg.Group
	locks  *host.LockFile
	opts   options
	log    *slog.Logger

	made       sync.Map // IDs of blank volumes whose making this process saw through
	background background
}

// item is an LV of ours as it was at some instant.
type item struct {
	group *vg.Group
	state *vg.State
	lv    *metadata.LV
	key   key
	facts facts
}

func (i item) size() int64  { return i.state.Size(i.lv) }
func (i item) path() string { return i.group.Name() + "/" + i.lv.Name }

// whole is false for what is being built or deleted.
func (i item) whole() bool { return !i.facts.building && !i.facts.deleting }

// look finds an LV of ours, whole or not. found is false only if every volume group was asked.
func (p *pool) look(ctx context.Context, k key) (i item, found bool, err error) {
	var unknown error
	for _, g := range p.groups {
		s, err := g.Load(ctx)
		if err != nil {
			unknown = errors.Join(unknown, err)
			continue
		}
		if i, ok := p.inState(g, s, k); ok {
			return i, true, nil
		}
	}
	if unknown != nil {
		return item{}, false, errs.E(errs.KindOf(unknown), "%s %s: %w", k.sort, k.id, unknown)
	}
	return item{}, false, nil
}

func (p *pool) inState(g *vg.Group, s *vg.State, k key) (item, bool) {
	l := s.ByTag[k.tag()]
	if l == nil {
		return item{}, false
	}
	return item{group: g, state: s, lv: l, key: k, facts: parseFacts(l)}, true
}

// get finds an LV of ours that is whole: errs.NotFound if there is none.
func (p *pool) get(ctx context.Context, k key) (item, error) {
	i, found, err := p.look(ctx, k)
	switch {
	case err != nil:
		return item{}, err
	case !found || !i.whole():
		return item{}, errs.E(errs.NotFound, "%s %s: there is none in pool %s", k.sort, k.id, p.name)
	}
	return i, nil
}

func (p *pool) volumeKey(id backend.ID) key   { return key{volumeSort, p.name, id} }
func (p *pool) snapshotKey(id backend.ID) key { return key{snapshotSort, p.name, id} }

// lock takes the locks of volumes and snapshots, against other processes too.
func (p *pool) lock(ctx context.Context, keys keylock.Keys) (unlock func(), err error) {
	return lockAll(ctx, p.locks, p.name, keys)
}

func (p *pool) volume(i item) backend.Volume {
	return backend.Volume{
		ID: i.key.id, Name: i.facts.name, Size: i.size(), Source: i.facts.source,
		Nodes: []string{p.node}, Access: backend.LocalAccess(p.name, i.key.id), Limits: i.facts.limits,
	}
}

func (p *pool) snapshot(i item) backend.Snapshot {
	return backend.Snapshot{
		ID: i.key.id, Name: i.facts.name, Source: i.facts.source.Volume, Size: i.size(),
		Created: i.facts.created, Group: i.facts.group, Nodes: []string{p.node},
	}
}

// Get is [backend.Backend].
func (p *pool) Get(ctx context.Context, id backend.ID) (backend.Volume, error) {
	i, err := p.get(ctx, p.volumeKey(id))
	if err != nil {
		return backend.Volume{}, err
	}
	return p.volume(i), nil
}

// GetSnapshot is [backend.Snapshotter].
func (p *pool) GetSnapshot(ctx context.Context, id backend.ID) (backend.Snapshot, error) {
	i, err := p.get(ctx, p.snapshotKey(id))
	if err != nil {
		return backend.Snapshot{}, err
	}
	return p.snapshot(i), nil
}

// all returns what is whole and of a sort.
func (p *pool) all(ctx context.Context, sort string) (items []item, err error) {
	every, err := p.every(ctx)
	for _, i := range every {
		if i.key.sort == sort && i.whole() {
			items = append(items, i)
		}
	}
	return items, err
}

// every returns all that is this pool's, whole or not.
func (p *pool) every(ctx context.Context) (items []item, err error) {
	for _, g := range p.groups {
		s, err := g.Load(ctx)
		if err != nil {
			return nil, err
		}
		for tag := range s.ByTag {
			if k, ok := parseKey(tag); ok && k.pool == p.name {
				i, _ := p.inState(g, s, k)
				items = append(items, i)
			}
		}
	}
	return items, nil
}

// List is [backend.Backend].
func (p *pool) List(ctx context.Context) iter.Seq2[backend.Volume, error] {
	return list(ctx, p, volumeSort, p.volume)
}

// ListSnapshots is [backend.Snapshotter].
func (p *pool) ListSnapshots(ctx context.Context) iter.Seq2[backend.Snapshot, error] {
	return list(ctx, p, snapshotSort, p.snapshot)
}

func list[T any](ctx context.Context, p *pool, sort string, as func(item) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		items, err := p.all(ctx, sort)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		for _, i := range items {
			if !yield(as(i), nil) {
				return
			}
		}
	}
}

// CloneSource is [backend.Cloner]: any volume can be copied, in use or not.
func (p *pool) CloneSource(ctx context.Context, id backend.ID) error {
	_, err := p.get(ctx, p.volumeKey(id))
	return err
}

// Mark is [backend.Marker].
func (p *pool) Mark(ctx context.Context, id backend.ID) (backend.Mark, error) {
	i, err := p.get(ctx, p.volumeKey(id))
	return i.facts.mark, err
}

// SetMark is [backend.Marker].
func (p *pool) SetMark(ctx context.Context, id backend.ID, m backend.Mark) error {
	k := p.volumeKey(id)
	unlock, err := p.lock(ctx, keylock.Volume(id))
	if err != nil {
		return err
	}
	defer unlock()
	i, err := p.get(ctx, k)
	if err != nil || i.facts.mark == m {
		return err
	}
	now := i.facts
	now.mark = m
	return p.retag(ctx, "mark", i, now)
}

// Modify is [backend.Modifier].
func (p *pool) Modify(ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
	k := p.volumeKey(id)
	unlock, err := p.lock(ctx, keylock.Volume(id))
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	i, err := p.get(ctx, k)
	if err == nil && i.facts.limits != l {
		now := i.facts
		now.limits = l
		if err = p.retag(ctx, "modify", i, now); err == nil {
			i, err = p.get(ctx, k)
		}
	}
	if err != nil {
		return backend.Volume{}, err
	}
	return p.volume(i), nil
}

// retag makes the tags of an LV say something else, with one command.
func (p *pool) retag(ctx context.Context, op string, i item, now facts) error {
	return i.group.Change(ctx, func(*vg.State) error {
		args := changes(i.facts.tags(i.key), now.tags(i.key))
		return i.group.Run(ctx, op+".lvchange", "lvchange", append(args, i.path())...)
	})
}

// source finds what a volume is copied from.
func (p *pool) source(ctx context.Context, s backend.Source) (item, error) {
	if s.Snapshot != "" {
		return p.get(ctx, p.snapshotKey(s.Snapshot))
	}
	return p.get(ctx, p.volumeKey(s.Volume))
}

// fits refuses a request whose limit leaves no size that the extents of the group can have: of count of them.
func fits(s *vg.State, count, limit int64) error {
	if n := count * s.ExtentSize; limit > 0 && n > limit {
		return errs.E(errs.OutOfRange, "capacity_range.limit_bytes: %d; volume group %s has extents of %s, so the smallest size is %d",
			limit, s.Name, backend.FormatSize(s.ExtentSize), n)
	}
	return nil
}

// admits refuses new volumes and growth in a group that takes no changes, whatever room it has.
func (p *pool) admits(s *vg.State) error {
	if gone := s.Missing(); gone != "" {
		return errs.E(errs.Unavailable, "volume group %s: %s does not answer, and LVM changes nothing until it is back or given up (vgreduce --removemissing %s)", s.Name, gone, s.Name)
	}
	if s.VolumesLeft() == 0 {
		return errs.E(errs.NoSpace, "volume group %s: its metadata has %s of the %s that fit, with %d logical volumes: delete volumes, or use a group with a larger metadata area (vgcreate --metadatasize 64m)",
			s.Name, backend.FormatSize(s.TextSize), backend.FormatSize(s.Most), len(s.LVs))
	}
	return nil
}

// noSpace says what there is no room for, and where.
func (p *pool) noSpace(s *vg.State, size, available int64) error {
	return errs.E(errs.NoSpace, "pool %s: %s are asked for, volume group %s can still give %s to one volume (layout %s%s)", p.name,
		backend.FormatSize(size), s.Name, backend.FormatSize(available), p.opts.layout.Name, p.spared())
}

func (p *pool) spared() string {
	if p.opts.spare == 0 {
		return ""
	}
	return ", spare " + backend.FormatSize(p.opts.spare)
}
