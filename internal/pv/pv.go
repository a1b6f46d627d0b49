// Package pv is what PersistentVolumes of Dozo's drivers mean: which volume one is, on which node, and what
// one looks like that is made by hand.
package pv

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dozo-dev/dozo/internal/backend"
)

// TopologyKey is the label of nodes that Dozo's drivers give them, by which PersistentVolumes are bound to one.
const TopologyKey = "topology.dozo.dev/node"

// Driver is the name of the CSI driver of a kind of pool.
func Driver(kind string) string { return kind + ".dozo.dev" }

// Handle is how a PersistentVolume names a volume.
func Handle(pool string, id backend.ID) string { return pool + ":" + string(id) }

// VolumeOf returns the volume that a PersistentVolume of the driver is. ok is false for any other.
func VolumeOf(v *corev1.PersistentVolume, driver string) (pool string, id backend.ID, ok bool) {
	if v.Spec.CSI == nil || v.Spec.CSI.Driver != driver {
		return "", "", false
	}
	pool, rest, ok := strings.Cut(v.Spec.CSI.VolumeHandle, ":")
	return pool, backend.ID(rest), ok
}

// NodeOf is the node that a PersistentVolume is bound to; "" for none.
func NodeOf(v *corev1.PersistentVolume) string {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, t := range v.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range t.MatchExpressions {
			if e.Key == TopologyKey && e.Operator == corev1.NodeSelectorOpIn && len(e.Values) == 1 {
				return e.Values[0]
			}
		}
	}
	return ""
}

// OnlyOf makes a cache of PersistentVolumes keep nothing but the names of those of other drivers.
func OnlyOf(driver string) func(any) (any, error) {
	return func(o any) (any, error) {
		v, ok := o.(*corev1.PersistentVolume)
		if !ok {
			return o, nil
		}
		v.ManagedFields = nil
		if v.Spec.CSI != nil && v.Spec.CSI.Driver == driver {
			return v, nil
		}
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: v.Name, UID: v.UID, ResourceVersion: v.ResourceVersion}}, nil
	}
}

// OnNode binds a PersistentVolume to a node.
func OnNode(node string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: TopologyKey, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
	}}}}
}

// Find returns the PersistentVolume of a volume; nil if there is none.
func Find(all []corev1.PersistentVolume, driver, pool string, id backend.ID) *corev1.PersistentVolume {
	for i := range all {
		if p, v, ok := VolumeOf(&all[i], driver); ok && p == pool && v == id {
			return &all[i]
		}
	}
	return nil
}
