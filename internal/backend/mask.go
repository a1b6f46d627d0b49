package backend

// Mask says which optional interfaces a backend has: a field for each, of its name. It is what can be said
// of a pool by who cannot open it.
type Mask struct {
	Expander, Cloner, Snapshotter, GroupSnapshotter, Attacher, Activator, Marker, Checker, Modifier, Gauger, Importer bool
}

// FullMask is that of a backend with every optional interface.
func FullMask() Mask {
	return Mask{Expander: true, Cloner: true, Snapshotter: true, GroupSnapshotter: true, Attacher: true, Activator: true, Marker: true, Checker: true,
		Modifier: true, Gauger: true, Importer: true}
}

// Proxy is a backend that stands for one in another process. It has the methods of every optional
// interface, so what counts is its mask: it has those that the other one has.
type Proxy interface {
	Backend
	Mask() Mask
}
