package record

import (
	"maps"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
)

// NewVolume returns the object that asks a node for a volume.
func NewVolume(pool, node string, r backend.Request) *v1alpha1.NodeVolume {
	v := &v1alpha1.NodeVolume{ObjectMeta: objectMeta(pool, r.ID)}
	v.Spec.ItemSpec = v1alpha1.ItemSpec{Node: node, Pool: pool, Name: r.Name}
	v.Spec.Size = Bytes(r.Size)
	if r.Limit > 0 {
		limit := Bytes(r.Limit)
		v.Spec.Limit = &limit
	}
	v.Spec.Parameters = maps.Clone(r.Parameters)
	SetLimits(v, r.Limits)
	if !r.Source.IsZero() {
		v.Spec.Source = &v1alpha1.VolumeSource{Snapshot: string(r.Source.Snapshot), Volume: string(r.Source.Volume)}
	}
	return v
}

// Request is the way back.
func Request(v *v1alpha1.NodeVolume) backend.Request {
	return backend.Request{
		ID: IDOf(v), Name: v.Spec.Name, Size: v.Spec.Size.Value(), Limit: bytesOf(v.Spec.Limit),
		Source: sourceOf(v), Parameters: maps.Clone(v.Spec.Parameters), Nodes: []string{v.Spec.Node}, Limits: Limits(v),
	}
}

// Limits returns the I/O limits that are asked for.
func Limits(v *v1alpha1.NodeVolume) backend.Limits {
	if v.Spec.IOLimits == nil {
		return backend.Limits{}
	}
	l := *v.Spec.IOLimits
	return backend.Limits{
		ReadBPS: l.ReadBytesPerSecond, WriteBPS: l.WriteBytesPerSecond,
		ReadIOPS: l.ReadOperationsPerSecond, WriteIOPS: l.WriteOperationsPerSecond,
	}
}

// SetLimits is the way back.
func SetLimits(v *v1alpha1.NodeVolume, l backend.Limits) {
	v.Spec.IOLimits = nil
	if !l.IsZero() {
		v.Spec.IOLimits = &v1alpha1.IOLimits{
			ReadBytesPerSecond: l.ReadBPS, WriteBytesPerSecond: l.WriteBPS,
			ReadOperationsPerSecond: l.ReadIOPS, WriteOperationsPerSecond: l.WriteIOPS,
		}
	}
}

func sourceOf(v *v1alpha1.NodeVolume) backend.Source {
	if v.Spec.Source == nil {
		return backend.Source{}
	}
	return backend.Source{Snapshot: backend.ID(v.Spec.Source.Snapshot), Volume: backend.ID(v.Spec.Source.Volume)}
}

// SetVolume writes into the status what the node has.
func SetVolume(o *v1alpha1.NodeVolume, v backend.Volume) {
	size := Bytes(v.Size)
	o.Status.ID, o.Status.Size = string(v.ID), &size
}

// Volume returns what the node has; exists is false if it has not said so yet.
func Volume(o *v1alpha1.NodeVolume) (v backend.Volume, exists bool) {
	id := IDOf(o)
	return backend.Volume{
		ID: id, Name: o.Spec.Name, Size: bytesOf(o.Status.Size), Source: sourceOf(o),
		Nodes: []string{o.Spec.Node}, Access: backend.LocalAccess(o.Spec.Pool, id), Limits: Limits(o),
	}, o.Status.ID != ""
}

// Problems returns what the node says is wrong with a volume.
func Problems(o *v1alpha1.NodeVolume) []backend.Problem {
	var all []backend.Problem
	for _, p := range o.Status.Problems {
		all = append(all, backend.Problem{Severity: severityOf(p.Severity), Reason: p.Reason, Message: p.Message})
	}
	return all
}

// SetProblems is the way back.
func SetProblems(o *v1alpha1.NodeVolume, problems []backend.Problem) {
	o.Status.Problems = nil
	for _, p := range problems {
		o.Status.Problems = append(o.Status.Problems, v1alpha1.VolumeProblem{
			Severity: severities()[p.Severity], Reason: p.Reason, Message: p.Message,
		})
	}
}

func severities() map[backend.Severity]string {
	return map[backend.Severity]string{backend.Degraded: "Degraded", backend.Inaccessible: "Inaccessible", backend.DataLoss: "DataLoss"}
}

// severityOf takes what it does not know for the middle one.
func severityOf(name string) backend.Severity {
	for s, n := range severities() {
		if n == name {
			return s
		}
	}
	return backend.Inaccessible
}
