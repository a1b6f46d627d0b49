// Package guard keeps a Pool from being deleted away from under its volumes: it has a finalizer as long as
// it has volumes, and says how many keep it. A Pool without volumes has none, so that it goes at once, also
// when nobody is there any more to take a finalizer off.
package guard

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
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
	"github.com/dozo-dev/dozo/internal/pv"
)

// Reconciler guards the Pools of one kind.
type Reconciler struct {
	Kind    string
	Outside bool // volumes are on no node: what there is of them are PersistentVolumes

	client client.Client
	api    client.Reader
	events events.EventRecorder
}

// Add has the manager run it.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client, r.api, r.events = mgr.GetClient(), mgr.GetAPIReader(), mgr.GetEventRecorder("dozo-controller")
	item := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		spec, _ := o.(record.Object).Item()
		return poolNamed(spec.Pool)
	})
	claimed := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		pool, _, _ := pv.VolumeOf(o.(*corev1.PersistentVolume), pv.Driver(r.Kind))
		return poolNamed(pool)
	})
	comesAndGoes := builder.WithPredicates(predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }})
	b := builder.ControllerManagedBy(mgr).Named("pool-guard").
		For(&v1alpha1.Pool{}).
		Watches(&corev1.PersistentVolume{}, claimed, comesAndGoes)
	if !r.Outside {
		b = b.Watches(&v1alpha1.NodeVolume{}, item, comesAndGoes).Watches(&v1alpha1.NodeSnapshot{}, item, comesAndGoes)
	}
	return b.Complete(r)
}

func poolNamed(name string) []reconcile.Request {
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
}

// Reconcile is [reconcile.Reconciler].
func (r *Reconciler) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	p := &v1alpha1.Pool{}
	if err := r.client.Get(ctx, q.NamespacedName, p); err != nil || p.Spec.Kind != r.Kind {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	has, err := r.count(ctx, r.client, p.Name)
	if err == nil && has.none() && p.DeletionTimestamp != nil {
		has, err = r.count(ctx, r.api, p.Name) // a cache may be behind, and this is the last word
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := r.hold(ctx, p, !has.none()); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, r.tell(ctx, p, has)
}

// hold puts the finalizer on a Pool, or takes it off.
func (r *Reconciler) hold(ctx context.Context, p *v1alpha1.Pool, wanted bool) error {
	before := p.DeepCopy()
	changed := false
	switch {
	case !wanted:
		changed = controllerutil.RemoveFinalizer(p, v1alpha1.PoolFinalizer)
	case p.DeletionTimestamp == nil: // afterwards none can be added
		changed = controllerutil.AddFinalizer(p, v1alpha1.PoolFinalizer)
	}
	if !changed {
		return nil
	}
	// The list of finalizers is replaced as a whole.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.client.Patch(ctx, p, patch))
}

// tell says of a Pool that is being deleted what keeps it.
func (r *Reconciler) tell(ctx context.Context, p *v1alpha1.Pool, has contents) error {
	if p.DeletionTimestamp == nil || has.none() {
		return nil
	}
	before := p.DeepCopy()
	c := metav1.Condition{
		Type: v1alpha1.ConditionInUse, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonVolumes, ObservedGeneration: p.Generation,
		Message: r.message(p.Name, has),
	}
	if !meta.SetStatusCondition(&p.Status.Conditions, c) {
		return nil
	}
	r.events.Eventf(p, nil, corev1.EventTypeWarning, "DeletionWaits", "Delete", "%s", c.Message)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.client.Status().Patch(ctx, p, patch))
}

func (r *Reconciler) message(pool string, has contents) string {
	if r.Outside {
		return fmt.Sprintf("there are %d PersistentVolumes of the pool, and it stays until there are none: without it they could not be unmounted. Delete their claims", has.unmade)
	}
	return fmt.Sprintf("the pool has %s, and stays until it has none; new ones are not made. Delete their claims: kubectl get nodevolumes,nodesnapshots -l %s=%s",
		has, v1alpha1.PoolLabel, pool)
}

// contents is what keeps a Pool.
type contents struct{ volumes, snapshots, unmade int }

func (c contents) none() bool { return c == contents{} }

// String says it for people.
func (c contents) String() string {
	s := fmt.Sprintf("%d volumes and %d snapshots", c.volumes, c.snapshots)
	if c.unmade > 0 {
		s += fmt.Sprintf(", and %d PersistentVolumes whose volume is missing", c.unmade)
	}
	return s
}

func (r *Reconciler) count(ctx context.Context, from client.Reader, pool string) (c contents, err error) {
	known := map[string]bool{}
	if !r.Outside {
		if c, err = onNodes(ctx, from, pool, known); err != nil {
			return c, err
		}
	}
	var claimed corev1.PersistentVolumeList
	if err := from.List(ctx, &claimed, client.UnsafeDisableDeepCopy); err != nil {
		return c, err
	}
	for i := range claimed.Items {
		if name, id, ok := pv.VolumeOf(&claimed.Items[i], pv.Driver(r.Kind)); ok && name == pool && !known[string(id)] {
			c.unmade++
		}
	}
	return c, nil
}

// onNodes counts what the nodes have, and notes the volumes in known.
func onNodes(ctx context.Context, from client.Reader, pool string, known map[string]bool) (c contents, err error) {
	var volumes v1alpha1.NodeVolumeList
	if err := from.List(ctx, &volumes, client.UnsafeDisableDeepCopy); err != nil {
		return c, err
	}
	for i := range volumes.Items {
		if o := &volumes.Items[i]; o.Spec.Pool == pool {
			c.volumes++
			known[string(record.IDOf(o))] = true
		}
	}
	var snapshots v1alpha1.NodeSnapshotList
	if err := from.List(ctx, &snapshots, client.UnsafeDisableDeepCopy); err != nil {
		return c, err
	}
	for i := range snapshots.Items {
		if snapshots.Items[i].Spec.Pool == pool {
			c.snapshots++
		}
	}
	return c, nil
}
