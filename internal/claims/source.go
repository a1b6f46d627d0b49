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

// Sources finds where the things are that claims are copies of. What is not found in the cache is asked for
// again, live; what is needed once per copy is not worth a cache of all, and is only asked for live.
type Sources struct {
	Cache client.Reader // has claims
	Live  client.Reader
}

// Node returns the node that has what a claim is to be a copy of: copies are made there and nowhere else. It
// is empty for a claim that is no copy, or a copy of something that is not on one node or not of the claim's
// own driver. errs.NotFound if there is no such source, errs.Unavailable if it cannot be told yet.
func (s Sources) Node(ctx context.Context, claim *corev1.PersistentVolumeClaim, driver string) (string, error) {
	kind, name := "", ""
	if d := claim.Spec.DataSource; d != nil {
		kind, name = d.Kind, d.Name
	} else if d := claim.Spec.DataSourceRef; d != nil && (d.Namespace == nil || *d.Namespace == claim.Namespace) {
		kind, name = d.Kind, d.Name
	}
	key := client.ObjectKey{Namespace: claim.Namespace, Name: name}
	switch kind {
	case claimKind:
		return s.nodeOfClaim(ctx, key, driver)
	case snapshotKind:
		return s.nodeOfSnapshot(ctx, key, driver)
	}
	return "", nil // nothing, or a populator's, which makes an ordinary volume
}

func (s Sources) nodeOfClaim(ctx context.Context, key client.ObjectKey, driver string) (string, error) {
	var source corev1.PersistentVolumeClaim
	if err := s.get(ctx, key, &source); err != nil {
		return "", wrap(err, "claim %s, to be copied", key)
	}
	if source.Spec.VolumeName == "" {
		// If the source is made elsewhere after all, the copy's provisioner takes its choice back too.
		if node := SelectedNode(&source); node != "" {
			return node, nil
		}
		return "", errs.E(errs.Unavailable, "claim %s, to be copied, has no volume yet", key)
	}
	var pv corev1.PersistentVolume
	if err := s.Live.Get(ctx, client.ObjectKey{Name: source.Spec.VolumeName}, &pv); err != nil {
		return "", wrap(err, "volume %s, to be copied", source.Spec.VolumeName)
	}
	if pv.Spec.CSI == nil || pv.Spec.CSI.Driver != driver {
		return "", nil // the driver will say that it cannot copy that
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

func (s Sources) nodeOfSnapshot(ctx context.Context, key client.ObjectKey, driver string) (string, error) {
	content, err := s.field(ctx, "VolumeSnapshot", key, "status", "boundVolumeSnapshotContentName")
	if err != nil {
		return "", err
	}
	contentKey := client.ObjectKey{Name: content}
	taken, err := s.field(ctx, "VolumeSnapshotContent", contentKey, "spec", "driver")
	if taken != driver || err != nil {
		return "", err // that of another driver is not copied by ours, which will say so
	}
	handle, err := s.field(ctx, "VolumeSnapshotContent", contentKey, "status", "snapshotHandle")
	if err != nil {
		return "", err
	}
	pool, id, _ := strings.Cut(handle, ":")
	var snapshot v1alpha1.NodeSnapshot
	err = s.Live.Get(ctx, client.ObjectKey{Name: v1alpha1.ObjectName(pool, id)}, &snapshot)
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
func (s Sources) field(ctx context.Context, kind string, key client.ObjectKey, path ...string) (string, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: snapshotGroup, Version: "v1", Kind: kind})
	if err := s.Live.Get(ctx, key, object); err != nil {
		return "", wrap(err, "%s %s", kind, key.Name)
	}
	value, _, err := unstructured.NestedString(object.Object, path...)
	if err != nil || value == "" {
		return "", errs.E(errs.Unavailable, "%s %s: %s is not set yet", kind, key.Name, strings.Join(path, "."))
	}
	return value, nil
}

// get reads from the cache, and what is not there from the API server.
func (s Sources) get(ctx context.Context, key client.ObjectKey, into client.Object) error {
	err := s.Cache.Get(ctx, key, into)
	if apierrors.IsNotFound(err) {
		return s.Live.Get(ctx, key, into)
	}
	return err
}
