package backendtest

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// env is what a law works with: a fresh pool, and the test.
type env struct {
	testing.TB
	h    Harness
	ctx  context.Context
	size int64 // of a usual volume

	b    backend.Backend
	p    *pool.Pool // over b
	caps pool.Capabilities
	all  []backend.Backend // to be closed
	open []*tracked        // contents
}

func newEnv(t testing.TB, h Harness) *env {
	h.Callers = cmp.Or(h.Callers, 32)
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(h.Timeout, time.Minute))
	t.Cleanup(cancel)
	e := &env{TB: t, h: h, ctx: ctx, size: roundUp(max(cmp.Or(h.Size, 1<<20), h.Kind.MinSize), h.Kind.Granularity)}
	e.use(h.Open(t))
	return e
}

func (e *env) use(b backend.Backend) {
	e.b, e.p = b, e.poolOver(b)
	e.caps = e.p.Capabilities()
	e.all = append(e.all, b)
}

func (e *env) poolOver(b backend.Backend) *pool.Pool {
	return pool.New("law", e.h.Kind, b, pool.Options{Node: e.h.Node, Log: slog.New(slog.DiscardHandler)})
}

// reopen goes on as another process would. The old one is left as if it had been killed.
func (e *env) reopen() {
	e.Helper()
	e.use(e.h.Reopen(e.TB, e.b))
}

// end deletes all that a law made and checks that it is gone.
func (e *env) end() {
	e.Helper()
	for _, c := range e.open {
		c.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 10 { // what depends on other things goes before them
		if e.deleteAll(ctx) == 0 {
			break
		}
	}
	e.nothingLeft(ctx)
	for _, b := range e.all {
		if err := b.Close(); err != nil {
			e.Errorf("Close: %v", err)
		}
	}
}

func (e *env) deleteAll(ctx context.Context) (found int) {
	if s := e.caps.Snapshotter; s != nil {
		for _, snap := range collect(s.ListSnapshots(ctx)) {
			found++
			if err := s.DeleteSnapshot(ctx, snap.ID); err != nil {
				e.Logf("cleaning up: delete snapshot %s: %v", snap.ID, err)
			}
		}
	}
	for _, v := range collect(e.b.List(ctx)) {
		found++
		if e.caps.Activator != nil {
			if err := e.caps.Activator.Deactivate(ctx, v.ID); err != nil {
				e.Logf("cleaning up: deactivate %s: %v", v.ID, err)
			}
		}
		if e.caps.Attacher != nil {
			if err := e.caps.Attacher.Detach(ctx, v.ID, ""); err != nil {
				e.Logf("cleaning up: detach %s: %v", v.ID, err)
			}
		}
		if err := e.b.Delete(ctx, v.ID); err != nil {
			e.Logf("cleaning up: delete %s: %v", v.ID, err)
		}
	}
	return found
}

func (e *env) nothingLeft(ctx context.Context) {
	e.Helper()
	for v, err := range e.b.List(ctx) {
		e.Errorf("left when all was deleted: volume %s, %v", v.ID, err)
	}
	if s := e.caps.Snapshotter; s != nil {
		for v, err := range s.ListSnapshots(ctx) {
			e.Errorf("left when all was deleted: snapshot %s, %v", v.ID, err)
		}
	}
	if e.h.Leaks != nil {
		for _, l := range e.h.Leaks(e.TB, e.b) {
			e.Errorf("left when all was deleted: %s", l)
		}
	}
}

// collect leaves errors out: only for cleaning up.
func collect[T any](seq iter.Seq2[T, error]) (all []T) {
	for v, err := range seq {
		if err == nil {
			all = append(all, v)
		}
	}
	return all
}

// must ends the law on an error.
func (e *env) must(err error, what string) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v (%v)", what, err, errs.KindOf(err))
	}
}

// want ends the law unless err is of one of the kinds.
func (e *env) want(err error, what string, kinds ...errs.Kind) {
	e.Helper()
	if err == nil {
		e.Fatalf("%s: no error, want %v", what, kinds)
	}
	if !slices.Contains(kinds, errs.KindOf(err)) {
		e.Fatalf("%s: %v: is %v, want %v", what, err, errs.KindOf(err), kinds)
	}
}

// request asks for a usual volume.
func (e *env) request(name string) backend.Request {
	e.Helper()
	parameters, err := backend.Complete("parameters", e.h.Kind.Parameters, e.h.Parameters)
	e.must(err, "Harness.Parameters")
	return backend.Request{ID: backend.IDFor(name), Name: name, Size: e.size, Parameters: parameters}
}

func (e *env) create(name string, change ...func(*backend.Request)) backend.Volume {
	e.Helper()
	r := e.request(name)
	for _, c := range change {
		c(&r)
	}
	v, err := e.b.Create(e.ctx, r)
	e.must(err, "create "+name)
	return v
}

func (e *env) delete(id backend.ID) {
	e.Helper()
	e.must(e.b.Delete(e.ctx, id), "delete "+string(id))
}

func (e *env) get(id backend.ID) backend.Volume {
	e.Helper()
	v, err := e.b.Get(e.ctx, id)
	e.must(err, "get "+string(id))
	return v
}

// absent checks that a volume is nowhere.
func (e *env) absent(id backend.ID) {
	e.Helper()
	_, err := e.b.Get(e.ctx, id)
	e.want(err, "get "+string(id)+", which should not exist", errs.NotFound)
	if slices.Contains(e.list(), id) {
		e.Fatalf("list has %s, which should not exist", id)
	}
}

// list returns the IDs that List yields, sorted.
func (e *env) list() []backend.ID {
	e.Helper()
	var ids []backend.ID
	for v, err := range e.b.List(e.ctx) {
		e.must(err, "list")
		ids = append(ids, v.ID)
	}
	slices.Sort(ids)
	return ids
}

func (e *env) listed(want ...backend.ID) {
	e.Helper()
	want = slices.Sorted(slices.Values(want))
	if got := e.list(); !slices.Equal(got, want) {
		e.Fatalf("list yields %v, want %v", got, want)
	}
}

func (e *env) snapshot(name string, of backend.ID) backend.Snapshot {
	e.Helper()
	s, err := e.caps.Snapshotter.CreateSnapshot(e.ctx, snapshotRequest(name, of))
	e.must(err, "snapshot "+name+" of "+string(of))
	return s
}

func snapshotRequest(name string, of backend.ID) backend.SnapshotRequest {
	return backend.SnapshotRequest{ID: backend.IDFor(name), Name: name, Source: of}
}

func (e *env) snapshots() []backend.ID {
	e.Helper()
	var ids []backend.ID
	for s, err := range e.caps.Snapshotter.ListSnapshots(e.ctx) {
		e.must(err, "list snapshots")
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

func (e *env) snapshotsListed(want ...backend.ID) {
	e.Helper()
	want = slices.Sorted(slices.Values(want))
	if got := e.snapshots(); !slices.Equal(got, want) {
		e.Fatalf("list of snapshots yields %v, want %v", got, want)
	}
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
