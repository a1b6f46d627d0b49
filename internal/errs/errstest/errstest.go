// Package errstest checks errors in tests.
package errstest

import (
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Refused fails the test unless what was tried has an error of the kind, which says all the words.
func Refused(t testing.TB, what string, err error, kind errs.Kind, words ...string) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("%s: got %v (%v), want %v", what, err, errs.KindOf(err), kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q does not say %q", what, err, w)
		}
	}
}
