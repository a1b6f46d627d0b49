package pool

import (
	"context"
	"iter"
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

func (p *Pool) snapshotter() (backend.Snapshotter, error) {
	if p.caps.Snapshotter == nil {
		return nil, errs.E(errs.Unsupported, "%s volumes have no snapshots", p.kind.Name)
	}
	return p.caps.Snapshotter, nil
}

// Snapshot takes a snapshot of a volume, or returns the one of that name if it is of that volume.
func (p *Pool) Snapshot(ctx context.Context, name string, source backend.ID) (backend.Snapshot, error) {
	s, err := p.snapshotter()
	if err != nil {
		return backend.Snapshot{}, err
	}
	if err := checkName(name); err != nil {
		return backend.Snapshot{}, err
	}
	return p.takeSnapshot(ctx, s, backend.SnapshotRequest{ID: backend.IDFor(name), Name: name, Source: source})
}

func (p *Pool) takeSnapshot(ctx context.Context, s backend.Snapshotter, r backend.SnapshotRequest) (backend.Snapshot, error) {
	return operate(ctx, p, "snapshot", keylock.TakeSnapshots(r), func(ctx context.Context) (backend.Snapshot, error) {
		return s.CreateSnapshot(ctx, r)
	})
}

// DeleteSnapshot removes a snapshot; an absent one is no error. One that was taken with a group goes
// with its group only: errs.Invalid.
func (p *Pool) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	s, err := p.snapshotter()
	if err != nil {
		return err
	}
	_, err = operate(ctx, p, "delete-snapshot", keylock.DeleteSnapshot(id), func(ctx context.Context) (none struct{}, _ error) {
		old, err := s.GetSnapshot(ctx, id)
		switch {
		case errs.Is(err, errs.NotFound):
			return none, s.DeleteSnapshot(ctx, id) // finishes a deletion that was cut short
		case err != nil:
			return none, err
		case old.Group != "":
			return none, errs.E(errs.Invalid, "snapshot_id: %s belongs to the group %s and is deleted with it", id, old.Group)
		}
		return none, s.DeleteSnapshot(ctx, id)
	})
	return err
}

// GetSnapshot returns a snapshot.
func (p *Pool) GetSnapshot(ctx context.Context, id backend.ID) (backend.Snapshot, error) {
	s, err := p.snapshotter()
	if err != nil {
		return backend.Snapshot{}, err
	}
	return s.GetSnapshot(ctx, id)
}

// ListSnapshots yields the pool's snapshots: none where there can be none.
func (p *Pool) ListSnapshots(ctx context.Context) iter.Seq2[backend.Snapshot, error] {
	if p.caps.Snapshotter == nil {
		return func(func(backend.Snapshot, error) bool) {}
	}
	return p.caps.Snapshotter.ListSnapshots(ctx)
}

// SnapshotGroup takes snapshots of several volumes at one instant. The group's ID is that of its name.
func (p *Pool) SnapshotGroup(ctx context.Context, name string, sources []backend.ID) ([]backend.Snapshot, error) {
	if p.caps.GroupSnapshotter == nil {
		return nil, errs.E(errs.Unsupported, "%s volumes have no group snapshots", p.kind.Name)
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		return nil, errs.E(errs.Invalid, "source_volume_ids: missing")
	}
	sources = slices.Clone(sources)
	slices.Sort(sources)
	group := backend.IDFor(name)
	var rs []backend.SnapshotRequest
	for _, source := range slices.Compact(sources) {
		member := string(group) + "/" + string(source)
		rs = append(rs, backend.SnapshotRequest{ID: backend.IDFor(member), Name: member, Source: source, Group: group})
	}
	return p.takeGroup(ctx, group, rs)
}

func (p *Pool) takeGroup(ctx context.Context, group backend.ID, rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	keys := keylock.TakeSnapshots(rs...)
	keys.Alone = append([]string{"group " + string(group)}, keys.Alone...)
	return operate(ctx, p, "snapshot-group", keys, func(ctx context.Context) ([]backend.Snapshot, error) {
		if err := p.sameMembers(ctx, group, rs); err != nil {
			return nil, err
		}
		return p.caps.GroupSnapshotter.CreateGroup(ctx, rs)
	})
}

// sameMembers refuses a group whose name is taken by one of other volumes, more or fewer: what is
// added to a group later is of another instant.
func (p *Pool) sameMembers(ctx context.Context, group backend.ID, rs []backend.SnapshotRequest) error {
	have, err := p.GetGroup(ctx, group)
	if err != nil {
		return err
	}
	for _, s := range have {
		if !slices.ContainsFunc(rs, func(r backend.SnapshotRequest) bool { return r.ID == s.ID }) {
			return errs.E(errs.Exists, "name: group %s exists with a snapshot of volume %s, which is not asked for", group, s.Source)
		}
	}
	if len(have) > 0 && len(have) < len(rs) {
		return errs.E(errs.Exists, "name: group %s exists with %d of the %d snapshots asked for; delete it or choose another name", group, len(have), len(rs))
	}
	return nil
}

// GetGroup returns the snapshots of a group, none if there is no such group.
func (p *Pool) GetGroup(ctx context.Context, group backend.ID) ([]backend.Snapshot, error) {
	var members []backend.Snapshot
	for s, err := range p.ListSnapshots(ctx) {
		if err != nil {
			return nil, err
		}
		if s.Group == group {
			members = append(members, s)
		}
	}
	return members, nil
}

// DeleteGroup removes a group's snapshots; an absent group is no error.
func (p *Pool) DeleteGroup(ctx context.Context, group backend.ID) error {
	s, err := p.snapshotter()
	if err != nil {
		return err
	}
	before, err := p.GetGroup(ctx, group)
	if err != nil {
		return err
	}
	keys := keylock.Keys{Alone: []string{"group " + string(group)}}
	for _, m := range before {
		keys.Alone = append(keys.Alone, keylock.DeleteSnapshot(m.ID).Alone...) // one may be being restored
	}
	_, err = operate(ctx, p, "delete-group", keys, func(ctx context.Context) (none struct{}, _ error) {
		members, err := p.GetGroup(ctx, group)
		if err != nil {
			return none, err
		}
		for _, m := range members {
			if !slices.Contains(keys.Alone, keylock.Snapshot(m.ID)) {
				return none, errs.E(errs.Aborted, "group %s was made anew meanwhile; call again", group)
			}
			if err := s.DeleteSnapshot(ctx, m.ID); err != nil {
				return none, err
			}
		}
		return none, nil
	})
	return err
}
