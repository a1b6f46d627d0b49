package errs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindOf(t *testing.T) {
	inner := E(NotFound, "volume %q", "v1")
	for _, c := range []struct {
		name string
		err  error
		want Kind
	}{
		{"plain error", io.EOF, Internal},
		{"made by E", inner, NotFound},
		{"wrapped by fmt", fmt.Errorf("get: %w", inner), NotFound},
		{"outermost kind wins", E(Unavailable, "ask: %w", inner), Unavailable},
		{"cancelled", fmt.Errorf("wait: %w", context.Canceled), Aborted},
		{"deadline", context.DeadlineExceeded, Aborted},
		{"deadline with a kind", E(Unavailable, "ask: %w", context.DeadlineExceeded), Unavailable},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("%s: KindOf(%v) = %v, want %v", c.name, c.err, got, c.want)
		}
	}
	if Is(nil, Internal) {
		t.Error("Is(nil, Internal) = true: no error has a kind")
	}
	if !errors.Is(E(NoSpace, "write: %w", io.ErrShortWrite), io.ErrShortWrite) {
		t.Error("a cause wrapped with %w is lost")
	}
}

func TestEveryKindHasAName(t *testing.T) {
	seen := map[string]bool{}
	for k := Internal; k <= Aborted; k++ {
		if n := k.String(); n == "" || seen[n] {
			t.Errorf("kind %d has the name %q, empty or taken", k, n)
		} else {
			seen[n] = true
		}
	}
	if got := Kind(200).String(); got != "kind(200)" {
		t.Errorf("unknown kind prints %q", got)
	}
}
