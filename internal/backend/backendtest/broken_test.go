package backendtest

import (
	"context"
	"iter"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// hooks replace methods of a fake; nil ones stay as they are.
type hooks struct {
	create         func(*fake.Backend, context.Context, backend.Request) (backend.Volume, error)
	delete         func(*fake.Backend, context.Context, backend.ID) error
	get            func(*fake.Backend, context.Context, backend.ID) (backend.Volume, error)
	list           func(*fake.Backend, context.Context) iter.Seq2[backend.Volume, error]
	capacity       func(*fake.Backend, context.Context) (backend.Capacity, error)
	close          func(*fake.Backend) error
	expand         func(*fake.Backend, context.Context, backend.ID, int64) (backend.Volume, error)
	createSnapshot func(*fake.Backend, context.Context, backend.SnapshotRequest) (backend.Snapshot, error)
	deleteSnapshot func(*fake.Backend, context.Context, backend.ID) error
	getSnapshot    func(*fake.Backend, context.Context, backend.ID) (backend.Snapshot, error)
	listSnapshots  func(*fake.Backend, context.Context) iter.Seq2[backend.Snapshot, error]
	createGroup    func(*fake.Backend, context.Context, []backend.SnapshotRequest) ([]backend.Snapshot, error)
	activate       func(*fake.Backend, context.Context, backend.ID) (string, error)
	deactivate     func(*fake.Backend, context.Context, backend.ID) error
	mark           func(*fake.Backend, context.Context, backend.ID) (backend.Mark, error)
	setMark        func(*fake.Backend, context.Context, backend.ID, backend.Mark) error
	check          func(*fake.Backend, context.Context, backend.ID) ([]backend.Problem, error)
	modify         func(*fake.Backend, context.Context, backend.ID, backend.Limits) (backend.Volume, error)
	attach         func(*fake.Backend, context.Context, backend.ID, backend.AttachRequest) (backend.Access, error)
	detach         func(*fake.Backend, context.Context, backend.ID, string) error
	gauges         func(*fake.Backend, context.Context) ([]backend.Gauge, error)
}

// broken is a fake with hooks.
type broken struct {
	*fake.Backend
	h hooks
}

func (b *broken) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	if b.h.create == nil {
		return b.Backend.Create(ctx, r)
	}
	return b.h.create(b.Backend, ctx, r)
}

func (b *broken) Delete(ctx context.Context, id backend.ID) error {
	if b.h.delete == nil {
		return b.Backend.Delete(ctx, id)
	}
	return b.h.delete(b.Backend, ctx, id)
}

func (b *broken) Get(ctx context.Context, id backend.ID) (backend.Volume, error) {
	if b.h.get == nil {
		return b.Backend.Get(ctx, id)
	}
	return b.h.get(b.Backend, ctx, id)
}

func (b *broken) List(ctx context.Context) iter.Seq2[backend.Volume, error] {
	if b.h.list == nil {
		return b.Backend.List(ctx)
	}
	return b.h.list(b.Backend, ctx)
}

func (b *broken) Capacity(ctx context.Context, node string) (backend.Capacity, error) {
	if b.h.capacity == nil {
		return b.Backend.Capacity(ctx, node)
	}
	return b.h.capacity(b.Backend, ctx)
}

func (b *broken) Close() error {
	if b.h.close == nil {
		return b.Backend.Close()
	}
	return b.h.close(b.Backend)
}

func (b *broken) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	if b.h.expand == nil {
		return b.Backend.Expand(ctx, id, size)
	}
	return b.h.expand(b.Backend, ctx, id, size)
}

func (b *broken) CreateSnapshot(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	if b.h.createSnapshot == nil {
		return b.Backend.CreateSnapshot(ctx, r)
	}
	return b.h.createSnapshot(b.Backend, ctx, r)
}

func (b *broken) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	if b.h.deleteSnapshot == nil {
		return b.Backend.DeleteSnapshot(ctx, id)
	}
	return b.h.deleteSnapshot(b.Backend, ctx, id)
}

func (b *broken) GetSnapshot(ctx context.Context, id backend.ID) (backend.Snapshot, error) {
	if b.h.getSnapshot == nil {
		return b.Backend.GetSnapshot(ctx, id)
	}
	return b.h.getSnapshot(b.Backend, ctx, id)
}

func (b *broken) ListSnapshots(ctx context.Context) iter.Seq2[backend.Snapshot, error] {
	if b.h.listSnapshots == nil {
		return b.Backend.ListSnapshots(ctx)
	}
	return b.h.listSnapshots(b.Backend, ctx)
}

func (b *broken) CreateGroup(ctx context.Context, rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	if b.h.createGroup == nil {
		return b.Backend.CreateGroup(ctx, rs)
	}
	return b.h.createGroup(b.Backend, ctx, rs)
}

func (b *broken) Activate(ctx context.Context, id backend.ID) (string, error) {
	if b.h.activate == nil {
		return b.Backend.Activate(ctx, id)
	}
	return b.h.activate(b.Backend, ctx, id)
}

func (b *broken) Deactivate(ctx context.Context, id backend.ID) error {
	if b.h.deactivate == nil {
		return b.Backend.Deactivate(ctx, id)
	}
	return b.h.deactivate(b.Backend, ctx, id)
}

func (b *broken) Modify(ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
	if b.h.modify == nil {
		return b.Backend.Modify(ctx, id, l)
	}
	return b.h.modify(b.Backend, ctx, id, l)
}

func (b *broken) Mark(ctx context.Context, id backend.ID) (backend.Mark, error) {
	if b.h.mark == nil {
		return b.Backend.Mark(ctx, id)
	}
	return b.h.mark(b.Backend, ctx, id)
}

func (b *broken) SetMark(ctx context.Context, id backend.ID, m backend.Mark) error {
	if b.h.setMark == nil {
		return b.Backend.SetMark(ctx, id, m)
	}
	return b.h.setMark(b.Backend, ctx, id, m)
}

func (b *broken) Check(ctx context.Context, id backend.ID) ([]backend.Problem, error) {
	if b.h.check == nil {
		return b.Backend.Check(ctx, id)
	}
	return b.h.check(b.Backend, ctx, id)
}

func (b *broken) Attach(ctx context.Context, id backend.ID, r backend.AttachRequest) (backend.Access, error) {
	if b.h.attach == nil {
		return b.Backend.Attach(ctx, id, r)
	}
	return b.h.attach(b.Backend, ctx, id, r)
}

func (b *broken) Detach(ctx context.Context, id backend.ID, node string) error {
	if b.h.detach == nil {
		return b.Backend.Detach(ctx, id, node)
	}
	return b.h.detach(b.Backend, ctx, id, node)
}

func (b *broken) Gauges(ctx context.Context) ([]backend.Gauge, error) {
	if b.h.gauges == nil {
		return b.Backend.Gauges(ctx)
	}
	return b.h.gauges(b.Backend, ctx)
}

// harnessOf is that of fakes with the hooks that make returns: once for a pool that is opened, and
// anew for each that is reopened.
func harnessOf(makeHooks func(reopened bool) hooks) Harness {
	open := func(f *fake.Backend, reopened bool) backend.Backend {
		return &broken{Backend: f, h: makeHooks(reopened)}
	}
	of := func(b backend.Backend) *fake.Backend { return b.(*broken).Backend }
	return Harness{
		Kind: fake.Kind(fake.Options{Outside: true}),
		Open: func(testing.TB) backend.Backend {
			return open(fake.New(fake.Options{Total: 128 << 20, Outside: true}), false)
		},
		Reopen: func(_ testing.TB, b backend.Backend) backend.Backend { return open(of(b).Reopen(), true) },
		Data: func(_ testing.TB, b backend.Backend, id backend.ID) (Content, error) {
			return of(b).Open(id)
		},
		Unreachable: func(_ testing.TB, b backend.Backend) func() {
			of(b).Arm(func(x *fake.Errors) { x.Down = errs.E(errs.Unavailable, "fake: down") })
			return func() { of(b).Arm(func(x *fake.Errors) { x.Down = nil }) }
		},
		Strangers: func(_ testing.TB, b backend.Backend) func() error {
			of(b).AddForeign("theirs", 1<<20)
			return func() error { return of(b).RemoveForeign("theirs") }
		},
		Leaks: func(_ testing.TB, b backend.Backend) []string { return of(b).Leftovers() },
	}
}
