package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

const mib = 1 << 20

// answers waits until a client is connected again.
func answers(t testing.TB, b backend.Backend) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := b.Capacity(t.Context(), "")
		if err == nil {
			return
		}
		if !errs.Is(err, errs.Unavailable) || time.Now().After(end) {
			t.Fatalf("it does not connect again: %v (%v)", err, errs.KindOf(err))
		}
	}
}

// refused fails the test unless err is of the kind and says all of the words.
func refused(t testing.TB, err error, kind errs.Kind, words ...string) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Fatalf("got %v (%v), want %v", err, errs.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}
