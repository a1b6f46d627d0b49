package record

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
)

// OrphanVolume is a volume that no object stands for.
func OrphanVolume(v backend.Volume, since metav1.Time) v1alpha1.Orphan {
	return v1alpha1.Orphan{
		ID: string(v.ID), Name: v.Name, Size: Bytes(v.Size), Since: since,
		SourceSnapshot: string(v.Source.Snapshot), SourceVolume: string(v.Source.Volume),
	}
}

// OrphanSnapshot is a snapshot that no object stands for.
func OrphanSnapshot(s backend.Snapshot, since metav1.Time) v1alpha1.Orphan {
	return v1alpha1.Orphan{ID: string(s.ID), Name: s.Name, Size: Bytes(s.Size), Since: since, SnapshotOf: string(s.Source), Group: string(s.Group)}
}

// OrphanKey names an orphan within its pool: a volume by its ID, a snapshot by "snapshot/" and its ID.
func OrphanKey(o v1alpha1.Orphan) string {
	if o.SnapshotOf != "" {
		return "snapshot/" + o.ID
	}
	return o.ID
}

// Adopted returns the object that stands for an orphan from now on, which asks for it just as it is.
func Adopted(pool, node string, o v1alpha1.Orphan) Object {
	if o.SnapshotOf == "" {
		return NewVolume(pool, node, backend.Request{
			ID: backend.ID(o.ID), Name: o.Name, Size: o.Size.Value(),
			Source: backend.Source{Snapshot: backend.ID(o.SourceSnapshot), Volume: backend.ID(o.SourceVolume)},
		})
	}
	r := backend.SnapshotRequest{ID: backend.ID(o.ID), Name: o.Name, Source: backend.ID(o.SnapshotOf), Group: backend.ID(o.Group)}
	var group []backend.SnapshotRequest
	if r.Group != "" {
		group = append(group, r) // the others have orphans of their own
	}
	return NewSnapshot(pool, node, r, group)
}
