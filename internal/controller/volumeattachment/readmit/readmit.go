// Package readmit has volumes attached anew to a node whose addresses have changed. Storage that knows nodes by their
// addresses, as an NFS server does, would shut the node out, and let in whoever has its former address next.
package readmit

import (
	"context"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Reconciler looks after the VolumeAttachments of one driver.
type Reconciler struct {
	Driver string
	Key    string // in their metadata: the addresses that the volume was attached for, as [Addresses] has them, with spaces between

	client client.Client
	events events.EventRecorder
}

// Addresses are the IP addresses of a node, sorted. (Host names are for people.)
func Addresses(n *corev1.Node) []string {
	var all []string
	for _, a := range n.Status.Addresses {
		if ip := net.ParseIP(a.Address); ip != nil {
			all = append(all, ip.String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Add has the manager run it.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client, r.events = mgr.GetClient(), mgr.GetEventRecorder("dozo-controller")
	moves := predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return !slices.Equal(Addresses(e.ObjectOld.(*corev1.Node)), Addresses(e.ObjectNew.(*corev1.Node)))
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
	return builder.ControllerManagedBy(mgr).Named("volumeattachment-readmit").
		For(&storagev1.VolumeAttachment{}).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.attachedTo), builder.WithPredicates(moves)).
		Complete(r)
}

// attachedTo are the attachments to a node.
func (r *Reconciler) attachedTo(ctx context.Context, node client.Object) (requests []reconcile.Request) {
	var all storagev1.VolumeAttachmentList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil // from a cache that has been filled
	}
	for _, a := range all.Items {
		if a.Spec.NodeName == node.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: a.Name}})
		}
	}
	return requests
}

// Reconcile says of a volume that was attached for other addresses that it is not attached. csi-attacher then attaches it, as it
// does what its own look at the storage finds detached, and notes the addresses of now; who uses the volume is not disturbed.
func (r *Reconciler) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	a := &storagev1.VolumeAttachment{}
	if err := r.client.Get(ctx, q.NamespacedName, a); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	had := a.Status.AttachmentMetadata[r.Key]
	if a.Spec.Attacher != r.Driver || a.DeletionTimestamp != nil || !a.Status.Attached || had == "" {
		return reconcile.Result{}, nil
	}
	n := &corev1.Node{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: a.Spec.NodeName}, n); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	has := strings.Join(Addresses(n), " ")
	if has == "" || has == had { // a node without an address cannot be let in, and is not at work
		return reconcile.Result{}, nil
	}
	before := a.DeepCopy()
	a.Status.Attached = false
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, a, patch); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	r.events.Eventf(a, n, corev1.EventTypeNormal, "AddressesChanged", "Attach",
		"attached anew: node %s has the addresses %s and had %s", n.Name, has, had)
	return reconcile.Result{}, nil
}
