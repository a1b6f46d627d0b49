package pool

import "github.com/dozo-dev/dozo/internal/backend"

// Capabilities are the optional interfaces of a backend: nil where it has none.
type Capabilities struct {
	Expander         backend.Expander
	Cloner           backend.Cloner
	Snapshotter      backend.Snapshotter
	GroupSnapshotter backend.GroupSnapshotter
	Attacher         backend.Attacher
	Activator        backend.Activator
	Marker           backend.Marker
	Checker          backend.Checker
	Modifier         backend.Modifier
	Gauger           backend.Gauger
	Importer         backend.Importer
}

// Find looks for every optional interface of b; of a [backend.Proxy] it keeps those that its mask
// has. Nobody else asserts types.
func Find(b backend.Backend) Capabilities {
	var c Capabilities
	c.Expander, _ = b.(backend.Expander)
	c.Cloner, _ = b.(backend.Cloner)
	c.Snapshotter, _ = b.(backend.Snapshotter)
	c.GroupSnapshotter, _ = b.(backend.GroupSnapshotter)
	c.Attacher, _ = b.(backend.Attacher)
	c.Activator, _ = b.(backend.Activator)
	c.Marker, _ = b.(backend.Marker)
	c.Checker, _ = b.(backend.Checker)
	c.Modifier, _ = b.(backend.Modifier)
	c.Gauger, _ = b.(backend.Gauger)
	c.Importer, _ = b.(backend.Importer)
	if p, ok := b.(backend.Proxy); ok {
		return c.Masked(p.Mask())
	}
	return c
}

// Masked returns those of c that m has.
func (c Capabilities) Masked(m backend.Mask) Capabilities {
	return Capabilities{
		Expander:         only(m.Expander, c.Expander),
		Cloner:           only(m.Cloner, c.Cloner),
		Snapshotter:      only(m.Snapshotter, c.Snapshotter),
		GroupSnapshotter: only(m.GroupSnapshotter, c.GroupSnapshotter),
		Attacher:         only(m.Attacher, c.Attacher),
		Activator:        only(m.Activator, c.Activator),
		Marker:           only(m.Marker, c.Marker),
		Checker:          only(m.Checker, c.Checker),
		Modifier:         only(m.Modifier, c.Modifier),
		Gauger:           only(m.Gauger, c.Gauger),
		Importer:         only(m.Importer, c.Importer),
	}
}

func only[T any](shown bool, v T) (none T) {
	if shown {
		return v
	}
	return none
}

// Mask says which of them there are.
func (c Capabilities) Mask() backend.Mask {
	return backend.Mask{
		Expander:         c.Expander != nil,
		Cloner:           c.Cloner != nil,
		Snapshotter:      c.Snapshotter != nil,
		GroupSnapshotter: c.GroupSnapshotter != nil,
		Attacher:         c.Attacher != nil,
		Activator:        c.Activator != nil,
		Marker:           c.Marker != nil,
		Checker:          c.Checker != nil,
		Modifier:         c.Modifier != nil,
		Gauger:           c.Gauger != nil,
		Importer:         c.Importer != nil,
	}
}
