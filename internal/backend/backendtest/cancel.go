package backendtest

import (
	"context"
	"fmt"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func cancelLaws() []law {
	l := []law{
		{"a cancelled create leaves nothing in the way", nil, func(e *env) { cancelled(e, backend.Source{}) }},
		{"a cancelled delete can be finished", nil, cancelledDelete},
		{"a cancelled expand can be finished", []need{expander()}, cancelledExpand},
		{"a cancelled snapshot leaves nothing in the way", []need{snapshotter()}, cancelledSnapshot},
	}
	for _, c := range copiers() {
		l = append(l, law{"a cancelled " + c.name + " leaves nothing in the way", []need{c.need()}, func(e *env) {
			e.create("law-source")
			cancelled(e, c.of(e, "law-source"))
		}})
	}
	return l
}

// moments are when calls are cancelled, counted from their begin.
func moments() []time.Duration {
	return []time.Duration{0, 20 * time.Microsecond, 200 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond}
}

// at calls with a context that is cancelled after d, and checks what the call says of that.
func (e *env) at(d time.Duration, what string, call func(context.Context) error) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	if d == 0 {
		cancel()
	} else {
		time.AfterFunc(d, cancel)
	}
	if err := call(ctx); err != nil {
		e.want(err, fmt.Sprintf("%s, cancelled after %v", what, d), errs.Aborted, errs.Unavailable, errs.Busy)
	}
}

// cancelled: whatever is there after a cancelled Create, the next one has all it wants, and Delete
// all it takes.
func cancelled(e *env, s backend.Source) {
	before := e.list()
	room := e.capacity()
	for _, d := range moments() {
		r := e.request("law-a")
		r.Source = s
		call := func(ctx context.Context) error { _, err := e.b.Create(ctx, r); return err }
		e.at(d, "create", call)
		v := e.create("law-a", from(s))
		e.same(e.get(v.ID), v, "Get returns not what Create did")
		e.listed(append([]backend.ID{v.ID}, before...)...)
		e.delete(v.ID)
		e.at(d, "create", call)
		e.delete(v.ID)
		e.listed(before...)
		e.roomAsBefore(room)
	}
}

func cancelledDelete(e *env) {
	room := e.capacity()
	for _, d := range moments() {
		e.create("law-a")
		del := func(ctx context.Context) error { return e.b.Delete(ctx, "law-a") }
		e.at(d, "delete", del)
		e.delete("law-a")
		e.listed()
		e.create("law-a")
		e.at(d, "delete", del)
		e.create("law-a") // whole, be it the old one or a new one
		e.delete("law-a")
		e.roomAsBefore(room)
	}
}

func cancelledExpand(e *env) {
	v := e.create("law-a")
	for i, d := range moments() {
		size := e.size + int64(i+1)*e.h.Kind.Granularity
		e.at(d, "expand", func(ctx context.Context) error {
			_, err := e.caps.Expander.Expand(ctx, v.ID, size)
			return err
		})
		if got := e.expand(v.ID, size); got.Size != size {
			e.Fatalf("expanded to %d, asked for %d", got.Size, size)
		}
	}
}

func cancelledSnapshot(e *env) {
	v := e.create("law-a")
	room := e.capacity()
	for _, d := range moments() {
		call := func(ctx context.Context) error {
			_, err := e.caps.Snapshotter.CreateSnapshot(ctx, snapshotRequest("law-snap", v.ID))
			return err
		}
		e.at(d, "snapshot", call)
		s := e.snapshot("law-snap", v.ID)
		e.snapshotsListed(s.ID)
		e.at(d, "delete snapshot", func(ctx context.Context) error { return e.caps.Snapshotter.DeleteSnapshot(ctx, s.ID) })
		e.deleteSnapshot(s.ID)
		e.at(d, "snapshot", call)
		e.deleteSnapshot(s.ID)
		e.snapshotsListed()
		e.roomAsBefore(room)
	}
}
