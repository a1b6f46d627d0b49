package fake_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

func request() backend.Request { return backend.Request{ID: "v", Name: "v", Size: size} }

const size = 1 << 20

func TestArm(t *testing.T) {
	b, ctx := fake.New(fake.Options{}), t.Context()
	broken := errors.New("broken")
	create := func() error { _, err := b.Create(ctx, request()); return err }
	exists := func() bool { return len(b.Leftovers()) > 0 }

	b.Arm(func(e *fake.Errors) { e.Create.Before = broken })
	if err := create(); !errors.Is(err, broken) || exists() {
		t.Errorf("Before: %v, left %q", err, b.Leftovers())
	}
	b.Arm(func(e *fake.Errors) { e.Create.After = broken })
	if err := create(); !errors.Is(err, broken) || !exists() {
		t.Errorf("After: %v, left %q", err, b.Leftovers())
	}
	if err := create(); err != nil {
		t.Errorf("an error that was armed once came twice: %v", err)
	}
	b.Arm(func(e *fake.Errors) { e.Create.Hold = func(context.Context) error { return broken } })
	for range 2 {
		if err := create(); !errors.Is(err, broken) {
			t.Errorf("Hold: %v", err)
		}
	}
	b.Arm(func(e *fake.Errors) { e.Create.Hold, e.Down = nil, broken })
	for range 2 {
		if err := b.Delete(ctx, "v"); !errors.Is(err, broken) || !exists() {
			t.Errorf("Down: %v", err)
		}
	}
	b.Arm(func(e *fake.Errors) { e.Down = nil })
	if b.Calls("Create") != 5 || b.Calls("Delete") != 2 || b.Calls("Get") != 0 {
		t.Errorf("%d creates, %d deletes, %d gets", b.Calls("Create"), b.Calls("Delete"), b.Calls("Get"))
	}
}

func TestListEndsHalfway(t *testing.T) {
	b, ctx := fake.New(fake.Options{}), t.Context()
	for _, id := range []backend.ID{"a", "b", "c", "d"} {
		if _, err := b.Create(ctx, backend.Request{ID: id, Name: string(id), Size: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	b.Arm(func(e *fake.Errors) { e.List.After = broken })
	n, last := 0, error(nil)
	for _, err := range b.List(ctx) {
		if last = err; err == nil {
			n++
		}
	}
	if n != 2 || !errors.Is(last, broken) {
		t.Errorf("%d of 4 volumes, then %v", n, last)
	}
}

func TestReopen(t *testing.T) {
	b, ctx := fake.New(fake.Options{}), t.Context()
	if _, err := b.Create(ctx, request()); err != nil {
		t.Fatal(err)
	}
	b.Arm(func(e *fake.Errors) { e.Down = errors.New("down") })
	if err := b.Close(); err == nil {
		t.Error("Close of what is down")
	}
	if _, err := b.Get(ctx, "v"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("after Close: %v", err)
	}
	again := b.Reopen()
	if _, err := again.Get(ctx, "v"); err != nil || again.Calls("Get") != 1 {
		t.Errorf("reopened: %v, %d calls", err, again.Calls("Get"))
	}
}

func TestKindKeepsItsPools(t *testing.T) {
	kind := fake.Kind(fake.Options{NodeBound: true})
	open := func(name string) backend.Backend {
		b, err := kind.Open(t.Context(), backend.Config{Pool: name, Node: "n7"})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v, err := open("a").Create(t.Context(), request())
	if err != nil || v.Access.Local.Pool != "a" || v.Nodes[0] != "n7" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := open("a").Get(t.Context(), "v"); err != nil {
		t.Error(err)
	}
	if _, err := open("b").Get(t.Context(), "v"); !errs.Is(err, errs.NotFound) {
		t.Errorf("another pool: %v", err)
	}
}

func TestProblems(t *testing.T) {
	b, ctx := fake.New(fake.Options{}), t.Context()
	if _, err := b.Create(ctx, request()); err != nil {
		t.Fatal(err)
	}
	b.SetProblems("v", backend.Problem{Severity: backend.DataLoss, Reason: "Gone"})
	b.SetProblems("absent", backend.Problem{})
	if p, err := b.Check(ctx, "v"); err != nil || len(p) != 1 || p[0].Reason != "Gone" {
		t.Errorf("%+v, %v", p, err)
	}
	b.SetProblems("v")
	if p, err := b.Check(ctx, "v"); err != nil || len(p) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestDeviceEnds(t *testing.T) {
	b := fake.New(fake.Options{})
	if _, err := b.Create(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	d, err := b.Open("v")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := make([]byte, 10)
	if n, err := d.WriteAt(p, size-4); n != 4 || err == nil {
		t.Errorf("wrote %d beyond the end, %v", n, err)
	}
	if n, err := d.ReadAt(p, size-4); n != 4 || err == nil {
		t.Errorf("read %d beyond the end, %v", n, err)
	}
	if _, err := d.ReadAt(p, size+1); err == nil {
		t.Error("read beyond the end")
	}
	if _, err := d.WriteAt(p, size+1); err == nil {
		t.Error("wrote beyond the end")
	}
	if _, err := b.Open("absent"); !errs.Is(err, errs.NotFound) {
		t.Errorf("open absent: %v", err)
	}
}
