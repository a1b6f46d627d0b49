package loopfile

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Check is [backend.Checker]: the image must be there, on a file system that takes writes and has room
// for what a sparse image may still grow.
func (b *Backend) Check(_ context.Context, id backend.ID) ([]backend.Problem, error) {
	if err := b.ready(); err != nil {
		return nil, err
	}
	i, err := b.load(volumes, id)
	if errs.Is(err, errs.NotFound) {
		return nil, err
	}
	if err != nil {
		return []backend.Problem{{Severity: backend.Inaccessible, Reason: "ImageUnreadable", Message: err.Error()}}, nil
	}
	var st unix.Statfs_t
	if err := b.host.Ask("check.statfs", func() error { return unix.Statfs(b.dir, &st) }); err != nil {
		return nil, errs.E(errs.Unavailable, "check: %w", err)
	}
	var found []backend.Problem
	if st.Flags&unix.ST_RDONLY != 0 {
		found = append(found, backend.Problem{Severity: backend.Inaccessible, Reason: "PoolReadOnly",
			Message: fmt.Sprintf("the file system of %s is read-only; look for its errors in the kernel's log", b.dir)})
	}
	free := int64(st.Bavail) * st.Bsize
	if unwritten := i.size - i.alloc; unwritten > 0 && free < min(unwritten, lowWater) {
		found = append(found, backend.Problem{Severity: backend.Degraded, Reason: "PoolNearlyFull",
			Message: fmt.Sprintf("%s has %s left, the volume may still need %s; free some or move the pool", b.dir,
				backend.FormatSize(free), backend.FormatSize(unwritten))})
	}
	return found, nil
}

// lowWater is the room in bytes below which a sparse volume may soon fail to write.
const lowWater = 256 << 20
