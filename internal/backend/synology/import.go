package synology

import (
	"cmp"
	"context"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Import is [backend.Importer]: the LUN or the share, by protocol, of a name. It gets the name that Dozo would have given it,
// since that is how it is found from then on, and which keeps whoever had it before from using it by the old one.
func (b *Backend) Import(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	t, err := b.find(ctx, r.ID)
	switch {
	case err == nil && t.mark.From == from && t.mark.Name == r.Name:
		return b.volume(t), nil
	case err == nil:
		return backend.Volume{}, errs.E(errs.Exists, "importFrom: the ID %s is that of another volume; choose another name", r.ID)
	case !errs.Is(err, errs.NotFound):
		return backend.Volume{}, err
	}
	if from == "" || strings.HasPrefix(from, "dozo."+b.pool+".") || strings.HasPrefix(from, sharePrefix) {
		return backend.Volume{}, errs.E(errs.Invalid, "importFrom: %.80q is not the name of a LUN or a share that is not Dozo's", from)
	}
	m := mark{Cluster: b.opts.cluster, Pool: b.pool, ID: string(r.ID), Name: r.Name, From: from}
	if protocol := cmp.Or(r.Parameters["protocol"], b.opts.protocol); isShared(protocol) {
		if err := b.admission(&m, r, protocol); err != nil {
			return backend.Volume{}, err
		}
		return b.importShare(ctx, m)
	}
	return b.importLUN(ctx, m)
}

// importLUN marks a LUN, then renames it, which is what makes it a volume. A call that was killed in between
// finds the mark.
func (b *Backend) importLUN(ctx context.Context, m mark) (backend.Volume, error) {
	l, err := b.nas.LUN(ctx, m.From)
	if errs.Is(err, errs.NotFound) {
		return backend.Volume{}, errs.E(errs.NotFound, "importFrom: the NAS has no LUN %s", m.From)
	}
	if err != nil {
		return backend.Volume{}, err
	}
	if l.Description != m.text() {
		if err := b.importable(l); err != nil {
			return backend.Volume{}, err
		}
		refused := b.nas.DescribeLUN(ctx, l.UUID, m.text())
		now, err := b.nas.LUN(ctx, l.UUID)
		switch {
		case err == nil && now.Description == m.text():
		case refused != nil:
			return backend.Volume{}, refused
		case err != nil:
			return backend.Volume{}, err
		default:
			return backend.Volume{}, errs.E(errs.Internal, "importFrom: LUN %s did not take its description of %d characters", m.From, len(m.text()))
		}
	}
	refused := b.nas.RenameLUN(ctx, l.UUID, b.lunName(backend.ID(m.ID)))
	t, err := b.findLUN(ctx, backend.ID(m.ID))
	switch {
	case err == nil:
		return b.volume(t), nil
	case refused != nil:
		return backend.Volume{}, refused
	case errs.Is(err, errs.NotFound):
		return backend.Volume{}, errs.E(errs.Aborted, "importFrom: LUN %s went away meanwhile; call again", m.From)
	}
	return backend.Volume{}, err
}

// importable refuses LUNs that are somebody's, or that cannot be a volume of this pool.
func (b *Backend) importable(l dsm.LUN) error {
	_, marked := parseMark(l.Description)
	switch {
	case marked:
		return errs.E(errs.Exists, "importFrom: LUN %s is a volume already, by its description: %.300s", l.Name, l.Description)
	case bool(l.IsMapped):
		return errs.E(errs.InUse, "importFrom: LUN %s is mapped to a target; stop who uses it, and remove the mapping in SAN Manager", l.Name)
	case bool(l.IsActionLocked):
		return errs.E(errs.Busy, "importFrom: the NAS is working on LUN %s; call again", l.Name)
	case l.Type != dsm.TypeThin && l.Type != dsm.TypeThick && l.Type != dsm.TypeThinExt4 && l.Type != dsm.TypeThickExt4:
		return errs.E(errs.Invalid, "importFrom: LUN %s is of the type %s, which is not one for volumes (%s, %s, %s, %s)", l.Name, l.Type, dsm.TypeThin, dsm.TypeThick, dsm.TypeThinExt4, dsm.TypeThickExt4)
	case b.opts.location != "" && l.Location != b.opts.location:
		return errs.E(errs.Invalid, "importFrom: LUN %s is in %s, and pool %s is in %s; import it into a pool of that location", l.Name, l.Location, b.pool, b.opts.location)
	}
	return nil
}

// importShare marks and renames a share in one call.
func (b *Backend) importShare(ctx context.Context, m mark) (backend.Volume, error) {
	s, err := b.nas.Share(ctx, m.From)
	if errs.Is(err, errs.NotFound) {
		return backend.Volume{}, errs.E(errs.NotFound, "importFrom: the NAS has no share %s", m.From)
	}
	if err != nil {
		return backend.Volume{}, err
	}
	rules, err := b.nas.NFSRules(ctx, s.Name)
	if err != nil {
		return backend.Volume{}, err
	}
	_, marked := parseMark(s.Description)
	switch {
	case marked:
		return backend.Volume{}, errs.E(errs.Exists, "importFrom: share %s is a volume already, by its description: %.300s", s.Name, s.Description)
	case len(rules) > 0:
		return backend.Volume{}, errs.E(errs.InUse, "importFrom: share %s is served by NFS, and its path changes with its name; stop who uses it, and remove its NFS rules", s.Name)
	case s.Encryption != 0:
		return backend.Volume{}, errs.E(errs.Invalid, "importFrom: share %s is encrypted by DSM, and would be away after each restart of the NAS", s.Name)
	case s.QuotaMB == 0:
		return backend.Volume{}, errs.E(errs.Invalid, "importFrom: share %s has no quota, and a volume has a size; set one in Control Panel, Shared Folder", s.Name)
	case b.opts.location != "" && s.VolumePath != b.opts.location:
		return backend.Volume{}, errs.E(errs.Invalid, "importFrom: share %s is in %s, and pool %s is in %s; import it into a pool of that location", s.Name, s.VolumePath, b.pool, b.opts.location)
	}
	m.Size = int64(s.QuotaMB) * mib
	old := s.Name
	s.Name, s.Description, s.Hidden = b.shareName(backend.ID(m.ID)), m.text(), len(m.Users) > 0
	refused := b.nas.SetShare(ctx, old, s)
	t, err := b.findShare(ctx, backend.ID(m.ID))
	switch {
	case err == nil:
		return b.volume(t), nil
	case refused != nil:
		return backend.Volume{}, refused
	case errs.Is(err, errs.NotFound):
		return backend.Volume{}, errs.E(errs.Aborted, "importFrom: share %s went away meanwhile, or lost its description; call again", m.From)
	}
	return backend.Volume{}, err
}
