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
	l.Unlock(h)
	l.Unlock(other)
	if err := l.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBeside: keys are held against those beside too, and each drains its own.
func TestBeside(t *testing.T) {
	one := New(time.Now)
	two := one.Beside()
	h, err := one.Lock(t.Context(), "grow v1", "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := two.Lock(ctx, "attach v1", "a"); !errs.Is(err, errs.Aborted) || !strings.Contains(err.Error(), "grow v1") {
		t.Errorf("waiting: %v", err)
	}
	if err := two.Drain(ctx); err != nil || len(two.Running()) > 0 || len(one.Running()) != 1 {
		t.Errorf("drain: %v, with %q and %q", err, two.Running(), one.Running())
	}
	one.Unlock(h)
	if h, err = two.Lock(t.Context(), "attach v1", "a"); err != nil {
		t.Fatal(err)
	}
	if err := one.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	two.Unlock(h)
}

func TestRunOutlivesItsCaller(t *testing.T) {
	l := New(time.Now)
	begun, goOn := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 2)
	w := Work[int]{
		Op: "mkfs v1", Keys: Keys{Alone: []string{"v1"}}, Budget: time.Minute,
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

// waits reports whether an operation with these keys has to wait for another one.
func waits(t *testing.T, l *Locks, keys Keys) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h, err := l.Take(ctx, "try", keys)
	if err == nil {
		l.Unlock(h)
	}
	return err != nil
}

// TestWhileItIsCopied: what may be done with a volume of which a copy is being made, and what has to wait.
func TestWhileItIsCopied(t *testing.T) {
	l := New(time.Now)
	copying := Create(backend.Request{ID: "copy", Source: backend.Source{Volume: "v"}})
	h, err := l.Take(t.Context(), "create copy", copying)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		keys  Keys
		waits bool
	}{
		{"activate it", Volume("v"), false},
		{"copy it once more", Create(backend.Request{ID: "another", Source: backend.Source{Volume: "v"}}), false},
		{"take a snapshot of it", TakeSnapshots(backend.SnapshotRequest{ID: "v", Source: "v"}), false},
		{"delete a snapshot with its name", DeleteSnapshot("v"), false},
		{"delete or resize it", Resize("v"), true},
		{"activate the copy", Volume("copy"), true},
		{"copy the copy", Create(backend.Request{ID: "another", Source: backend.Source{Volume: "copy"}}), true},
		{"make the copy again", copying, true},
	} {
		if got := waits(t, l, c.keys); got != c.waits {
			t.Errorf("%s: waits: %t", c.what, got)
		}
	}
	second, err := l.Take(t.Context(), "create another", Create(backend.Request{ID: "another", Source: backend.Source{Volume: "v"}}))
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock(h)
	if !waits(t, l, Resize("v")) {
		t.Error("with the first copy done, the volume is deleted under the second")
	}
	l.Unlock(second)
	if waits(t, l, Resize("v")) || len(l.held) != 0 {
		t.Errorf("held after all: %v", l.held)
	}
}
