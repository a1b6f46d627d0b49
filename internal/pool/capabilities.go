package pool

import "github.com/dozo-dev/dozo/internal/backend"

// Capabilities are the optional interfaces of a backend: nil where it has none.
type Capabilities struct {
	Expander         backend.Expander
	Cloner           backend.Cloner
	Snapshotter      backend.Snapshotter
	GroupSnapshotter backend.GroupSnapshotter
	Activator        backend.Activator
	Marker           backend.Marker
	Checker          backend.Checker
}

// Find looks for every optional interface of b; of a [backend.Proxy] it keeps those that its mask
// has. Nobody else asserts types.
func Find(b backend.Backend) Capabilities {
	m := backend.Mask{
		Expander: true, Cloner: true, Snapshotter: true, GroupSnapshotter: true, Activator: true, Marker: true, Checker: true,
	}
	if p, ok := b.(backend.Proxy); ok {
		m = p.Mask()
	}
	return Capabilities{
		Expander:         find[backend.Expander](b, m.Expander),
		Cloner:           find[backend.Cloner](b, m.Cloner),
		Snapshotter:      find[backend.Snapshotter](b, m.Snapshotter),
		GroupSnapshotter: find[backend.GroupSnapshotter](b, m.GroupSnapshotter),
		Activator:        find[backend.Activator](b, m.Activator),
		Marker:           find[backend.Marker](b, m.Marker),
		Checker:          find[backend.Checker](b, m.Checker),
	}
}

// find returns b as the interface I, nil if it is not or the mask hides it.
func find[I any](b backend.Backend, shown bool) (none I) {
	if i, ok := b.(I); ok && shown {
		return i
	}
	return none
}

// Mask says which of them there are, for a proxy of this backend.
func (c Capabilities) Mask() backend.Mask {
	return backend.Mask{
		Expander:         c.Expander != nil,
		Cloner:           c.Cloner != nil,
		Snapshotter:      c.Snapshotter != nil,
		GroupSnapshotter: c.GroupSnapshotter != nil,
		Activator:        c.Activator != nil,
		Marker:           c.Marker != nil,
		Checker:          c.Checker != nil,
	}
}
