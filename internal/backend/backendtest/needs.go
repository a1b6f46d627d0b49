package backendtest

import "github.com/dozo-dev/dozo/internal/backend"

func expander() need {
	return need{"not an Expander", func(e *env) bool { return e.caps.Expander != nil }}
}

func cloner() need {
	return need{"not a Cloner", func(e *env) bool { return e.caps.Cloner != nil }}
}

func snapshotter() need {
	return need{"not a Snapshotter", func(e *env) bool { return e.caps.Snapshotter != nil }}
}

func groupSnapshotter() need {
	return need{"not a GroupSnapshotter", func(e *env) bool { return e.caps.GroupSnapshotter != nil }}
}

func activator() need {
	return need{"not an Activator", func(e *env) bool { return e.caps.Activator != nil }}
}

func attacher() need {
	return need{"not an Attacher", func(e *env) bool { return e.caps.Attacher != nil }}
}

func marker() need {
	return need{"not a Marker", func(e *env) bool { return e.caps.Marker != nil }}
}

func checker() need {
	return need{"not a Checker", func(e *env) bool { return e.caps.Checker != nil }}
}

func modifier() need {
	return need{"not a Modifier", func(e *env) bool { return e.caps.Modifier != nil }}
}

func gauger() need {
	return need{"not a Gauger", func(e *env) bool { return e.caps.Gauger != nil }}
}

func data() need {
	return need{"no way to the data: not an Activator and no Harness.Data", func(e *env) bool {
		return e.h.Data != nil || e.caps.Activator != nil
	}}
}

func unreachable() need {
	return need{"no Harness.Unreachable", func(e *env) bool { return e.h.Unreachable != nil }}
}

func strangers() need {
	return need{"no Harness.Strangers", func(e *env) bool { return e.h.Strangers != nil }}
}

// limited is a pool with less room than a single volume may have.
func limited() need {
	return need{"as much room as a volume can have", func(e *env) bool {
		c, err := e.b.Capacity(e.ctx, "")
		e.must(err, "capacity")
		return e.tooLarge(c)+e.size <= e.h.Kind.MaxSize
	}}
}

// tooLarge is the least size for which there is no room.
func (e *env) tooLarge(c backend.Capacity) int64 {
	return roundUp(c.MaxVolume+e.h.Slack+1, e.h.Kind.Granularity)
}

func thick() need {
	return need{"thin", func(e *env) bool { return !e.h.Thin }}
}

// copier is one of the two ways of making a volume from another, so that laws which hold for both
// are written once.
type copier struct {
	name string // "restore"
	need func() need
	of   func(e *env, id backend.ID) backend.Source // what a volume is made from to be a copy of id as it is now
}

func copiers() []copier {
	return []copier{
		{"restore", snapshotter, func(e *env, id backend.ID) backend.Source {
			return backend.Source{Snapshot: e.snapshot("law-snap", id).ID}
		}},
		{"clone", cloner, func(e *env, id backend.ID) backend.Source { return backend.Source{Volume: id} }},
	}
}

func from(s backend.Source) func(*backend.Request) {
	return func(r *backend.Request) { r.Source = s }
}

func sized(size int64) func(*backend.Request) {
	return func(r *backend.Request) { r.Size = size }
}
