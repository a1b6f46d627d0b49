package synology

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// makeLUN creates a LUN, and looks its name up whatever the answer was.
func (b *Backend) makeLUN(ctx context.Context, r backend.Request) (backend.Volume, error) {
	var m made
	var err error
	switch {
	case r.Source.Snapshot != "":
		m, err = b.restore(ctx, r)
	case r.Source.Volume != "":
		m, err = b.clone(ctx, r)
	default:
		m, err = b.blankLUN(ctx, r)
	}
	t, look := b.findLUN(ctx, r.ID)
	switch {
	case look == nil:
		var v backend.Volume
		if v, look = b.finishLUN(ctx, t, r); look == nil {
			return v, nil
		}
		err = nil
	case errors.Is(look, errStranger):
		if err := b.dropLost(ctx, r, m); err != nil {
			return backend.Volume{}, err
		}
	}
	return backend.Volume{}, b.notMade(ctx, "LUN "+b.lunName(r.ID), r, err, look)
}

// notMade is why something was not made, by the answer to its create and that to the look afterwards.
func (b *Backend) notMade(ctx context.Context, what string, r backend.Request, err, look error) error {
	switch {
	case errs.Is(err, errs.Exists) && errors.Is(look, errStranger):
		return errs.E(errs.Exists, "name %q: the NAS has a %w; rename or delete it there, or choose another name", r.Name, look)
	case errors.Is(err, errStranger): // in the way of the snapshot for a clone
		return err
	case err == nil && errors.Is(look, errStranger):
		return errs.E(errs.Aborted, "%s was changed while it was being made; call again", what)
	case errs.Is(look, errs.NotFound) && (err == nil || errs.Is(err, errs.Exists)):
		return errs.E(errs.Aborted, "%s was deleted while it was being made; call again", what)
	case err != nil:
		return b.explain(ctx, err)
	}
	return look
}

func (b *Backend) blankLUN(ctx context.Context, r backend.Request) (made, error) {
	v, err := b.place(ctx, r)
	if err != nil {
		return made{}, err
	}
	kind, err := lunType(r.Parameters["type"], v)
	if err != nil {
		return made{}, err
	}
	// The size in the mark is for copies: a LUN has it from the first.
	m := b.mark(r)
	m.Size = 0
	text := m.text()
	uuid, err := b.nas.CreateLUN(ctx, dsm.NewLUN{Name: b.lunName(r.ID), Location: v.Path, Type: kind, Size: r.Size, Description: text, Attrs: attributes(kind, r.Parameters)})
	return made{uuid, text}, err
}

// lunType is DSM's name of a type in a volume, whose file system decides what there can be.
func lunType(want string, v dsm.Volume) (string, error) {
	types := map[string]map[string]string{
		"btrfs": {"thin": dsm.TypeThin, "thick": dsm.TypeThick},
		"ext4":  {"thin": dsm.TypeThinExt4, "thick": dsm.TypeThickExt4},
	}[v.FileSystem]
	for ours, theirs := range types {
		if want == ours || want == theirs {
			return theirs, nil
		}
	}
	return "", errs.E(errs.Invalid, "parameters[\"type\"]: %s is %s, on which there is no %s; use thin or thick, or another location", v.Path, v.FileSystem, want)
}

// attributes are those that a LUN is made with. DSM's default is none: no snapshots, and no discard, so that a thin LUN
// would only ever grow.
func attributes(kind string, parameters map[string]string) []string {
	var on []string
	if kind == dsm.TypeThin {
		on = append(on, dsm.AttrSnapshot, dsm.AttrUnmap)
	}
	if parameters["fua"] == "true" {
		on = append(on, dsm.AttrFUA)
	}
	if parameters["sync"] == "true" {
		on = append(on, dsm.AttrSync)
	}
	return on
}

// finishLUN does what is still to do for a LUN that is there, be it of this call or of one before. errs.NotFound if it
// was being deleted.
func (b *Backend) finishLUN(ctx context.Context, t thing, r backend.Request) (backend.Volume, error) {
	l, err := b.settled(ctx, *t.lun)
	if err != nil {
		return backend.Volume{}, err
	}
	t.lun = &l
	if int64(l.Size) < t.mark.Size {
		if err := b.grow(ctx, &l, t.mark.Size); err != nil {
			return backend.Volume{}, err
		}
	}
	v := b.volume(t)
	if err := v.Satisfies(r); err != nil {
		return backend.Volume{}, err
	}
	if t.mark.Volume != "" {
		if err := b.dropCopies(ctx, r.ID); err != nil {
			return backend.Volume{}, err
		}
	}
	return v, nil
}

// settled waits until the NAS has done what it is doing to a LUN. errs.NotFound if it is gone then.
func (b *Backend) settled(ctx context.Context, l dsm.LUN) (dsm.LUN, error) {
	first := true
	err := b.until(ctx, "waiting for the NAS, which is working on LUN "+l.Name, func() (bool, error) {
		if first {
			first = false
			return !bool(l.IsActionLocked), nil
		}
		var err error
		l, err = b.nas.LUN(ctx, l.UUID)
		return !bool(l.IsActionLocked), err
	})
	return l, err
}

// grow makes a LUN larger. A thin one gets no more than there is room for now, though DSM would promise it.
func (b *Backend) grow(ctx context.Context, l *dsm.LUN, size int64) error {
	if err := b.roomFor(ctx, l.Location, size-int64(l.Size)); err != nil {
		return err
	}
	changed := b.nas.ResizeLUN(ctx, l.UUID, size)
	now, err := b.nas.LUN(ctx, l.UUID)
	switch {
	case err == nil && int64(now.Size) >= size:
		*l = now
		return nil
	case changed != nil:
		return changed
	case err != nil:
		return err
	}
	return errs.E(errs.Internal, "LUN %s: set to %d bytes, and it has %d", l.Name, size, int64(now.Size))
}

func (b *Backend) expandLUN(ctx context.Context, t thing, size int64) (backend.Volume, error) {
	l, err := b.settled(ctx, *t.lun)
	if err != nil {
		return backend.Volume{}, err
	}
	t.lun = &l
	if int64(l.Size) < size {
		if err := b.grow(ctx, &l, size); err != nil {
			return backend.Volume{}, err
		}
	}
	return b.volume(t), nil
}

// deleteLUN deletes a LUN unless it is mapped or has snapshots: DSM would not refuse, and take the snapshots with it.
func (b *Backend) deleteLUN(ctx context.Context, t thing) error {
	l, err := b.settled(ctx, *t.lun)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := b.refuseMapped(ctx, l); err != nil {
		return err
	}
	if err := b.dropSnapshots(ctx, l); err != nil {
		return err
	}
	if t.mark.Volume != "" {
		if err := b.dropCopies(ctx, backend.ID(t.mark.ID)); err != nil {
			return err
		}
	}
	refused := b.nas.DeleteLUN(ctx, l.UUID)
	return b.until(ctx, "waiting for the NAS, which is deleting LUN "+l.Name, func() (bool, error) {
		now, err := b.nas.LUN(ctx, l.UUID)
		switch {
		case errs.Is(err, errs.NotFound):
			return true, nil
		case refused != nil && (err != nil || !bool(now.IsActionLocked)):
			return false, refused
		}
		return false, err
	})
}

// refuseMapped is the refusal to delete a LUN that is in a target. Where the LUN does not say that, the targets do.
func (b *Backend) refuseMapped(ctx context.Context, l dsm.LUN) error {
	mapped, known := l.Mapped()
	if known && !mapped {
		return nil
	}
	targets, err := b.nas.Targets(ctx)
	if err != nil {
		return err
	}
	var by []string
	for _, t := range targets {
		if indexIn(t, l.UUID) > 0 {
			by = append(by, b.nodeOf(t.Name))
		}
	}
	if !known && len(by) == 0 {
		return nil
	}
	return errs.E(errs.InUse, "LUN %s is mapped for %s; detach it first", l.Name, strings.Join(by, ", "))
}

// dropSnapshots deletes snapshots that only clones needed, and refuses if there is any other.
func (b *Backend) dropSnapshots(ctx context.Context, l dsm.LUN) error {
	snapshots, err := b.nas.Snapshots(ctx, l.UUID)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var names []string
	for _, s := range snapshots {
		if m, ok := b.owns(s.Description); !ok || !m.Copy {
			names = append(names, s.Name)
		}
	}
	if len(names) > 0 {
		return errs.E(errs.InUse, "LUN %s has %d snapshots, which would be deleted with it: %.200s; delete them first", l.Name, len(names), strings.Join(names, ", "))
	}
	for _, s := range snapshots {
		if err := b.dropSnapshot(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// Check is [backend.Checker].
func (b *Backend) Check(ctx context.Context, id backend.ID) ([]backend.Problem, error) {
	t, err := b.find(ctx, id)
	if err != nil {
		return nil, err
	}
	var problems []backend.Problem
	add := func(s backend.Severity, reason, format string, args ...any) {
		problems = append(problems, backend.Problem{Severity: s, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	path := ""
	if t.lun != nil {
		if path = t.lun.Location; t.lun.Status != "normal" {
			add(backend.Inaccessible, "LUNNotNormal", "LUN %s has the status %q; look at it in SAN Manager", t.lun.Name, t.lun.Status)
		}
	} else {
		path = t.share.VolumePath
	}
	v, err := b.nas.Volume(ctx, path)
	switch {
	case errs.Is(err, errs.NotFound):
		add(backend.Inaccessible, "VolumeGone", "%s of the NAS is not there; look at it in Storage Manager", path)
	case err != nil:
		return nil, err
	case bool(v.Crashed) || v.Status == "crashed":
		add(backend.DataLoss, "VolumeCrashed", "%s of the NAS has crashed; look at it in Storage Manager", path)
	case bool(v.ReadOnly) || v.Status == "read_only":
		add(backend.Inaccessible, "VolumeReadOnly", "%s of the NAS is read-only; look at it in Storage Manager", path)
	case v.Status != "normal":
		add(backend.Degraded, "VolumeNotNormal", "%s of the NAS has the status %q; look at it in Storage Manager", path, v.Status)
	case v.Total > 0 && v.Free < v.Total/50:
		add(backend.Degraded, "VolumeFull", "%s of the NAS has only %s left; thin LUNs on it cannot be written to any more when it is full", path, backend.FormatSize(int64(v.Free)))
	}
	return problems, nil
}
