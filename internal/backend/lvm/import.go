package lvm

import (
	"context"
	"errors"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/dm"
	"github.com/dozo-dev/dozo/internal/keylock"
)

var (
	_ backend.Importer = (*Thick)(nil)
	_ backend.Importer = (*Thin)(nil)
)

// Import is [backend.Importer]: an LV of the pool's layout, named "vg0/data" or "data".
func (t *Thick) Import(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	return t.adopt(ctx, from, r, t.laidOut)
}

// Import is [backend.Importer]: an LV in the pool's thin pool, named "vg0/data" or "data".
func (t *Thin) Import(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	return t.adopt(ctx, from, r, t.isInPool)
}

// adopt makes an LV a volume, in two commands. The tags are the one that counts: from then on it is a volume,
// under the name that it had. Its new name keeps whoever had it before from mounting or deleting it by the
// old one; a call that was killed in between is called again, finds the volume and gives it its name.
func (p *pool) adopt(ctx context.Context, from string, r backend.Request, fits func(*vg.State, *metadata.LV) error) (backend.Volume, error) {
	k := p.volumeKey(r.ID)
	unlock, err := p.lock(ctx, keylock.Resize(r.ID))
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	i, found, err := p.look(ctx, k)
	if err != nil {
		return backend.Volume{}, err
	}
	_, name := splitPath(from)
	switch {
	case found && (!i.whole() || i.facts.from != name || i.facts.name != r.Name):
		return backend.Volume{}, errs.E(errs.Exists, "importFrom: the ID %s is that of another volume, %s; choose another name", r.ID, i.path())
	case !found:
		if err := p.tag(ctx, from, k, facts{name: r.Name, limits: r.Limits, from: name, mark: backend.Mark{FS: backend.Raw, Done: true}}, fits); err != nil {
			return backend.Volume{}, err
		}
		if i, err = p.get(ctx, k); err != nil {
			return backend.Volume{}, err
		}
	}
	if i, err = p.rename(ctx, i); err != nil {
		return backend.Volume{}, err
	}
	return p.volume(i), nil
}

// tag makes the LV a volume.
func (p *pool) tag(ctx context.Context, from string, k key, f facts, fits func(*vg.State, *metadata.LV) error) error {
	g, err := p.holder(ctx, from)
	if err != nil {
		return err
	}
	_, name := splitPath(from)
	return g.Change(ctx, func(s *vg.State) error {
		l := s.LVs[name]
		if l == nil {
			return errs.E(errs.NotFound, "importFrom: volume group %s has no logical volume %s", s.Name, name)
		}
		if err := p.importable(s, l, k); err != nil {
			return err
		}
		if err := fits(s, l); err != nil {
			return err
		}
		return g.Run(ctx, "import.lvchange", "lvchange", append(addTags(f.tags(k)), s.Name+"/"+name)...)
	})
}

// rename gives a volume the name that Dozo would have given it.
func (p *pool) rename(ctx context.Context, i item) (item, error) {
	name := i.key.lvName(i.group.Name())
	if i.lv.Name == name {
		return i, nil
	}
	err := i.group.Change(ctx, func(*vg.State) error {
		return i.group.Run(ctx, "import.lvrename", "lvrename", i.group.Name(), i.lv.Name, name)
	})
	if err != nil {
		return i, err
	}
	return p.get(ctx, i.key)
}

// splitPath reads "vg0/data", "/dev/vg0/data" or "data".
func splitPath(from string) (group, name string) {
	group, name, ok := strings.Cut(strings.TrimPrefix(from, "/dev/"), "/")
	if !ok {
		return "", group
	}
	return group, name
}

// holder is the pool's volume group that has an LV. Where none is named all are asked: errs.NotFound only if
// all answered.
func (p *pool) holder(ctx context.Context, from string) (*vg.Group, error) {
	group, name := splitPath(from)
	if !groupForm.MatchString(name) {
		return nil, errs.E(errs.Invalid, "importFrom: %.80q is not a logical volume, such as %s/data", from, p.groups[0].Name())
	}
	var unknown error
	for _, g := range p.groups {
		if group != "" {
			if g.Name() == group {
				return g, nil
			}
			continue
		}
		s, err := g.Load(ctx)
		if err != nil {
			unknown = errors.Join(unknown, err)
		} else if s.LVs[name] != nil {
			return g, nil
		}
	}
	switch {
	case unknown != nil:
		return nil, errs.E(errs.KindOf(unknown), "importFrom: %w", unknown)
	case group != "":
		return nil, errs.E(errs.Invalid, "importFrom: pool %s is on %s and not on volume group %.80q; without copying an LV can only come into a pool on its own group", p.name, p.groupNames(), group)
	}
	return nil, errs.E(errs.NotFound, "importFrom: %s has no logical volume %s", p.groupNames(), name)
}

// importable refuses LVs that are somebody's, and those that are no volume of their own.
func (p *pool) importable(s *vg.State, l *metadata.LV, k key) error {
	path := s.Name + "/" + l.Name
	owner, owned := l.Tag(vg.Tag)
	_, helper := l.Tag(vg.Tag + ".pool")
	d, err := dm.Find(p.host, s.DeviceUUID(l))
	switch {
	case owned || helper:
		return errs.E(errs.Exists, "importFrom: %s is Dozo's already (%s)", path, owner)
	case s.LVs[k.lvName(s.Name)] != nil && l.Name != k.lvName(s.Name):
		return errs.E(errs.Exists, "importFrom: it would become %s/%s, which there is and is not Dozo's; choose another name for the volume", s.Name, k.lvName(s.Name))
	case s.IsSnapshot(l.Name):
		return errs.E(errs.Invalid, "importFrom: %s is a snapshot, which is nothing without its origin; lvconvert --merge or copy it", path)
	case !l.Visible:
		return errs.E(errs.Invalid, "importFrom: %s is a part of another logical volume", path)
	case !l.Writable:
		return errs.E(errs.Invalid, "importFrom: %s can only be read; if it is to be a volume: lvchange --permission rw %s", path, path)
	case len(s.Snapshots(l.Name)) > 0:
		return errs.E(errs.InUse, "importFrom: %s has the snapshots %s; remove them first", path, strings.Join(s.Snapshots(l.Name), ", "))
	case err != nil && !errs.Is(err, errs.NotFound):
		return err
	case err == nil && d.Open > 0:
		return errs.E(errs.InUse, "importFrom: %s is mounted or open on node %s; stop who uses it: lsblk /dev/%s; fuser -vm /dev/%s", path, p.node, path, path)
	}
	return nil
}

// laidOut refuses LVs that do not lie on the disks as the pool's volumes do: its promises would not hold for
// them, and growth would be counted wrong.
func (t *Thick) laidOut(s *vg.State, l *metadata.LV) error {
	want := t.opts.layout
	path := s.Name + "/" + l.Name
	if want.Integrity {
		return errs.E(errs.Unsupported, "importFrom: pool %s has checksums (integrity), which cannot be seen of %s; import it into a pool without", t.name, path)
	}
	for _, g := range l.Segments {
		kind := strings.SplitN(g.Type, "_", 2)[0] // raid5_ls and the like are sorts of raid5
		if kind == "striped" && g.Legs == 1 {
			kind = "linear"
		}
		if kind != want.Name || g.Legs != want.Legs {
			return errs.E(errs.Invalid, "importFrom: %s is %s on %d disks, and volumes of pool %s are %s on %d; import it into a pool of its own layout, or run lvconvert",
				path, kind, g.Legs, t.name, want.Name, want.Legs)
		}
	}
	return nil
}

// isInPool refuses LVs that are not in the pool's thin pool.
func (t *Thin) isInPool(s *vg.State, l *metadata.LV) error {
	if inPool(l, t.opts.thinPool) {
		return nil
	}
	where := "no thin volume (" + l.Type() + ")"
	if l.Type() == "thin" {
		where = "in thin pool " + l.Segments[0].Pool
	}
	return errs.E(errs.Invalid, "importFrom: %s/%s is %s, and pool %s has the thin pool %s; import it into a pool that is on its own (options thinPool, type)",
		s.Name, l.Name, where, t.name, t.opts.thinPool)
}

func (p *pool) groupNames() string {
	var names []string
	for _, g := range p.groups {
		names = append(names, g.Name())
	}
	return strings.Join(names, ",")
}
