package backendtest

import (
	"github.com/dozo-dev/dozo/internal/backend"
)

func markLaws() []law {
	l := []law{
		{"marks are kept", []need{marker()}, marksKept},
		{"a new volume has no mark", []need{marker()}, marksFresh},
	}
	for _, c := range copiers() {
		l = append(l, law{"a " + c.name + " has its source's mark", []need{marker(), c.need()}, func(e *env) { markCopied(e, c) }})
	}
	return l
}

func (e *env) marked(id backend.ID, want backend.Mark) {
	e.Helper()
	got, err := e.caps.Marker.Mark(e.ctx, id)
	e.must(err, "mark of "+string(id))
	if got != want {
		e.Fatalf("%s has the mark %+v, want %+v", id, got, want)
	}
}

func (e *env) mark(id backend.ID, m backend.Mark) {
	e.Helper()
	e.must(e.caps.Marker.SetMark(e.ctx, id, m), "set the mark of "+string(id))
}

func marksKept(e *env) {
	e.create("law-a")
	e.create("law-b")
	for _, m := range []backend.Mark{{FS: "ext4"}, {FS: "ext4", Done: true}, {FS: "xfs", Done: true, Copied: true}, {}} {
		e.mark("law-a", m)
		e.marked("law-a", m)
		e.reopen()
		e.marked("law-a", m)
		e.marked("law-b", backend.Mark{})
	}
	e.mark("law-a", backend.Mark{FS: "ext4", Done: true})
	if e.caps.Expander != nil {
		e.expand("law-a", 2*e.size)
	}
	e.create("law-a")
	e.marked("law-a", backend.Mark{FS: "ext4", Done: true})
}

// marksFresh: a mark that outlives its volume would keep the next one from ever being formatted.
func marksFresh(e *env) {
	e.create("law-a")
	e.marked("law-a", backend.Mark{})
	e.mark("law-a", backend.Mark{FS: "ext4", Done: true})
	e.delete("law-a")
	e.create("law-a")
	e.marked("law-a", backend.Mark{})
}

func markCopied(e *env, c copier) {
	v := e.create("law-a")
	e.create("law-blank", from(c.of(e, v.ID)))
	e.marked("law-blank", backend.Mark{Copied: true})
	if s := e.caps.Snapshotter; s != nil {
		e.must(s.DeleteSnapshot(e.ctx, "law-snap"), "delete snapshot")
	}
	e.mark(v.ID, backend.Mark{FS: "xfs", Done: true})
	source := c.of(e, v.ID)
	if source.Snapshot != "" {
		e.mark(v.ID, backend.Mark{FS: "ext4"}) // after the instant of the snapshot
	}
	e.create("law-copy", from(source))
	e.reopen()
	e.marked("law-copy", backend.Mark{FS: "xfs", Done: true, Copied: true})
	e.mark("law-copy", backend.Mark{FS: "xfs", Done: true})
	e.marked("law-copy", backend.Mark{FS: "xfs", Done: true})
	want := backend.Mark{FS: "xfs", Done: true}
	if source.Snapshot != "" {
		want = backend.Mark{FS: "ext4"}
	}
	e.marked(v.ID, want)
}
