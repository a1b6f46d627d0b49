package pool

import "github.com/dozo-dev/dozo/internal/backend"

// Capabilities are the optional interfaces of a backend: nil where it has none. A proxy, which
// implements them all, is masked by what the real kind can do.
type Capabilities struct {
	Expander         backend.Expander
	Cloner           backend.Cloner
	Snapshotter      backend.Snapshotter
	GroupSnapshotter backend.GroupSnapshotter
	Activator        backend.Activator
	Marker           backend.Marker
	Checker          backend.Checker
}

// Find looks for every optional interface of b. Nobody else asserts types.
func Find(b backend.Backend) Capabilities {
	var c Capabilities
	c.Expander, _ = b.(backend.Expander)
	c.Cloner, _ = b.(backend.Cloner)
	c.Snapshotter, _ = b.(backend.Snapshotter)
	c.GroupSnapshotter, _ = b.(backend.GroupSnapshotter)
	c.Activator, _ = b.(backend.Activator)
	c.Marker, _ = b.(backend.Marker)
	c.Checker, _ = b.(backend.Checker)
	return c
}

// Mask returns those of c that f allows.
func (c Capabilities) Mask(f backend.Features) Capabilities {
	return Capabilities{
		Expander:         only(f.Expander, c.Expander),
		Cloner:           only(f.Cloner, c.Cloner),
		Snapshotter:      only(f.Snapshotter, c.Snapshotter),
		GroupSnapshotter: only(f.GroupSnapshotter, c.GroupSnapshotter),
		Activator:        only(f.Activator, c.Activator),
		Marker:           only(f.Marker, c.Marker),
		Checker:          only(f.Checker, c.Checker),
	}
}

func only[T any](allowed bool, v T) (none T) {
	if allowed {
		return v
	}
	return none
}

// Features are c as facts.
func (c Capabilities) Features() backend.Features {
	return backend.Features{
		Expander: c.Expander != nil, Cloner: c.Cloner != nil, Snapshotter: c.Snapshotter != nil,
		GroupSnapshotter: c.GroupSnapshotter != nil, Activator: c.Activator != nil, Marker: c.Marker != nil, Checker: c.Checker != nil,
	}
}
