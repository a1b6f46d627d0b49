package record

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
)

// NewSnapshot returns the object that asks a node for a snapshot, with those of its group if it has one.
func NewSnapshot(pool, node string, r backend.SnapshotRequest, group []backend.SnapshotRequest) *v1alpha1.NodeSnapshot {
	s := &v1alpha1.NodeSnapshot{ObjectMeta: objectMeta(pool, r.ID)}
	s.Spec.ItemSpec = v1alpha1.ItemSpec{Node: node, Pool: pool, Name: r.Name}
	s.Spec.Volume = string(r.Source)
	if r.Group != "" {
		s.Spec.Group = &v1alpha1.SnapshotGroup{ID: string(r.Group)}
		for _, m := range group {
			s.Spec.Group.Members = append(s.Spec.Group.Members, v1alpha1.SnapshotMember{ID: string(m.ID), Name: m.Name, Volume: string(m.Source)})
		}
	}
	return s
}

// SnapshotRequest is the way back.
func SnapshotRequest(o *v1alpha1.NodeSnapshot) backend.SnapshotRequest {
	return backend.SnapshotRequest{ID: IDOf(o), Name: o.Spec.Name, Source: backend.ID(o.Spec.Volume), Group: groupOf(o)}
}

func groupOf(o *v1alpha1.NodeSnapshot) backend.ID {
	if o.Spec.Group == nil {
		return ""
	}
	return backend.ID(o.Spec.Group.ID)
}

// GroupRequests are those of all members of its group; none if it is on its own.
func GroupRequests(o *v1alpha1.NodeSnapshot) []backend.SnapshotRequest {
	var all []backend.SnapshotRequest
	if g := o.Spec.Group; g != nil {
		for _, m := range g.Members {
			all = append(all, backend.SnapshotRequest{ID: backend.ID(m.ID), Name: m.Name, Source: backend.ID(m.Volume), Group: backend.ID(g.ID)})
		}
	}
	return all
}

// SetSnapshot writes into the status what the node has.
func SetSnapshot(o *v1alpha1.NodeSnapshot, s backend.Snapshot) {
	size, created := Bytes(s.Size), metav1.NewMicroTime(s.Created.UTC())
	o.Status.ID, o.Status.Size, o.Status.Created = string(s.ID), &size, &created
}

// Snapshot returns what the node has; exists is false if it has not said so yet.
func Snapshot(o *v1alpha1.NodeSnapshot) (s backend.Snapshot, exists bool) {
	s = backend.Snapshot{
		ID: IDOf(o), Name: o.Spec.Name, Source: backend.ID(o.Spec.Volume), Size: bytesOf(o.Status.Size),
		Group: groupOf(o), Nodes: []string{o.Spec.Node},
	}
	if o.Status.Created != nil {
		s.Created = o.Status.Created.UTC()
	}
	return s, o.Status.ID != ""
}
