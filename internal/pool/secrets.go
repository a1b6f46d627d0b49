package pool

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// Secrets are what a kind logs in with, by key. As text they are their keys, so that none gets into a log.
type Secrets map[string][]byte

// NewSecrets returns what is in files, or in the data of a Secret, by name. The end of the line that an editor or
// echo leaves is no part of a password.
func NewSecrets(files map[string][]byte) Secrets {
	s := Secrets{}
	for key, value := range files {
		value, _ = bytes.CutSuffix(value, []byte("\n"))
		value, _ = bytes.CutSuffix(value, []byte("\r"))
		s[key] = value
	}
	return s
}

// Equal reports whether both have the same keys and values.
func (s Secrets) Equal(other Secrets) bool { return maps.EqualFunc(s, other, bytes.Equal) }

// String returns the keys.
func (s Secrets) String() string {
	return "secrets[" + strings.Join(slices.Sorted(maps.Keys(s)), " ") + "]"
}

// GoString returns the keys.
func (s Secrets) GoString() string { return s.String() }

// MarshalText returns the keys.
func (s Secrets) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
