package backend

// Features are the optional interfaces that the backend of a pool implements, as facts: what can be said
// of a pool by who cannot open it. There is a field for each interface.
type Features struct {
	Expander, Cloner, Snapshotter, GroupSnapshotter, Activator, Marker, Checker bool
}

// AllFeatures is a backend that implements every optional interface.
func AllFeatures() Features {
	return Features{Expander: true, Cloner: true, Snapshotter: true, GroupSnapshotter: true, Activator: true, Marker: true, Checker: true}
}
