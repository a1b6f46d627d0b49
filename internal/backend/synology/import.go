package synology

import (
	"context"
	"errors"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Import is [backend.Importer]: the LUN or the share, by protocol, of a name or a UUID. It gets the name that Dozo would have given it,
// since that is how it is found from then on, and which keeps whoever had it before from using it by the old one.
func (b *Backend) Import(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	t, done, err := b.candidate(ctx, from, r)
	switch {
	case err != nil:
		return backend.Volume{}, err
	case done:
		return b.volume(t), nil
	case t.share != nil:
		was := t.share.Name
		renamed := b.renamed(t)
		return b.imported(ctx, b.findShare, t.mark, b.nas.SetShare(ctx, was, *renamed.share)) // marks it, too
	}
	if err := b.markLUN(ctx, t); err != nil {
		return backend.Volume{}, err
	}
	return b.imported(ctx, b.findLUN, t.mark, b.nas.RenameLUN(ctx, t.lun.UUID, b.lunName(r.ID)))
}

// Importable returns what Import would, and changes nothing.
func (b *Backend) Importable(ctx context.Context, from string, r backend.Request) (backend.Volume, error) {
	t, done, err := b.candidate(ctx, from, r)
	if err != nil {
		return backend.Volume{}, err
	}
	if !done {
		t = b.renamed(t)
	}
	return b.volume(t), nil
}

// candidate is what would be imported, as it is but for its mark, which is the one that it is to have; done says that it has been imported.
func (b *Backend) candidate(ctx context.Context, from string, r backend.Request) (t thing, done bool, err error) {
	t, err = b.find(ctx, r.ID)
	switch {
	case err == nil && t.mark.From == from && t.mark.Name == r.Name:
		return t, true, nil
	case err == nil:
		return thing{}, false, errs.E(errs.Exists, "importFrom: the ID %s is that of another volume; choose another name", r.ID)
	case !errs.Is(err, errs.NotFound):
		return thing{}, false, err
	}
	if from == "" || strings.HasPrefix(from, "dozo."+b.pool+".") || strings.HasPrefix(from, sharePrefix) {
		return thing{}, false, errs.E(errs.Invalid, "importFrom: %.80q is not the name of a LUN or a share that is not Dozo's", from)
	}
	t = thing{mark: mark{Cluster: b.opts.cluster, Pool: b.pool, ID: string(r.ID), Name: r.Name, From: from}}
	look, find := b.lunToImport, b.findLUN
	if isShared(b.protocol(r.Parameters)) {
		look, find = b.shareToImport, b.findShare
	}
	if _, err := find(ctx, r.ID); errors.Is(err, errStranger) {
		return thing{}, false, errs.E(errs.Exists, "name %q: the NAS has a %w; rename or delete it there, or choose another name", r.Name, err)
	}
	err = look(ctx, &t, r)
	if errs.Is(err, errs.NotFound) { // unless another process was faster
		if now, again := find(ctx, r.ID); again == nil && now.mark.From == from {
			return now, true, nil
		}
	}
	return t, false, err
}

// renamed is what a candidate will be.
func (b *Backend) renamed(t thing) thing {
	if t.share != nil {
		s := *t.share
		s.Name, s.Description, s.Hidden = b.shareName(backend.ID(t.mark.ID)), t.mark.text(), len(t.mark.Users) > 0
		t.share = &s
	}
	return t
}

// imported looks for what was renamed, whatever the answer to that was.
func (b *Backend) imported(ctx context.Context, find func(context.Context, backend.ID) (thing, error), m mark, refused error) (backend.Volume, error) {
	t, err := find(ctx, backend.ID(m.ID))
	switch {
	case err == nil && t.mark.From == m.From:
		return b.volume(t), nil
	case err == nil:
		return backend.Volume{}, errs.E(errs.Exists, "importFrom: the ID %s is that of another volume by now; choose another name", m.ID)
	case refused != nil:
		return backend.Volume{}, refused
	case errs.Is(err, errs.NotFound):
		return backend.Volume{}, errs.E(errs.Aborted, "importFrom: %s went away meanwhile, or lost its description; call again", m.From)
	}
	return backend.Volume{}, err
}

func (b *Backend) lunToImport(ctx context.Context, t *thing, _ backend.Request) error {
	l, err := b.nas.LUN(ctx, t.mark.From)
	if errs.Is(err, errs.NotFound) {
		return errs.E(errs.NotFound, "importFrom: the NAS has no LUN %s", t.mark.From)
	}
	if err != nil {
		return err
	}
	t.lun = &l
	seen := l
	if l.Description == t.mark.text() { // of a call that was killed; what else there is to say against it holds still
		seen.Description = ""
	}
	return b.importable(seen)
}

// markLUN marks a LUN. Renaming it afterwards is what makes it a volume.
func (b *Backend) markLUN(ctx context.Context, t thing) error {
	text := t.mark.text()
	if t.lun.Description == text {
		return nil
	}
	has, err := b.describe(ctx, t.lun.UUID, text)
	if err != nil || has == text {
		return err
	}
	return errs.E(errs.Internal, "importFrom: LUN %s did not take its description of %d characters", t.mark.From, len(text))
}

// importable refuses LUNs that are somebody's, or that cannot be a volume of this pool.
func (b *Backend) importable(l dsm.LUN) error {
	_, marked := parseMark(l.Description)
	switch {
	case marked:
		return errs.E(errs.Exists, "importFrom: LUN %s is a volume already, by its description: %.300s", l.Name, l.Description)
	case mayBeMapped(l):
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

func (b *Backend) shareToImport(ctx context.Context, t *thing, r backend.Request) error {
	if err := b.admission(&t.mark, r, b.protocol(r.Parameters)); err != nil {
		return err
	}
	s, err := b.shareCalled(ctx, t.mark.From)
	if errs.Is(err, errs.NotFound) {
		return errs.E(errs.NotFound, "importFrom: the NAS has no share %s", t.mark.From)
	}
	if err != nil {
		return err
	}
	rules, err := b.nas.NFSRules(ctx, s.Name)
	if err != nil {
		return err
	}
	_, marked := parseMark(s.Description)
	switch {
	case marked:
		return errs.E(errs.Exists, "importFrom: share %s is a volume already, by its description: %.300s", s.Name, s.Description)
	case len(rules) > 0:
		return errs.E(errs.InUse, "importFrom: share %s is served by NFS, and its path changes with its name; stop who uses it, and remove its NFS rules", s.Name)
	case s.Encryption != 0:
		return errs.E(errs.Invalid, "importFrom: share %s is encrypted by DSM, and would be away after each restart of the NAS", s.Name)
	case s.QuotaMB == 0:
		return errs.E(errs.Invalid, "importFrom: share %s has no quota, and a volume has a size; set one in Control Panel, Shared Folder", s.Name)
	case b.opts.location != "" && s.VolumePath != b.opts.location:
		return errs.E(errs.Invalid, "importFrom: share %s is in %s, and pool %s is in %s; import it into a pool of that location", s.Name, s.VolumePath, b.pool, b.opts.location)
	}
	t.share = &s
	t.mark.Size = int64(s.QuotaMB) * mib
	return nil
}

// shareCalled finds a share by its name, or its UUID, which is too long for a name and which DSM does not look shares up by.
func (b *Backend) shareCalled(ctx context.Context, from string) (dsm.Share, error) {
	if dsm.CheckShareName(from) == nil {
		return b.nas.Share(ctx, from)
	}
	all, err := b.nas.Shares(ctx)
	if err != nil {
		return dsm.Share{}, err
	}
	for _, s := range all {
		if s.UUID == from {
			return s, nil
		}
	}
	return dsm.Share{}, errs.E(errs.NotFound, "there is no share of the UUID %s", from)
}
