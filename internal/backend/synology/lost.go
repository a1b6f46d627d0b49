package synology

import (
	"context"
	"errors"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// lost is about what was created, and does not have its description.
func lost(what, sent, has, then string) error {
	return errs.E(errs.Internal, "%s was created with a description of %d characters, and DSM kept %d: without the mark in it Dozo cannot know its volumes; %s", what, len(sent), len(has), then)
}

// made is what a create of ours made.
type made struct {
	uuid string // by the answer; "": there was none, and what has the name now may be anybody's
	text string // the description that was sent
}

// lacks reports whether something is what was made, with only the beginning of its description. A character that was cut
// in two is read as U+FFFD.
func (m made) lacks(uuid, description string) bool {
	return m.uuid != "" && uuid == m.uuid && description != m.text && strings.HasPrefix(m.text, strings.TrimRight(description, "\uFFFD"))
}

// undone is about what was made and deleted again: with half a mark it would be nobody's, and in the way of the next call.
func (m made) undone(what, has string, deleted error) error {
	if deleted != nil {
		return errors.Join(lost(what, m.text, has, "delete it in SAN Manager"), deleted)
	}
	return lost(what, m.text, has, "it was deleted again; use shorter names of pool, volumes and options[\"clusterID\"], or another NAS")
}

// dropLost deletes the LUN that was made if it has only the beginning of its description, and says so. Nil if it has not.
func (b *Backend) dropLost(ctx context.Context, r backend.Request, m made) error {
	if m.uuid == "" {
		return nil
	}
	l, err := b.nas.LUN(ctx, m.uuid)
	if err == nil {
		l, err = b.settled(ctx, l) // until then more of it may come
	}
	switch {
	case errs.Is(err, errs.NotFound):
		return nil
	case err != nil:
		return err
	case !m.lacks(l.UUID, l.Description):
		return nil
	}
	return m.undone("LUN "+l.Name, l.Description, b.deleteLUN(ctx, thing{lun: &l, mark: b.mark(r)}))
}

// dropLostSnapshot is dropLost for a snapshot of a LUN.
func (b *Backend) dropLostSnapshot(ctx context.Context, l dsm.LUN, m made) error {
	s, err := b.nas.Snapshot(ctx, m.uuid)
	switch {
	case errs.Is(err, errs.NotFound):
		return nil
	case err != nil:
		return err
	case !m.lacks(s.UUID, s.Description):
		return nil
	}
	return m.undone("snapshot "+s.Name+" of LUN "+l.Name, s.Description, b.dropSnapshot(ctx, s))
}
