package loopfile

import (
	"context"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// recover makes good what a crash of an earlier process left, as far as no other process is at it:
// frozen file systems are thawed, group snapshots completed, half-built and half-deleted items cleared.
func (b *Backend) recover(ctx context.Context) error {
	if err := b.completeGroups(ctx); err != nil {
		return err
	}
	for _, sort := range []string{volumes, snapshots} {
		entries, err := b.host.ReadDir("recover.list", b.path(sort, ""))
		if err != nil {
			return errs.E(errs.Unavailable, "path: %w", err)
		}
		for _, e := range entries {
			if err := b.recoverItem(sort, e.Name()); err != nil {
				return errs.E(errs.KindOf(err), "recover %s/%s: %w", sort, e.Name(), err)
			}
		}
	}
	return nil
}

func (b *Backend) recoverItem(sort, name string) error {
	bare := strings.TrimPrefix(strings.TrimPrefix(name, ".new-"), ".del-")
	id, err := backend.ParseID(bare)
	if err != nil {
		return nil // not ours
	}
	unlock, err := b.locks.TryLock(key(sort, id))
	if errs.Is(err, errs.Busy) {
		return nil // another process is at it
	}
	if err != nil {
		return err
	}
	defer unlock()
	if name == bare {
		return b.thawLeft(b.path(sort, name))
	}
	return failed("clear", b.remove("recover", b.path(sort, name)))
}
