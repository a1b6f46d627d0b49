package dsm

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a password, a session or a token. Whatever prints or marshals it gets a placeholder;
// only Reveal gives it away. It holds a pointer because fmt looks through unexported fields, past
// their methods. The zero value is the empty secret.
type Secret struct{ value *string }

const redacted = "[secret]"

// NewSecret wraps a secret.
func NewSecret(value string) Secret { return Secret{&value} }

// Reveal returns the secret itself, for whoever sends it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Equal reports whether two secrets are the same.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }

// String returns a placeholder.
func (Secret) String() string { return redacted }

// Format prints the placeholder whatever the verb is.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns the placeholder, so that JSON and YAML have it too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns the placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
