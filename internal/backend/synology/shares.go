package synology

import (
	"context"
	"errors"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// shareSize is a share's size in bytes: its quota, or what its mark says of one that has none.
func shareSize(s dsm.Share, m mark) int64 {
	if m.Quota == noQuota || s.QuotaMB == 0 {
		return m.Size
	}
	return int64(s.QuotaMB) * mib
}

func (b *Backend) shareAccess(t thing) backend.Access {
	if t.protocol() == smb {
		return backend.MountAccess(backend.Mount{Type: backend.CIFS, Source: "//" + strings.Trim(b.opts.server, "[]") + "/" + t.share.Name})
	}
	return backend.MountAccess(backend.Mount{Type: backend.NFS, Source: b.opts.server + ":" + t.share.VolumePath + "/" + t.share.Name})
}

// makeShare creates a share, and looks its name up whatever the answer was.
func (b *Backend) makeShare(ctx context.Context, r backend.Request, protocol string) (backend.Volume, error) {
	m := b.mark(r)
	if err := b.admission(&m, r, protocol); err != nil {
		return backend.Volume{}, err
	}
	if r.Parameters["quota"] == "false" {
		m.Quota = noQuota
	}
	err := b.newShare(ctx, r, m)
	t, look := b.findShare(ctx, r.ID)
	switch {
	case look == nil:
		return b.finishShare(ctx, t, r)
	case err == nil && errors.Is(look, errStranger):
		return backend.Volume{}, b.lostShare(ctx, r.ID, m)
	}
	return backend.Volume{}, b.notMade(ctx, "share "+b.shareName(r.ID), r, err, look)
}

// admission puts into a mark how nodes are going to be admitted.
func (b *Backend) admission(m *mark, r backend.Request, protocol string) error {
	if protocol == smb {
		if m.Users = names(r.Parameters["users"]); len(m.Users) == 0 {
			m.Users = b.opts.users
		}
		if len(m.Users) == 0 {
			return errs.E(errs.Invalid, "parameters[\"users\"], options[\"users\"]: missing: with protocol smb one has to name the users of DSM that nodes log in as")
		}
		return nil
	}
	m.Sync = r.Parameters["sync"] == "true"
	if m.Allow = fields(r.Parameters["allow"]); len(m.Allow) == 0 {
		m.Allow = b.opts.allow
	}
	return nil
}

// lostShare is about a share that was created, and does not have its description. It is not deleted: the answer to the create did not
// say which one it made.
func (b *Backend) lostShare(ctx context.Context, id backend.ID, m mark) error {
	s, err := b.nas.Share(ctx, b.shareName(id))
	if err != nil || s.Description == m.text() {
		return errs.E(errs.Aborted, "share %s was changed while it was being made; call again", b.shareName(id))
	}
	return lost("share "+s.Name, m.text(), s.Description, "delete the share, and use LUNs on this NAS")
}

// newShare asks for a share, blank or a clone, with its mark from the first.
func (b *Backend) newShare(ctx context.Context, r backend.Request, m mark) error {
	n := dsm.NewShare{Name: b.shareName(r.ID), Description: m.text(), Checksums: r.Parameters["checksum"] == "true", RecycleBin: r.Parameters["recycleBin"] == "true", Hidden: len(m.Users) > 0}
	if m.Quota != noQuota {
		n.QuotaMB = r.Size / mib
	}
	switch {
	case r.Source.Snapshot != "":
		return b.notOfSnapshot(ctx, r.Source.Snapshot)
	case r.Source.Volume != "":
		source, err := b.findShare(ctx, r.Source.Volume)
		if err != nil {
			return b.otherProtocol(ctx, r.Source.Volume, err)
		}
		if !bool(source.share.Snapshots) {
			return errs.E(errs.Unsupported, "share %s cannot be cloned: %s is not btrfs", source.share.Name, source.share.VolumePath)
		}
		if least := shareSize(*source.share, source.mark); r.Size < least {
			return errs.E(errs.OutOfRange, "size: the source has %d bytes, and the copy was to have %d", least, r.Size)
		}
		n.VolumePath = source.share.VolumePath
		if r.Parameters["location"] != "" && r.Parameters["location"] != n.VolumePath {
			return errs.E(errs.Unsupported, "parameters[\"location\"]: a copy is where its source is, in %s", n.VolumePath)
		}
		if err := b.roomFor(ctx, n.VolumePath, r.Size); err != nil {
			return err
		}
		return b.nas.CloneShare(ctx, source.share.Name, "", n)
	}
	v, err := b.place(ctx, r)
	if err != nil {
		return err
	}
	n.VolumePath = v.Path
	return b.nas.CreateShare(ctx, n)
}

// notOfSnapshot refuses a snapshot, all of which are of LUNs, as a share's source.
func (b *Backend) notOfSnapshot(ctx context.Context, id backend.ID) error {
	if _, err := b.GetSnapshot(ctx, id); err != nil {
		return err
	}
	return errs.E(errs.Unsupported, "snapshot %s is of a LUN: a share cannot be made of it; restore it with protocol iscsi", id)
}

// finishShare does what is still to do for a share that is there: DSM was seen to forget the quota of a clone.
func (b *Backend) finishShare(ctx context.Context, t thing, r backend.Request) (backend.Volume, error) {
	if t.mark.Quota != noQuota && int64(t.share.QuotaMB)*mib < t.mark.Size {
		s, err := b.setShare(ctx, *t.share, t.mark, t.mark.Size/mib)
		if err != nil {
			return backend.Volume{}, err
		}
		t.share = &s
	}
	v := b.volume(t)
	return v, v.Satisfies(r)
}

// setShare sets quota and mark of a share, whatever the answer is. It is done when the share says so: that a description can be as long as
// this one is not known, and one that was cut off would cost us the volume, so the one before is put back then.
func (b *Backend) setShare(ctx context.Context, s dsm.Share, m mark, quota int64) (dsm.Share, error) {
	before := s
	s.Description, s.QuotaMB, s.Hidden = m.text(), dsm.Number(quota), len(m.Users) > 0
	refused := b.nas.SetShare(ctx, s.Name, s)
	now, err := b.nas.Share(ctx, s.Name)
	switch {
	case err == nil && now.Description == s.Description && now.QuotaMB == s.QuotaMB:
		return now, nil
	case refused != nil:
		return now, refused
	case err != nil:
		return now, err
	case now.Description == s.Description:
		return now, errs.E(errs.Unsupported, "share %s: DSM took the quota of %d MiB and has %d: quotas of shares need btrfs; or set parameters[\"quota\"] to false", s.Name, quota, int64(now.QuotaMB))
	}
	if err := b.nas.SetShare(ctx, s.Name, before); err != nil {
		return now, err
	}
	return now, errs.E(errs.Unsupported, "share %s: DSM does not keep a description of %d characters, in which the nodes are that it is attached to; set parameters[\"allow\"] or options[\"allow\"]", s.Name, len(s.Description))
}

func (b *Backend) expandShare(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	unlock, err := b.lock(ctx, "expand", b.shareName(id))
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	t, err := b.findShare(ctx, id)
	if err != nil {
		return backend.Volume{}, err
	}
	has := shareSize(*t.share, t.mark)
	if has >= size {
		return b.volume(t), nil
	}
	if err := b.roomFor(ctx, t.share.VolumePath, size-has); err != nil {
		return backend.Volume{}, err
	}
	t.mark.Size = size
	quota := int64(0)
	if t.mark.Quota != noQuota {
		quota = size / mib
	}
	s, err := b.setShare(ctx, *t.share, t.mark, quota)
	if err != nil {
		return backend.Volume{}, err
	}
	t.share = &s
	return b.volume(t), nil
}

// deleteShare deletes a share unless a node has it, or it has snapshots, which would be deleted with it.
func (b *Backend) deleteShare(ctx context.Context, t thing) error {
	if nodes := t.mark.nodes(); len(nodes) > 0 {
		return errs.E(errs.InUse, "share %s is attached to %v; detach it first", t.share.Name, nodes)
	}
	if bool(t.share.Snapshots) {
		switch taken, err := b.nas.ShareSnapshots(ctx, t.share.Name); {
		case errs.Is(err, errs.NotFound):
			return nil
		case err != nil:
			return err
		case len(taken) > 0:
			return errs.E(errs.InUse, "share %s has %d snapshots, which would be deleted with it; delete them in Snapshot Replication first", t.share.Name, len(taken))
		}
	}
	refused := b.nas.DeleteShare(ctx, t.share.Name)
	return b.until(ctx, "waiting for the NAS, which is deleting share "+t.share.Name, func() (bool, error) {
		now, err := b.nas.Share(ctx, t.share.Name)
		switch {
		case errs.Is(err, errs.NotFound), err == nil && now.UUID != t.share.UUID:
			return true, nil
		case refused != nil:
			return false, refused
		}
		return false, err
	})
}

// lock takes locks until the function that it returns is called.
func (b *Backend) lock(ctx context.Context, op string, keys ...string) (unlock func(), err error) {
	h, err := b.locks.Lock(ctx, op, keys...)
	if err != nil {
		return nil, err
	}
	return func() { b.locks.Unlock(h) }, nil
}
