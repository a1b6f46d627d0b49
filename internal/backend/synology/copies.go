package synology

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// takenBy is who snapshots say took them.
const takenBy = "dozo"

// CloneSource is [backend.Cloner].
func (b *Backend) CloneSource(ctx context.Context, id backend.ID) error {
	t, err := b.find(ctx, id)
	switch {
	case err != nil:
		return err
	case t.share == nil:
		return canCopy(*t.lun)
	case !bool(t.share.Snapshots):
		return errs.E(errs.Unsupported, "share %s cannot be cloned: %s is not btrfs", t.share.Name, t.share.VolumePath)
	}
	return nil
}

// canCopy refuses LUNs of which DSM takes no snapshots.
func canCopy(l dsm.LUN) error {
	switch {
	case l.Type != dsm.TypeThin:
		return errs.E(errs.Unsupported, "LUN %s is of the type %s: only thin LUNs on btrfs (%s) have snapshots and clones", l.Name, l.Type, dsm.TypeThin)
	case !l.HasAttr(dsm.AttrSnapshot):
		return errs.E(errs.Unsupported, "LUN %s was made without %s: it can have no snapshots and clones", l.Name, dsm.AttrSnapshot)
	}
	return nil
}

// restore makes a LUN of a snapshot, with its mark from the first.
func (b *Backend) restore(ctx context.Context, r backend.Request) (made, error) {
	all, err := b.snapshots(ctx)
	if err != nil {
		return made{}, err
	}
	s, err := pick(all, r.Source.Snapshot)
	if err != nil {
		return made{}, err
	}
	return b.copySnapshot(ctx, r, s.of, s.Snapshot)
}

// clone makes a LUN of another by a snapshot that lasts no longer: LUN.clone takes no description, so that between it and
// the mark the copy would be nobody's. The snapshot is deleted when the copy is finished, by whoever finishes it.
func (b *Backend) clone(ctx context.Context, r backend.Request) (m made, err error) {
	source, err := b.findLUN(ctx, r.Source.Volume)
	if err != nil {
		return m, b.otherProtocol(ctx, r.Source.Volume, err)
	}
	if err := canCopy(*source.lun); err != nil {
		return m, err
	}
	l, err := b.settled(ctx, *source.lun)
	if err != nil {
		return m, err
	}
	s, err := b.copyFrom(ctx, l, r.ID)
	if err != nil {
		return m, err
	}
	if l, err = b.nas.LUN(ctx, l.UUID); err == nil { // as its mark is now: what is in the snapshot may have been written meanwhile
		m, err = b.copySnapshot(ctx, r, l, s)
	}
	if errs.Is(err, errs.NotFound) {
		err = errs.E(errs.Aborted, "what LUN %s is cloned from went away meanwhile; call again: %w", b.lunName(r.ID), err)
	}
	return m, err
}

// otherProtocol says of a source that is no LUN that it is a share, if it is one.
func (b *Backend) otherProtocol(ctx context.Context, id backend.ID, err error) error {
	if !errs.Is(err, errs.NotFound) {
		return err
	}
	t, look := b.find(ctx, id)
	if look != nil {
		return look
	}
	if t.share != nil {
		return errs.E(errs.Unsupported, "volume %s is the share %s: a LUN cannot be made of it, and shares have no snapshots here; clone it with protocol nfs or smb", id, t.share.Name)
	}
	return errs.E(errs.Unsupported, "volume %s is the LUN %s: a share cannot be made of it; clone it with protocol iscsi", id, t.lun.Name)
}

// copyFrom takes the snapshot for a clone, anew: one that is there is of an earlier instant.
func (b *Backend) copyFrom(ctx context.Context, l dsm.LUN, id backend.ID) (dsm.Snapshot, error) {
	find := func() (dsm.Snapshot, bool, error) {
		all, err := b.nas.Snapshots(ctx, l.UUID)
		for _, s := range all {
			if m, ok := b.owns(s.Description); ok && m.Copy && m.ID == string(id) {
				return s, true, nil
			}
		}
		return dsm.Snapshot{}, false, err
	}
	take := func() (made, error) {
		text := mark{Cluster: b.opts.cluster, Pool: b.pool, ID: string(id), Copy: true}.text()
		uuid, err := b.nas.TakeSnapshot(ctx, dsm.NewSnapshot{LUN: l.UUID, Name: b.copyName(id), Description: text, TakenBy: takenBy})
		return made{uuid, text}, err
	}
	m, err := take()
	if errs.Is(err, errs.Exists) {
		old, found, look := find()
		switch {
		case look != nil:
			return old, look
		case !found:
			return old, b.inTheWay(ctx, l, b.copyName(id))
		}
		if err := b.dropSnapshot(ctx, old); err != nil {
			return old, err
		}
		m, err = take()
	}
	s, found, look := find()
	switch {
	case found:
		return s, nil
	case err != nil:
		return s, b.explain(ctx, err)
	case look != nil:
		return s, look
	}
	if err := b.dropLostSnapshot(ctx, l, m); err != nil {
		return s, err
	}
	return s, errs.E(errs.Aborted, "the snapshot %s was deleted while it was needed; call again", b.copyName(id))
}

// copySnapshot begins a LUN that is a copy of a snapshot. It has the snapshot's size, and grows when it is finished.
func (b *Backend) copySnapshot(ctx context.Context, r backend.Request, of dsm.LUN, s dsm.Snapshot) (made, error) {
	switch kind := r.Parameters["type"]; {
	case kind == "thick" || kind == dsm.TypeThick:
		return made{}, errs.E(errs.Unsupported, "parameters[\"type\"]: copies share blocks with what they are of, so they are thin; use thin")
	case r.Parameters["location"] != "" && r.Parameters["location"] != of.Location:
		return made{}, errs.E(errs.Unsupported, "parameters[\"location\"]: a copy is where its source is, in %s", of.Location)
	case r.Size < int64(s.Size):
		return made{}, errs.E(errs.OutOfRange, "size: the source has %d bytes, and the copy was to have %d", int64(s.Size), r.Size)
	}
	if err := b.roomFor(ctx, of.Location, r.Size); err != nil {
		return made{}, err
	}
	source, ok := b.owns(of.Description)
	m := b.mark(r)
	m.Raw = !ok || source.isRaw() // of whose description somebody edited nobody knows
	text := m.text()
	uuid, err := b.nas.CloneSnapshot(ctx, of.UUID, s.UUID, b.lunName(r.ID), text)
	return made{uuid, text}, err
}

// dropCopies deletes what is left of the clone that volume id was to become, wherever it is.
func (b *Backend) dropCopies(ctx context.Context, id backend.ID) error {
	luns, err := b.lunsWithSnapshots(ctx)
	if err != nil {
		return err
	}
	for _, l := range luns {
		for _, s := range l.Snapshots {
			if m, ok := b.owns(s.Description); ok && m.Copy && m.ID == string(id) {
				if err := b.dropSnapshot(ctx, s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// dropSnapshot deletes a snapshot and waits until it is gone.
func (b *Backend) dropSnapshot(ctx context.Context, s dsm.Snapshot) error {
	refused := b.nas.DeleteSnapshot(ctx, s.UUID, takenBy)
	return b.until(ctx, "waiting for the NAS, which is deleting snapshot "+s.Name, func() (bool, error) {
		_, err := b.nas.Snapshot(ctx, s.UUID)
		switch {
		case errs.Is(err, errs.NotFound):
			return true, nil
		case refused != nil:
			return false, refused
		}
		return false, err
	})
}
