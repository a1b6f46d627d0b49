package csi

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/errs"
)

func TestEveryKindHasACode(t *testing.T) {
	for k := errs.Internal; k <= errs.Aborted; k++ {
		if _, known := codeOf(k); !known {
			t.Errorf("kind %v has no code: add a row to codeOf", k)
		}
	}
	if code, known := codeOf(errs.Aborted + 1); known || code != codes.Internal {
		t.Errorf("a kind after the last has code %v, known %v: a new kind needs its row and this test its end", code, known)
	}
}

func TestToStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want codes.Code
	}{
		{"nil", nil, codes.OK},
		{"internal", errs.E(errs.Internal, "x"), codes.Internal},
		{"invalid", errs.E(errs.Invalid, "x"), codes.InvalidArgument},
		{"out of range", errs.E(errs.OutOfRange, "x"), codes.OutOfRange},
		{"not found", errs.E(errs.NotFound, "x"), codes.NotFound},
		{"exists", errs.E(errs.Exists, "x"), codes.AlreadyExists},
		{"in use", errs.E(errs.InUse, "x"), codes.FailedPrecondition},
		{"no space", errs.E(errs.NoSpace, "x"), codes.ResourceExhausted},
		{"busy", errs.E(errs.Busy, "x"), codes.Unavailable},
		{"unavailable", errs.E(errs.Unavailable, "x"), codes.Unavailable},
		{"unsupported", errs.E(errs.Unsupported, "x"), codes.InvalidArgument},
		{"aborted", errs.E(errs.Aborted, "x"), codes.Aborted},
		{"no kind", errors.New("x"), codes.Internal},
		{"cancelled", fmt.Errorf("wait: %w", context.Canceled), codes.Aborted},
		{"deadline", context.DeadlineExceeded, codes.Aborted},
		{"status of our own", precondition("x"), codes.FailedPrecondition},
		{"kind around another's status", errs.E(errs.Unavailable, "ask: %w", status.Error(codes.NotFound, "x")), codes.Unavailable},
	} {
		if got := status.Code(toStatus(c.err)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestFinalCodes holds the table to what the sidecars take for "nothing is going on any more": a kind
// that leaves it open must not be told as one that does not, or volumes are forgotten half made.
func TestFinalCodes(t *testing.T) {
	open := map[codes.Code]bool{codes.Canceled: true, codes.DeadlineExceeded: true, codes.Unavailable: true, codes.Aborted: true}
	for k := errs.Internal; k <= errs.Aborted; k++ {
		code, _ := codeOf(k)
		unfinished := k == errs.Aborted || k == errs.Unavailable || k == errs.Busy
		if open[code] != unfinished {
			t.Errorf("kind %v is told as %v, which the sidecars take for final: %v", k, code, !open[code])
		}
	}
}
