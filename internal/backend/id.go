package backend

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// MaxIDLength is the longest ID in bytes: that of a DNS label, so that an ID is also a valid
// Kubernetes object name and label value and leaves room for suffixes in file, LV and LUN names.
const MaxIDLength = 63

// ID names a volume or a snapshot within its pool: a DNS label (lower-case letters, digits and
// inner hyphens, 1 to 63 of them). It is safe as a file name and needs no quoting anywhere.
type ID string

// ParseID returns s as an ID, or errs.Invalid with the grammar.
func ParseID(s string) (ID, error) {
	if !isLabel(s) {
		return "", errs.E(errs.Invalid, "%.80q is not an ID: 1 to %d of a-z, 0-9 and inner hyphens", s, MaxIDLength)
	}
	return ID(s), nil
}

// IDFor returns the ID for a name given by a caller. It is a pure function, so a repeated request
// meets what the first one made, from any process. A name that is an ID already is kept; of any
// other the ID holds as much as is readable and 64 bits of its SHA-256.
func IDFor(name string) ID {
	if isLabel(name) && !hashed(name) {
		return ID(name)
	}
	sum := sha256.Sum256([]byte(name))
	slug := slugOf(name, MaxIDLength-1-hashDigits-1)
	return ID(slug + "-h" + hex.EncodeToString(sum[:hashDigits/2]))
}

const hashDigits = 16

// hashed reports whether s looks like an ID that IDFor made of another name. Such names are hashed
// themselves, so that nobody can choose a name which collides with somebody else's.
func hashed(s string) bool {
	i := len(s) - hashDigits - 2
	return i >= 0 && s[i:i+2] == "-h" && strings.Trim(s[i+2:], "0123456789abcdef") == ""
}

func slugOf(name string, most int) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if b.Len() == most {
			break
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "x"
}

func isLabel(s string) bool {
	if len(s) == 0 || len(s) > MaxIDLength || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
