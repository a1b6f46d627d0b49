// Package release deletes the claims whose volumes are on nodes that were deleted, so that a StatefulSet
// makes new ones elsewhere. It runs only where that was asked for: a node may come back, and its volumes with it.
package release

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/pv"
)

// DefaultGrace is how long a node has to be gone: one whose kubelet registers it anew keeps its claims.
const DefaultGrace = time.Minute

// Reconciler deletes claims of one driver.
type Reconciler struct {
	Driver string
	Grace  time.Duration

	client client.Client
	api    client.Reader
	events events.EventRecorder
}

// Add has the manager run it.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client, r.api, r.events = mgr.GetClient(), mgr.GetAPIReader(), mgr.GetEventRecorder("dozo-controller")
	return builder.ControllerManagedBy(mgr).Named("persistentvolumeclaim-release").For(&v1alpha1.NodeVolume{}).Complete(r)
}

// Reconcile deletes the claim of a volume whose node has been gone for long enough.
func (r *Reconciler) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	o := &v1alpha1.NodeVolume{}
	if err := r.client.Get(ctx, q.NamespacedName, o); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	lost := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionLost)
	if lost == nil || lost.Status != metav1.ConditionTrue {
		return reconcile.Result{}, nil
	}
	if left := r.Grace - time.Since(lost.LastTransitionTime.Time); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	// It is the API server that says so, now: what is deleted is not made again.
	if there, err := r.there(ctx, o.Spec.Node); err != nil || there {
		return reconcile.Result{}, err
	}
	claim, err := r.claim(ctx, o)
	if err != nil || claim == nil {
		return reconcile.Result{}, err
	}
	if err := r.client.Delete(ctx, claim, client.Preconditions{UID: &claim.UID}); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	r.events.Eventf(claim, o, corev1.EventTypeWarning, "NodeDeleted", "Delete",
		"deleted, since its volume was on node %s, which was deleted (--delete-claims-of-deleted-nodes)", o.Spec.Node)
	return reconcile.Result{}, nil
}

func (r *Reconciler) there(ctx context.Context, node string) (bool, error) {
	n := &metav1.PartialObjectMetadata{}
	n.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	err := r.api.Get(ctx, client.ObjectKey{Name: node}, n)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// claim is what a volume's PersistentVolume is bound to, if that is on the volume's node: nil for none.
func (r *Reconciler) claim(ctx context.Context, o *v1alpha1.NodeVolume) (*corev1.PersistentVolumeClaim, error) {
	var all corev1.PersistentVolumeList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	p := pv.Find(all.Items, r.Driver, o.Spec.Pool, record.IDOf(o))
	if p == nil || p.Spec.ClaimRef == nil || p.Spec.ClaimRef.UID == "" || pv.NodeOf(p) != o.Spec.Node {
		return nil, nil
	}
	c := &corev1.PersistentVolumeClaim{}
	err := r.api.Get(ctx, client.ObjectKey{Namespace: p.Spec.ClaimRef.Namespace, Name: p.Spec.ClaimRef.Name}, c)
	if err != nil || c.UID != p.Spec.ClaimRef.UID || c.DeletionTimestamp != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return c, nil
}
