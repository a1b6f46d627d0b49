package fake

import "github.com/dozo-dev/dozo/internal/backend"

// A capability is a type that has the method, so hiding one takes a type without it: these are the
// sorts of backends that tests of capabilities need. All act on the same state as b.

// Basic returns b with no optional interface at all.
func Basic(b *Backend) backend.Backend { return struct{ backend.Backend }{b} }

// Shared returns b as an array on the network would be: it expands, clones and takes snapshots, and
// is not activated on a node, keeps no marks and cannot be checked.
func Shared(b *Backend) backend.Backend {
	return struct {
		backend.Backend
		backend.Expander
		backend.Cloner
		backend.Snapshotter
	}{b, b, b, b}
}

// Outside returns b as an array would be whose volumes are attached before a node can reach them.
func Outside(b *Backend) backend.Backend {
	return struct {
		backend.Backend
		backend.Expander
		backend.Cloner
		backend.Snapshotter
		backend.Attacher
		backend.Checker
	}{b, b, b, b, b, b}
}

// Plain returns b as a thick local pool would be: it expands, is activated and keeps marks, and
// copies nothing.
func Plain(b *Backend) backend.Backend {
	return struct {
		backend.Backend
		backend.Expander
		backend.Activator
		backend.Marker
	}{b, b, b, b}
}
