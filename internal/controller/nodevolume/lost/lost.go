// Package lost reports the volumes and snapshots of nodes that have left the cluster. Their storage may come
// back with the node, so nothing is deleted; an object that somebody deletes meanwhile is let go, and what it
// stood for is an orphan if the node comes back.
package lost

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
)

// Reconciler reports what is lost of the pools of one kind.
type Reconciler struct {
	Kind string

	client client.Client
	api    client.Reader
	events events.EventRecorder
}

// Add has the manager run it, for both sorts of objects.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client, r.api, r.events = mgr.GetClient(), mgr.GetAPIReader(), mgr.GetEventRecorder("dozo-controller")
	volumes := reconcile.Func(func(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{}, r.look(ctx, q.NamespacedName, &v1alpha1.NodeVolume{})
	})
	comesAndGoes := builder.WithPredicates(predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }})
	err := builder.ControllerManagedBy(mgr).Named("nodevolume-lost").For(&v1alpha1.NodeVolume{}).
		WatchesMetadata(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.volumesOn), comesAndGoes).
		Complete(volumes)
	if err != nil {
		return err
	}
	snapshots := reconcile.Func(func(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{}, r.look(ctx, q.NamespacedName, &v1alpha1.NodeSnapshot{})
	})
	return builder.ControllerManagedBy(mgr).Named("nodesnapshot-lost").For(&v1alpha1.NodeSnapshot{}).
		WatchesMetadata(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.snapshotsOn), comesAndGoes).
		Complete(snapshots)
}

// volumesOn are the volumes on a node that came or went.
func (r *Reconciler) volumesOn(ctx context.Context, node client.Object) (qs []reconcile.Request) {
	var all v1alpha1.NodeVolumeList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	for i := range all.Items {
		qs = add(qs, node, &all.Items[i])
	}
	return qs
}

func (r *Reconciler) snapshotsOn(ctx context.Context, node client.Object) (qs []reconcile.Request) {
	var all v1alpha1.NodeSnapshotList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	for i := range all.Items {
		qs = add(qs, node, &all.Items[i])
	}
	return qs
}

func add(qs []reconcile.Request, node client.Object, o record.Object) []reconcile.Request {
	if spec, _ := o.Item(); spec.Node != node.GetName() {
		return qs
	}
	return append(qs, reconcile.Request{NamespacedName: types.NamespacedName{Name: o.GetName()}})
}

func (r *Reconciler) look(ctx context.Context, key types.NamespacedName, o record.Object) error {
	if err := r.client.Get(ctx, key, o); err != nil {
		return client.IgnoreNotFound(err)
	}
	spec, status := o.Item()
	if ours, err := r.ours(ctx, spec.Pool); err != nil || !ours {
		return err
	}
	there, err := r.there(ctx, spec.Node)
	if err != nil {
		return err
	}
	if !there && o.GetDeletionTimestamp() != nil {
		return r.letGo(ctx, o)
	}
	c := condition(there, spec.Node)
	if there && meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionLost) == nil {
		return nil // it never was lost
	}
	before := o.DeepCopyObject().(client.Object)
	if !meta.SetStatusCondition(&status.Conditions, c) {
		return nil
	}
	if !there {
		r.events.Eventf(o, nil, corev1.EventTypeWarning, c.Reason, "Watch", "%s", c.Message)
	}
	// The list of conditions is replaced as a whole, and the agent of a node that comes back writes too.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.client.Status().Patch(ctx, o, patch))
}

func condition(there bool, node string) metav1.Condition {
	if there {
		return metav1.Condition{Type: v1alpha1.ConditionLost, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNodeThere}
	}
	return metav1.Condition{Type: v1alpha1.ConditionLost, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNodeGone,
		Message: "node " + node + " has left the cluster; what it has comes back with it. If it never will, delete this object"}
}

func (r *Reconciler) ours(ctx context.Context, pool string) (bool, error) {
	p := &v1alpha1.Pool{}
	err := r.client.Get(ctx, client.ObjectKey{Name: pool}, p)
	return err == nil && p.Spec.Kind == r.Kind, client.IgnoreNotFound(err)
}

// there reports whether a node is in the cluster. The API server has the last word on that it is not.
func (r *Reconciler) there(ctx context.Context, node string) (bool, error) {
	for _, reader := range []client.Reader{r.client, r.api} {
		n := &metav1.PartialObjectMetadata{}
		n.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
		err := reader.Get(ctx, client.ObjectKey{Name: node}, n)
		if !apierrors.IsNotFound(err) {
			return err == nil, err
		}
	}
	return false, nil
}

// letGo frees an object that is being deleted from its node, which is not there to do it.
func (r *Reconciler) letGo(ctx context.Context, o record.Object) error {
	before := o.DeepCopyObject().(client.Object)
	if !controllerutil.RemoveFinalizer(o, v1alpha1.Finalizer) {
		return nil
	}
	return client.IgnoreNotFound(r.client.Patch(ctx, o, client.MergeFrom(before)))
}
