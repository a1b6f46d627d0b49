// Package place sends a claim that is a copy of something to the node where that is. The scheduler cannot
// know which node that is: without it a pod whose claim is restored or cloned waits until it is sent there
// by chance.
package place

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
)

const (
	// selectedNode is what the scheduler writes when it has chosen, and what it heeds when it is there.
	selectedNode = "volume.kubernetes.io/selected-node"
	// again is how soon a claim is looked at again whose source is not there yet. Snapshots are other
	// people's types, which a cluster may lack, so they are not watched.
	again = 2 * time.Second
)

// Reconciler places the claims of one driver.
type Reconciler struct {
	Driver string

	client client.Client
	api    client.Reader // what is needed once per claim is not worth a cache of all
}

// Add has the manager run it.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client, r.api = mgr.GetClient(), mgr.GetAPIReader()
	copies := predicate.NewPredicateFuncs(func(o client.Object) bool {
		c, ok := o.(*corev1.PersistentVolumeClaim)
		return ok && waits(c)
	})
	return builder.ControllerManagedBy(mgr).Named("persistentvolumeclaim-place").
		For(&corev1.PersistentVolumeClaim{}, builder.WithPredicates(copies)).
		Complete(r)
}

// waits reports whether a claim is a copy that no node was chosen for.
func waits(c *corev1.PersistentVolumeClaim) bool {
	return c.Spec.DataSource != nil && c.Spec.VolumeName == "" && c.Annotations[selectedNode] == "" &&
		c.DeletionTimestamp == nil && c.Spec.StorageClassName != nil
}

// Reconcile is [reconcile.Reconciler].
func (r *Reconciler) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	c := &corev1.PersistentVolumeClaim{}
	if err := r.client.Get(ctx, q.NamespacedName, c); err != nil || !waits(c) {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	class := &storagev1.StorageClass{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: *c.Spec.StorageClassName}, class); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if class.Provisioner != r.Driver || class.VolumeBindingMode == nil || *class.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer {
		return reconcile.Result{}, nil
	}
	node, err := r.nodeOf(ctx, c)
	if err != nil {
		return reconcile.Result{}, err
	}
	if node == "" {
		return reconcile.Result{RequeueAfter: again}, nil
	}
	placed := c.DeepCopy()
	metav1.SetMetaDataAnnotation(&placed.ObjectMeta, selectedNode, node)
	// The scheduler may have chosen meanwhile.
	patch := client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{})
	return reconcile.Result{}, client.IgnoreNotFound(r.client.Patch(ctx, placed, patch))
}

// nodeOf is the node of a claim's source; "" if that cannot be told yet, or if it is not ours.
func (r *Reconciler) nodeOf(ctx context.Context, c *corev1.PersistentVolumeClaim) (string, error) {
	key := client.ObjectKey{Namespace: c.Namespace, Name: c.Spec.DataSource.Name}
	switch c.Spec.DataSource.Kind {
	case "PersistentVolumeClaim":
		handle, err := r.volumeHandle(ctx, key)
		if handle == "" || err != nil {
			return "", err
		}
		v := &v1alpha1.NodeVolume{}
		err = r.client.Get(ctx, client.ObjectKey{Name: objectName(handle)}, v)
		return v.Spec.Node, client.IgnoreNotFound(err)
	case "VolumeSnapshot":
		handle, err := r.snapshotHandle(ctx, key)
		if handle == "" || err != nil {
			return "", err
		}
		s := &v1alpha1.NodeSnapshot{}
		err = r.client.Get(ctx, client.ObjectKey{Name: objectName(handle)}, s)
		return s.Spec.Node, client.IgnoreNotFound(err)
	}
	return "", nil
}

// objectName is the name of the object for a CSI handle, "<pool>:<id>".
func objectName(handle string) string {
	pool, id, _ := strings.Cut(handle, ":")
	return v1alpha1.ObjectName(pool, id)
}

func (r *Reconciler) volumeHandle(ctx context.Context, claim client.ObjectKey) (string, error) {
	c := &corev1.PersistentVolumeClaim{}
	if err := r.client.Get(ctx, claim, c); err != nil || c.Spec.VolumeName == "" {
		return "", client.IgnoreNotFound(err)
	}
	v := &corev1.PersistentVolume{}
	if err := r.api.Get(ctx, client.ObjectKey{Name: c.Spec.VolumeName}, v); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	if v.Spec.CSI == nil || v.Spec.CSI.Driver != r.Driver {
		return "", nil
	}
	return v.Spec.CSI.VolumeHandle, nil
}

func (r *Reconciler) snapshotHandle(ctx context.Context, snapshot client.ObjectKey) (string, error) {
	content, err := r.field(ctx, "VolumeSnapshot", snapshot, "status", "boundVolumeSnapshotContentName")
	if content == "" || err != nil {
		return "", err
	}
	key := client.ObjectKey{Name: content}
	driver, err := r.field(ctx, "VolumeSnapshotContent", key, "spec", "driver")
	if driver != r.Driver || err != nil {
		return "", err
	}
	return r.field(ctx, "VolumeSnapshotContent", key, "status", "snapshotHandle")
}

// field reads one field of an object of the snapshot API; "" if either is missing.
func (r *Reconciler) field(ctx context.Context, kind string, key client.ObjectKey, path ...string) (string, error) {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: kind})
	if err := r.api.Get(ctx, key, o); err != nil {
		return "", client.IgnoreNotFound(err)
	}
	s, _, err := unstructured.NestedString(o.Object, path...)
	return s, err
}
