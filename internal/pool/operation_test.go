package pool_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// TestPatienceEnds: a caller whose time is up is told what is going on; the operation goes on, and
// the next call gets what it made.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(fake.Options{})
		b.fake.Arm(func(e *fake.Errors) {
			e.Create.Hold = func(ctx context.Context) error {
				backend.Progress(ctx, "copied 3.2 of 10.0 GiB")
				return pause(time.Minute)(ctx)
			}
		})
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r := pool.VolumeRequest{Name: "v", Required: mib}
		_, err := b.Create(ctx, r)
		since := "running since " + begin.UTC().Format("15:04:05Z")
		refused(t, err, errs.Aborted, "create v", since, "(9.8s)", "copied 3.2 of 10.0 GiB", "call again")

		// A second caller waits for the first one's operation, and is told of it.
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = b.Create(ctx, r)
		refused(t, err, errs.Aborted, "waiting for create v", since, "(19.6s)", "copied 3.2 of 10.0 GiB", "call again")

		b.fake.Arm(func(e *fake.Errors) { e.Create.Hold = nil })
		if _, err := b.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("the retry had its answer after %v, want that of the first call after 1m", took)
		}
		if n := b.fake.Calls("Create"); n != 2 {
			t.Errorf("the backend was called %d times, want 2: by the first caller and by the last", n)
		}
	})
}

// TestAnswerComesBeforeTheDeadline: at a deadline itself a caller hears "deadline exceeded" from
// somebody else, who does not know what is going on.
func TestAnswerComesBeforeTheDeadline(t *testing.T) {
	for _, c := range []struct{ deadline, want time.Duration }{
		{10 * time.Second, 9800 * time.Millisecond},
		{800 * time.Millisecond, 600 * time.Millisecond},
		{400 * time.Millisecond, 300 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(fake.Options{})
			b.fake.Arm(func(e *fake.Errors) { e.Delete.Hold = pause(time.Minute) })
			ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
			defer cancel()
			begin := time.Now()
			refused(t, b.Delete(ctx, "v"), errs.Aborted, "delete v")
			if took := time.Since(begin); took != c.want {
				t.Errorf("with %v to go, the answer came after %v, want %v", c.deadline, took, c.want)
			}
			time.Sleep(time.Minute) // the operation ends in its own time
		})
	}
}

func TestCallThatIsOverDoesNothing(t *testing.T) {
	b := newBed(fake.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Create(ctx, pool.VolumeRequest{Name: "v"})
	refused(t, err, errs.Aborted, "before it began")
	if b.fake.Calls("Create") != 0 {
		t.Error("the backend was called for a caller who is gone")
	}
}

// TestHangingUpIsNotCancelling: the backend's context is not that of the caller.
func TestHangingUpIsNotCancelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(fake.Options{})
		b.fake.Arm(func(e *fake.Errors) { e.Create.Hold = pause(time.Minute) })
		ctx, hangUp := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, hangUp)
		_, err := b.Create(ctx, pool.VolumeRequest{Name: "v"})
		refused(t, err, errs.Aborted, "create v")
		time.Sleep(time.Minute)
		if _, err := b.Get(t.Context(), "v"); err != nil {
			t.Errorf("the volume was not made: %v", err)
		}
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fake.New(fake.Options{})
		p := pool.New("main", fake.Kind(fake.Options{}), f, pool.Options{
			Log:    slog.New(slog.DiscardHandler),
			Budget: func() time.Duration { return time.Minute },
		})
		f.Arm(func(e *fake.Errors) { e.Create.Hold = pause(time.Hour) })
		begin := time.Now()
		_, err := p.Create(t.Context(), pool.VolumeRequest{Name: "v"})
		refused(t, err, errs.Aborted)
		if took := time.Since(begin); took != time.Minute || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %v, want the budget's deadline after 1m", err, took)
		}
	})
}

// TestLocks says which operations wait for each other: those that touch one volume or snapshot.
func TestLocks(t *testing.T) {
	do := map[string]func(*bed, context.Context) error{
		"create c": func(b *bed, ctx context.Context) error { return b.mayCreate(ctx, "c", backend.Source{}) },
		"delete a": func(b *bed, ctx context.Context) error { return b.Delete(ctx, "a") },
		"delete b": func(b *bed, ctx context.Context) error { return b.Delete(ctx, "b") },
		"delete g": func(b *bed, ctx context.Context) error { return b.DeleteGroup(ctx, "g") },
		"expand a": func(b *bed, ctx context.Context) error { _, err := b.Expand(ctx, "a", 2*mib, 0); return err },
		"clone a":  func(b *bed, ctx context.Context) error { return b.mayCreate(ctx, "c", backend.Source{Volume: "a"}) },
		"restore s": func(b *bed, ctx context.Context) error {
			return b.mayCreate(ctx, "c", backend.Source{Snapshot: "s"})
		},
		"restore g/a": func(b *bed, ctx context.Context) error {
			return b.mayCreate(ctx, "d", backend.Source{Snapshot: backend.IDFor("g/a")})
		},
		"snapshot a": func(b *bed, ctx context.Context) error { _, err := b.Snapshot(ctx, "t", "a"); return err },
		"delete s":   func(b *bed, ctx context.Context) error { return b.DeleteSnapshot(ctx, "s") },
		"group a b":  func(b *bed, ctx context.Context) error { return b.mayGroup(ctx, "h", "a", "b") },
		"activate a": func(b *bed, ctx context.Context) error { _, err := b.Activate(ctx, "a"); return err },
		"mark a":     func(b *bed, ctx context.Context) error { return b.SetMark(ctx, "a", backend.Mark{FS: "xfs"}) },
	}
	for _, c := range []struct {
		first, second string
		waits         bool
	}{
		{"delete a", "delete a", true},
		{"delete a", "delete b", false},
		{"expand a", "delete a", true},
		{"clone a", "delete a", true},
		{"clone a", "delete b", false},
		{"clone a", "create c", true},
		{"clone a", "activate a", false}, // a copy may take hours
		{"clone a", "snapshot a", false},
		{"clone a", "expand a", true},
		{"snapshot a", "mark a", false},
		{"snapshot a", "clone a", false},
		{"restore s", "delete s", true},
		{"restore s", "delete a", false},
		{"restore g/a", "delete g", true},
		{"snapshot a", "delete a", true},
		{"snapshot a", "delete s", false},
		{"group a b", "delete b", true},
		{"group a b", "create c", false},
		{"activate a", "delete a", true},
		{"mark a", "delete a", true},
	} {
		t.Run(strings.ReplaceAll(c.first+", "+c.second, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testLocks(t, do[c.first], do[c.second], c.waits) })
		})
	}
}

func (b *bed) mayCreate(ctx context.Context, name string, s backend.Source) error {
	_, err := b.Create(ctx, pool.VolumeRequest{Name: name, Required: mib, Source: s})
	return err
}

func (b *bed) mayGroup(ctx context.Context, name string, sources ...backend.ID) error {
	_, err := b.SnapshotGroup(ctx, name, sources)
	return err
}

func testLocks(t *testing.T, first, second func(*bed, context.Context) error, waits bool) {
	b := newBed(fake.Options{})
	b.create(t, "a")
	b.create(t, "b")
	if _, err := b.Snapshot(t.Context(), "s", "a"); err != nil {
		t.Fatal(err)
	}
	if err := b.mayGroup(t.Context(), "g", "a", "b"); err != nil {
		t.Fatal(err)
	}
	slow := func(s *fake.Step) { s.Hold = pause(time.Minute) }
	b.fake.Arm(func(e *fake.Errors) {
		for _, s := range []*fake.Step{&e.Create, &e.Delete, &e.Expand, &e.CreateSnapshot, &e.DeleteSnapshot, &e.CreateGroup, &e.Activate, &e.SetMark} {
			slow(s)
		}
	})
	failed := make(chan error, 1)
	go func() { failed <- first(b, t.Context()) }()
	synctest.Wait()
	running := b.Running()
	if len(running) != 1 {
		t.Fatalf("running: %q, want the first operation", running)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := second(b, ctx)
	refused(t, err, errs.Aborted)
	if got := strings.HasPrefix(err.Error(), "waiting for "); got != waits {
		t.Errorf("the second was told %q while this ran: %s; it should wait: %v", err, running[0], waits)
	}
	if err := <-failed; err != nil {
		t.Error(err)
	}
	time.Sleep(10 * time.Minute) // whatever the second began ends
	if left := b.Running(); len(left) > 0 {
		t.Errorf("still running: %q", left)
	}
}

func TestRunningIsSortedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(fake.Options{})
		b.fake.Arm(func(e *fake.Errors) { e.Delete.Hold = pause(time.Minute) })
		for _, id := range []backend.ID{"c", "a", "b"} {
			go func() { _ = b.Delete(t.Context(), id) }()
			time.Sleep(time.Second)
		}
		var got []string
		for _, r := range b.Running() {
			op, _, _ := strings.Cut(r, ",")
			got = append(got, op)
		}
		if diff := cmp.Diff([]string{"delete c", "delete a", "delete b"}, got); diff != "" {
			t.Error(diff)
		}
		time.Sleep(time.Hour)
	})
}

// TestObserved: each operation is observed once, when it ends and not when a caller gives up, and is
// one line in the log.
func TestObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ctx := newBed(fake.Options{}), t.Context()
		b.create(t, "v")
		broken := errors.New("broken")
		b.fake.Arm(func(e *fake.Errors) { e.Expand.Before = errs.E(errs.Busy, "array: %w", broken) })
		_, err := b.Expand(ctx, "v", 2*mib, 0)
		refused(t, err, errs.Busy)
		b.fake.Arm(func(e *fake.Errors) { e.Delete.Hold = pause(3 * time.Second) })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		refused(t, b.Delete(short, "v"), errs.Aborted)
		if n := len(b.observations()); n != 2 {
			t.Fatalf("%d operations were observed, want create and expand: delete has not ended", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []pool.Observation{{Pool: "main", Kind: "fake", Op: "delete", Took: 3 * time.Second}}
		if diff := cmp.Diff(want, b.observations(), cmpopts.EquateErrors()); diff != "" {
			t.Error(diff)
		}
		lines := strings.Split(strings.TrimSpace(b.log.String()), "\n")
		if len(lines) != 3 {
			t.Fatalf("%d lines for 3 operations:\n%s", len(lines), b.log)
		}
		for _, want := range []string{"level=WARN", "pool=main", "op=expand", "id=v", "kind=busy", `error="array: broken"`} {
			if !strings.Contains(lines[1], want) {
				t.Errorf("%q does not say %s", lines[1], want)
			}
		}
	})
}

func TestOperationsAreNamed(t *testing.T) {
	b, ctx := newBed(fake.Options{}), t.Context()
	b.create(t, "v")
	for op, call := range map[string]func() error{
		"create":          func() error { return b.mayCreate(ctx, "w", backend.Source{}) },
		"delete":          func() error { return b.Delete(ctx, "w") },
		"expand":          func() error { _, err := b.Expand(ctx, "v", 4*mib, 0); return err },
		"snapshot":        func() error { _, err := b.Snapshot(ctx, "s", "v"); return err },
		"delete-snapshot": func() error { return b.DeleteSnapshot(ctx, "absent") },
		"snapshot-group":  func() error { return b.mayGroup(ctx, "g", "v") },
		"delete-group":    func() error { return b.DeleteGroup(ctx, "absent") },
		"activate":        func() error { _, err := b.Activate(ctx, "v"); return err },
		"deactivate":      func() error { return b.Deactivate(ctx, "v") },
		"mark":            func() error { return b.SetMark(ctx, "v", backend.Mark{}) },
	} {
		b.observations()
		if err := call(); err != nil {
			t.Errorf("%s: %v", op, err)
		}
		if got := b.observations(); len(got) != 1 || got[0].Op != op || got[0].Err != nil {
			t.Errorf("%s: observed %+v", op, got)
		}
	}
}
