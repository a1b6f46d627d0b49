package csi

import (
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// MaxHandleLength is the longest handle in bytes: a pool, a colon and an ID. It is below the 128
// that CSI allows for a string.
const MaxHandleLength = 2*backend.MaxIDLength + 1

// Handle names a volume, a snapshot or a group of snapshots to the outside: "<pool>:<id>", both of
// them DNS labels. It is parsed once, here at the edge; nothing behind it sees a string that a
// caller chose, so there is no "..", no slash and no empty part in any of them.
type Handle struct {
	Pool string
	ID   backend.ID
}

// String returns the handle as PersistentVolumes keep it.
func (h Handle) String() string { return h.Pool + ":" + string(h.ID) }

// ParseHandle returns the handle that s is the String of, or errs.Invalid with the grammar.
func ParseHandle(s string) (Handle, error) {
	before, after, ok := strings.Cut(s, ":")
	if !ok {
		return Handle{}, errs.E(errs.Invalid, "%.80q is not a handle: it has the form pool:id", s)
	}
	pool, err := backend.ParseID(before)
	if err != nil {
		return Handle{}, errs.E(errs.Invalid, "%.80q is not a handle: its pool: %w", s, err)
	}
	id, err := backend.ParseID(after)
	if err != nil {
		return Handle{}, errs.E(errs.Invalid, "%.80q is not a handle: %w", s, err)
	}
	return Handle{Pool: string(pool), ID: id}, nil
}
