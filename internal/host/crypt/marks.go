package crypt

import (
	"context"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/fs"
)

// A volume has one mark, and an encrypted one is formatted twice. Its mark is, in this order:
//
//	luks2, begun       cryptsetup luksFormat was begun: nothing was ever in it
//	luks2, done        the header is there, and no file system was ever mounted from behind it
//	luks2/ext4, done   the file system too
const (
	markLUKS   = "luks2"
	markInside = "luks2/"
)

// encrypted reports whether a mark says that the header was made.
func encrypted(m backend.Mark) bool {
	return m.FS == markLUKS && m.Done || strings.HasPrefix(m.FS, markInside)
}

// Inside returns the marks of what is behind the encryption, for package fs; kind is the file system that
// will be made, "" for the default.
func Inside(marks fs.Marks, kind string) fs.Marks {
	if kind == "" {
		kind = fs.DefaultType
	}
	return inside{marks, kind}
}

type inside struct {
	marks fs.Marks
	kind  string
}

// Mark is [fs.Marks]. Behind a new header is noise, and not the zeros of a new device. That nothing was ever
// mounted from there is known, as it is of a device on which mkfs was begun.
func (i inside) Mark(ctx context.Context) (backend.Mark, bool, error) {
	m, known, err := i.marks.Mark(ctx)
	switch {
	case err != nil || !known || m.FS == "" || m.FS == fs.Raw && m.Done: // the last was brought from elsewhere, header and all
	case m.FS == markLUKS && m.Done:
		m.FS, m.Done = i.kind, false
	case strings.HasPrefix(m.FS, markInside):
		m.FS = strings.TrimPrefix(m.FS, markInside)
	default:
		err = errs.E(errs.Internal, "the volume's mark says %q, and it is open as an encrypted one", m.FS)
	}
	return m, known, err
}

// SetMark is [fs.Marks].
func (i inside) SetMark(ctx context.Context, m backend.Mark) error {
	m.FS = markInside + m.FS
	return i.marks.SetMark(ctx, m)
}
