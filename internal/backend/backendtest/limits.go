package backendtest

import (
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func limitLaws() []law {
	l := []law{
		{"limits are kept", []need{modifier()}, limitsKept},
		{"limits come with the volume", []need{modifier()}, limitsOfRequest},
		{"only a volume has limits", []need{modifier()}, limitsOfNothing},
	}
	for _, c := range copiers() {
		l = append(l, law{"a " + c.name + " has limits of its own", []need{modifier(), c.need()}, func(e *env) { limitsNotCopied(e, c) }})
	}
	return l
}

func withLimits(l backend.Limits) func(*backend.Request) {
	return func(r *backend.Request) { r.Limits = l }
}

func (e *env) limit(id backend.ID, l backend.Limits) {
	e.Helper()
	v, err := e.caps.Modifier.Modify(e.ctx, id, l)
	e.must(err, "set the limits of "+string(id))
	if v.ID != id || v.Limits != l {
		e.Fatalf("Modify returned %+v, not %s with the limits %+v", v, id, l)
	}
}

func (e *env) limited(id backend.ID, want backend.Limits) {
	e.Helper()
	if got := e.get(id).Limits; got != want {
		e.Fatalf("%s has the limits %+v, want %+v", id, got, want)
	}
	for v, err := range e.b.List(e.ctx) {
		e.must(err, "list")
		if v.ID == id && v.Limits != want {
			e.Fatalf("%s is listed with the limits %+v, want %+v", id, v.Limits, want)
		}
	}
}

// limitsKept: each call says all of them.
func limitsKept(e *env) {
	e.create("law-a")
	e.create("law-b")
	for _, l := range []backend.Limits{{ReadBPS: 1 << 40, WriteBPS: 1 << 20, ReadIOPS: 1000, WriteIOPS: 10}, {WriteIOPS: 20}, {}, {ReadBPS: 1 << 20}} {
		e.limit("law-a", l)
		e.limit("law-a", l)
		e.limited("law-a", l)
		e.reopen()
		e.limited("law-a", l)
		e.limited("law-b", backend.Limits{})
	}
	if e.caps.Expander != nil {
		e.expand("law-a", 2*e.size)
	}
	if e.caps.Marker != nil {
		e.mark("law-a", backend.Mark{FS: "ext4", Done: true})
	}
	e.limited("law-a", backend.Limits{ReadBPS: 1 << 20})
}

// limitsOfRequest: a Create that is repeated does not undo what was changed since.
func limitsOfRequest(e *env) {
	first, second := backend.Limits{ReadIOPS: 100, WriteBPS: 1 << 20}, backend.Limits{ReadIOPS: 200}
	if v := e.create("law-a", withLimits(first)); v.Limits != first {
		e.Fatalf("created with the limits %+v, want %+v", v.Limits, first)
	}
	e.reopen()
	e.limited("law-a", first)
	e.limit("law-a", second)
	e.create("law-a", withLimits(first))
	e.limited("law-a", second)
	e.delete("law-a")
	e.create("law-a")
	e.limited("law-a", backend.Limits{})
}

func limitsOfNothing(e *env) {
	_, err := e.caps.Modifier.Modify(e.ctx, "law-a", backend.Limits{ReadIOPS: 100})
	e.want(err, "limits of a volume that is not there", errs.NotFound)
	e.absent("law-a")
}

func limitsNotCopied(e *env, c copier) {
	v := e.create("law-a", withLimits(backend.Limits{ReadIOPS: 100}))
	e.create("law-copy", from(c.of(e, v.ID)))
	e.limited("law-copy", backend.Limits{})
	if s := e.caps.Snapshotter; s != nil {
		e.must(s.DeleteSnapshot(e.ctx, "law-snap"), "delete snapshot")
	}
	e.create("law-other", from(c.of(e, v.ID)), withLimits(backend.Limits{WriteIOPS: 50}))
	e.limited("law-other", backend.Limits{WriteIOPS: 50})
	e.limited(v.ID, backend.Limits{ReadIOPS: 100})
}
