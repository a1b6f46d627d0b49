package pool

import "github.com/dozo-dev/dozo/internal/backend"

// Capabilities are the optional interfaces of a backend: nil where it has none. A proxy, which
// implements them all, is masked by setting fields to nil.
type Capabilities struct {
	Expander         backend.Expander
	Cloner           backend.Cloner
	Snapshotter      backend.Snapshotter
	GroupSnapshotter backend.GroupSnapshotter
	Activator        backend.Activator
	Marker           backend.Marker
	Checker          backend.Checker
	Modifier         backend.Modifier
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
	c.Modifier, _ = b.(backend.Modifier)
	return c
}
