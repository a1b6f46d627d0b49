package keylock

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func TestLockNamesItsHolder(t *testing.T) {
	l := New(time.Now)
	h, err := l.Lock(t.Context(), "copy v1", "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	h.Report("2 of 3")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = l.Lock(ctx, "delete v1", "b", "c")
	if !errs.Is(err, errs.Aborted) || !strings.Contains(err.Error(), "copy v1, running since") || !strings.Contains(err.Error(), "2 of 3") {
		t.Errorf("waiting: %v", err)
	}
	other, err := l.Lock(t.Context(), "other", "c") // the one that gave up holds nothing
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Running(); len(got) != 2 || !strings.HasPrefix(got[0], "copy v1") {
		t.Errorf("running: %q", got)
	}
	if err := l.Drain(ctx); err == nil || !strings.Contains(err.Error(), "still running") {
		t.Errorf("drain: %v", err)
	}
	l.Unlock(h, "a", "b")
	l.Unlock(other, "c")
	if err := l.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRunOutlivesItsCaller(t *testing.T) {
	l := New(time.Now)
	begun, goOn := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 2)
	w := Work[int]{
		Op: "mkfs v1", Keys: []string{"v1"}, Budget: time.Minute,
		Do: func(ctx context.Context) (int, error) {
			backend.Progress(ctx, "half of it")
			close(begun)
			<-goOn
			return 1, ctx.Err()
		},
		Ended: func(_ time.Time, err error) { ended <- err },
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if _, err := Run(ctx, l, w); !errs.Is(err, errs.Aborted) || !strings.Contains(err.Error(), "half of it; call again") {
		t.Errorf("the caller that left: %v", err)
	}
	close(goOn)
	second := w
	second.Do = func(context.Context) (int, error) { return 2, errors.New("no") }
	if n, err := Run(t.Context(), l, second); n != 2 || err == nil || err.Error() != "no" {
		t.Errorf("the next: %d, %v", n, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the work was ended with its caller: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the error of the work was not reported")
	}
	if _, err := Run(ctx, l, second); !errs.Is(err, errs.Aborted) {
		t.Errorf("a call that ended before it began: %v", err)
	}
	if got := l.Running(); !slices.Equal(got, []string{}) {
		t.Errorf("running: %q", got)
	}
}
