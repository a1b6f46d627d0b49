// Package place sends a claim that is a copy of something to the node where that is. The scheduler cannot
// know which node that is: without it a pod whose claim is restored or cloned waits until it is sent there
// by chance.
package place

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/errs"
)

// again is how soon a claim is looked at again whose source is not there yet, or that no volume could be made for.
// Snapshots are other people's types, which a cluster may lack, so they are not watched.
const again = 2 * time.Second

// Reconciler places the claims of one driver.
type Reconciler struct {
	Driver string

	client  client.Client
	sources claims.Sources
}

// Add has the manager run it.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client = mgr.GetClient()
	r.sources = claims.Sources{Cache: mgr.GetClient(), Live: mgr.GetAPIReader()}
	return builder.ControllerManagedBy(mgr).Named("persistentvolumeclaim-place").
		Watches(&corev1.PersistentVolumeClaim{}, handler.TypedFuncs[client.Object, reconcile.Request]{CreateFunc: created, UpdateFunc: updated}).
		Complete(r)
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func created(_ context.Context, e event.CreateEvent, q queue) {
	if c, ok := e.Object.(*corev1.PersistentVolumeClaim); ok && waits(c) {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(c)})
	}
}

// updated leaves a claim alone for a while that external-provisioner has just taken a node from, because its
// volume could not be made there. That writes the claim into its own cache once the API server has answered
// (rescheduleProvisioning in sig-storage-lib-external-provisioner, v13.0.0 and before): a node that was set
// meanwhile is overwritten there, and the claim never looked at again.
func updated(_ context.Context, e event.UpdateEvent, q queue) {
	before, _ := e.ObjectOld.(*corev1.PersistentVolumeClaim)
	c, ok := e.ObjectNew.(*corev1.PersistentVolumeClaim)
	if !ok || !waits(c) {
		return
	}
	request := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(c)}
	if before != nil && claims.SelectedNode(before) != "" {
		q.AddAfter(request, again)
		return
	}
	q.Add(request)
}

// waits reports whether a claim is a copy that no node was chosen for.
func waits(c *corev1.PersistentVolumeClaim) bool {
	return c.Spec.DataSource != nil && c.Spec.VolumeName == "" && claims.SelectedNode(c) == "" &&
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
	node, err := r.sources.Node(ctx, c, r.Driver)
	switch {
	case errs.Is(err, errs.NotFound), errs.Is(err, errs.Unavailable):
		return reconcile.Result{RequeueAfter: again}, nil
	case node == "" || err != nil:
		return reconcile.Result{}, err
	}
	placed := c.DeepCopy()
	metav1.SetMetaDataAnnotation(&placed.ObjectMeta, claims.SelectedNodeAnnotation, node)
	// The scheduler may have chosen meanwhile.
	patch := client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{})
	return reconcile.Result{}, client.IgnoreNotFound(r.client.Patch(ctx, placed, patch))
}
