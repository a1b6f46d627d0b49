package backendtest

import (
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func unreachableLaws() []law {
	return []law{
		{"storage that does not answer is not empty", []need{unreachable()}, unreachableIsNotEmpty},
		{"storage that does not answer says so", []need{unreachable()}, unreachableSays},
		{"storage that answers again has everything", []need{unreachable()}, unreachableKeeps},
	}
}

// notAsked returns the kinds that let no caller believe to know what is there.
func notAsked() []errs.Kind {
	return []errs.Kind{errs.Unavailable, errs.Internal, errs.Busy, errs.Aborted}
}

func (e *env) unreachable() (restore func()) {
	e.Helper()
	r := e.h.Unreachable(e.TB, e.b)
	restored := false
	restore = func() {
		if !restored {
			restored = true
			r()
		}
	}
	e.Cleanup(restore)
	return restore
}

// unreachableIsNotEmpty: a short list looks as if volumes were gone, so it must not look whole.
func unreachableIsNotEmpty(e *env) {
	for _, name := range []string{"law-1", "law-2", "law-3"} {
		e.create(name)
		if e.caps.Snapshotter != nil {
			e.snapshot(name, backend.ID(name))
		}
	}
	restore := e.unreachable()
	defer restore()
	var last error
	for _, last = range e.b.List(e.ctx) {
		if last != nil && !slices.Contains(notAsked(), errs.KindOf(last)) {
			e.Fatalf("list: %v: is %v", last, errs.KindOf(last))
		}
	}
	e.want(last, "list", notAsked()...)
	if e.caps.Snapshotter != nil {
		for _, last = range e.caps.Snapshotter.ListSnapshots(e.ctx) {
		}
		e.want(last, "list snapshots", notAsked()...)
	}
	_, err := e.b.Capacity(e.ctx, "")
	e.want(err, "capacity", notAsked()...)
}

func unreachableSays(e *env) {
	e.create("law-a")
	if e.caps.Snapshotter != nil {
		e.snapshot("law-snapshot", "law-a")
	}
	restore := e.unreachable()
	defer restore()
	for _, id := range []backend.ID{"law-a", "law-snapshot", "law-absent"} {
		for what, call := range e.asks(id) {
			e.want(call(), what+" "+string(id), notAsked()...)
		}
	}
	for what, call := range e.changes() {
		e.want(call(), what, notAsked()...)
	}
}

// changes are calls that succeed when there is nothing to do, or make something.
func (e *env) changes() map[string]func() error {
	changes := map[string]func() error{
		"delete":           func() error { return e.b.Delete(e.ctx, "law-a") },
		"delete an absent": func() error { return e.b.Delete(e.ctx, "law-absent") },
		"create":           func() error { return e.copyTo("law-new", backend.Source{}) },
		"create again":     func() error { return e.copyTo("law-a", backend.Source{}) },
	}
	if s := e.caps.Snapshotter; s != nil {
		changes["delete snapshot"] = func() error { return s.DeleteSnapshot(e.ctx, "law-snapshot") }
		changes["snapshot"] = func() error {
			_, err := s.CreateSnapshot(e.ctx, snapshotRequest("law-snapshot", "law-a"))
			return err
		}
	}
	if g := e.caps.GroupSnapshotter; g != nil {
		changes["group"] = func() error { _, err := g.CreateGroup(e.ctx, groupRequests("law-group", "law-a")); return err }
	}
	return changes
}

func unreachableKeeps(e *env) {
	v := e.create("law-a")
	want := []backend.ID{}
	if e.caps.Snapshotter != nil {
		want = append(want, e.snapshot("law-snapshot", "law-a").ID)
	}
	restore := e.unreachable()
	for what, call := range e.changes() {
		if err := call(); err == nil {
			e.Errorf("%s succeeded", what)
		}
	}
	restore()
	e.listed(v.ID)
	e.same(e.get(v.ID), v, "the volume changed while the storage did not answer")
	if e.caps.Snapshotter != nil {
		e.snapshotsListed(want...)
	}
}
