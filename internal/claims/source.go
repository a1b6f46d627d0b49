package claims

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/errs"
)

// topologyKey is the node label by which a PersistentVolume of ours is bound to its node.
const topologyKey = "topology.dozo.dev/node"

const snapshotGroup = "snapshot.storage.k8s.io"

// sourceNode returns the node that has what a claim is to be a copy of: copies are made there and nowhere
// else. It is empty for a claim that is no copy, or a copy of something that is not on one node.
func (r Reader) sourceNode(ctx context.Context, claim *corev1.PersistentVolumeClaim) (string, error) {
	kind, name := "", ""
	if s := claim.Spec.DataSource; s != nil {
		kind, name = s.Kind, s.Name
	} else if s := claim.Spec.DataSourceRef; s != nil && (s.Namespace == nil || *s.Namespace == claim.Namespace) {
		kind, name = s.Kind, s.Name
	}
	key := client.ObjectKey{Namespace: claim.Namespace, Name: name}
	switch kind {
	case claimKind:
		return r.nodeOfClaim(ctx, key)
	case snapshotKind:
		return r.nodeOfSnapshot(ctx, key)
	}
	return "", nil // nothing, or a populator's, which makes an ordinary volume
}

func (r Reader) nodeOfClaim(ctx context.Context, key client.ObjectKey) (string, error) {
	var source corev1.PersistentVolumeClaim
	if err := r.get(ctx, key, &source); err != nil {
		return "", wrap(err, "claim %s, to be copied", key)
	}
	if source.Spec.VolumeName == "" {
		if node := source.Annotations[selectedNode]; node != "" {
			return node, nil
		}
		return "", errs.E(errs.Unavailable, "claim %s, to be copied, has no volume yet", key)
	}
	// Not from the cache: that would keep every volume of the cluster in memory for a few copies.
	var pv corev1.PersistentVolume
	if err := r.Live.Get(ctx, client.ObjectKey{Name: source.Spec.VolumeName}, &pv); err != nil {
		return "", wrap(err, "volume %s, to be copied", source.Spec.VolumeName)
	}
	return nodeOfVolume(&pv), nil
}

// nodeOfVolume returns the one node that a volume can be used on, empty if there are others.
func nodeOfVolume(pv *corev1.PersistentVolume) string {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return ""
	}
	terms := pv.Spec.NodeAffinity.Required.NodeSelectorTerms
	if len(terms) != 1 {
		return ""
	}
	for _, e := range terms[0].MatchExpressions {
		if e.Key == topologyKey && e.Operator == corev1.NodeSelectorOpIn && len(e.Values) == 1 {
			return e.Values[0]
		}
	}
	return ""
}

func (r Reader) nodeOfSnapshot(ctx context.Context, key client.ObjectKey) (string, error) {
	content, err := r.field(ctx, "VolumeSnapshot", key, "status", "boundVolumeSnapshotContentName")
	if err != nil {
		return "", err
	}
	contentKey := client.ObjectKey{Name: content}
	driver, err := r.field(ctx, "VolumeSnapshotContent", contentKey, "spec", "driver")
	if err != nil {
		return "", err
	}
	if _, ours := r.kind(driver); !ours {
		return "", nil // the driver will say that it cannot copy that
	}
	handle, err := r.field(ctx, "VolumeSnapshotContent", contentKey, "status", "snapshotHandle")
	if err != nil {
		return "", err
	}
	pool, id, _ := strings.Cut(handle, ":")
	var snapshot v1alpha1.NodeSnapshot
	err = r.Live.Get(ctx, client.ObjectKey{Name: v1alpha1.ObjectName(pool, id)}, &snapshot)
	switch {
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
		return "", errs.E(errs.NotFound, "snapshot %s: no node is known to have %s", key, handle)
	case err != nil:
		return "", wrap(err, "snapshot %s", key)
	}
	return snapshot.Spec.Node, nil
}

// field reads one field of an object of the snapshot controller, whose types we need not know for that.
// errs.Unavailable if it is not set yet.
func (r Reader) field(ctx context.Context, kind string, key client.ObjectKey, path ...string) (string, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: snapshotGroup, Version: "v1", Kind: kind})
	if err := r.Live.Get(ctx, key, object); err != nil {
		return "", wrap(err, "%s %s", kind, key.Name)
	}
	value, _, err := unstructured.NestedString(object.Object, path...)
	if err != nil || value == "" {
		return "", errs.E(errs.Unavailable, "%s %s: %s is not set yet", kind, key.Name, strings.Join(path, "."))
	}
	return value, nil
}
