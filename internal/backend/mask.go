package backend

// Mask says which optional interfaces a backend has: a field for each, of its name.
type Mask struct {
	Expander, Cloner, Snapshotter, GroupSnapshotter, Activator, Marker, Checker bool
}

// Proxy is a backend that stands for one in another process. It has the methods of every optional
// interface, so what counts is its mask: it has those that the other one has.
type Proxy interface {
	Backend
	Mask() Mask
}
