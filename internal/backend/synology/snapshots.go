package synology

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// snapshot is one of ours with the LUN that it is of.
type snapshot struct {
	dsm.Snapshot
	of   dsm.LUN
	mark mark
}

func (s snapshot) snapshot() backend.Snapshot {
	return backend.Snapshot{ID: backend.ID(s.mark.ID), Name: s.mark.Name, Source: s.mark.Volume, Size: int64(s.Size), Created: time.Unix(int64(s.Created), 0).UTC()}
}

// snapshots finds all of the pool in one call: a snapshot's ID does not say of which LUN it is.
func (b *Backend) snapshots(ctx context.Context) ([]snapshot, error) {
	luns, err := b.lunsWithSnapshots(ctx)
	if err != nil {
		return nil, err
	}
	return b.snapshotsIn(luns), nil
}

func (b *Backend) snapshotsIn(luns []dsm.LUN) []snapshot {
	var all []snapshot
	for _, l := range luns {
		for _, s := range l.Snapshots {
			if m, ok := b.owns(s.Description); ok && !m.Copy && s.Name == b.snapshotName(backend.ID(m.ID)) {
				all = append(all, snapshot{s, l, m})
			}
		}
	}
	return all
}

func pick(all []snapshot, id backend.ID) (snapshot, error) {
	for _, s := range all {
		if s.mark.ID == string(id) {
			return s, nil
		}
	}
	return snapshot{}, errs.E(errs.NotFound, "the pool has no snapshot %s", id)
}

// CreateSnapshot is [backend.Snapshotter].
func (b *Backend) CreateSnapshot(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	luns, err := b.lunsWithSnapshots(ctx)
	if err != nil {
		return backend.Snapshot{}, err
	}
	if s, err := pick(b.snapshotsIn(luns), r.ID); err == nil {
		return s.snapshot(), s.snapshot().Satisfies(r)
	}
	l, err := b.sourceOf(ctx, luns, r.Source)
	if err != nil {
		return backend.Snapshot{}, err
	}
	text := mark{Cluster: b.opts.cluster, Pool: b.pool, ID: string(r.ID), Name: r.Name, Source: backend.Source{Volume: r.Source}}.text()
	uuid, err := b.nas.TakeSnapshot(ctx, dsm.NewSnapshot{LUN: l.UUID, Name: b.snapshotName(r.ID), Description: text, TakenBy: takenBy, Locked: true})
	all, look := b.snapshots(ctx)
	if look == nil {
		if s, look := pick(all, r.ID); look == nil {
			return s.snapshot(), s.snapshot().Satisfies(r)
		}
	}
	switch {
	case errs.Is(err, errs.NotFound):
		return backend.Snapshot{}, errs.E(errs.NotFound, "volume %s was deleted meanwhile: %w", r.Source, err)
	case errs.Is(err, errs.Exists):
		return backend.Snapshot{}, b.inTheWay(ctx, l, b.snapshotName(r.ID))
	case err != nil:
		return backend.Snapshot{}, b.explain(ctx, err)
	case look != nil:
		return backend.Snapshot{}, look
	}
	if err := b.dropLostSnapshot(ctx, l, made{uuid, text}); err != nil {
		return backend.Snapshot{}, err
	}
	return backend.Snapshot{}, errs.E(errs.Aborted, "snapshot %s was deleted while it was being taken; call again", r.ID)
}

// inTheWay is why a LUN can have no snapshot of a name, though none of ours has it.
func (b *Backend) inTheWay(ctx context.Context, l dsm.LUN, name string) error {
	all, err := b.nas.Snapshots(ctx, l.UUID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(s dsm.Snapshot) bool { return s.Name == name }) {
		return errs.E(errs.Exists, "snapshot %s of LUN %s: %w; delete it in SAN Manager if nobody needs it", name, l.Name, errStranger)
	}
	return errs.E(errs.Aborted, "snapshot %s was deleted meanwhile; call again", name)
}

// sourceOf is the LUN that a snapshot is to be taken of, when nothing else is done with it.
func (b *Backend) sourceOf(ctx context.Context, luns []dsm.LUN, id backend.ID) (dsm.LUN, error) {
	for _, l := range luns {
		if m, ok := b.owns(l.Description); !ok || m.ID != string(id) || l.Name != b.lunName(id) {
			continue
		}
		if err := canCopy(l); err != nil {
			return l, err
		}
		return b.settled(ctx, l)
	}
	_, err := b.findShare(ctx, id)
	switch {
	case errs.Is(err, errs.NotFound):
		return dsm.LUN{}, errs.E(errs.NotFound, "pool %s has no volume %s", b.pool, id)
	case err != nil:
		return dsm.LUN{}, err
	}
	return dsm.LUN{}, errs.E(errs.Unsupported, "volume %s is a share, and Dozo takes snapshots of LUNs only: DSM has no way to find a share's snapshot again by name; clone the volume instead", id)
}

// DeleteSnapshot is [backend.Snapshotter]. Volumes that were made from it stay.
func (b *Backend) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	all, err := b.snapshots(ctx)
	if err != nil {
		return err
	}
	s, err := pick(all, id)
	if err != nil {
		return nil
	}
	return b.dropSnapshot(ctx, s.Snapshot)
}

// GetSnapshot is [backend.Snapshotter].
func (b *Backend) GetSnapshot(ctx context.Context, id backend.ID) (backend.Snapshot, error) {
	all, err := b.snapshots(ctx)
	if err != nil {
		return backend.Snapshot{}, err
	}
	s, err := pick(all, id)
	if err != nil {
		return backend.Snapshot{}, err
	}
	return s.snapshot(), nil
}

// ListSnapshots is [backend.Snapshotter].
func (b *Backend) ListSnapshots(ctx context.Context) iter.Seq2[backend.Snapshot, error] {
	return func(yield func(backend.Snapshot, error) bool) {
		all, err := b.snapshots(ctx)
		for _, s := range all {
			if !yield(s.snapshot(), nil) {
				return
			}
		}
		if err != nil {
			yield(backend.Snapshot{}, err)
		}
	}
}
