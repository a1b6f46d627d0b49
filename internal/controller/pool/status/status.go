// Package status writes into a Pool what its nodes say of it.
package status

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
)

// Reconciler writes the status of the Pools of one kind.
type Reconciler struct {
	Kind string

	client client.Client
}

// Add has the manager run it.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client = mgr.GetClient()
	return builder.ControllerManagedBy(mgr).Named("pool-status").
		For(&v1alpha1.Pool{}).
		Watches(&v1alpha1.NodeStorage{}, handler.EnqueueRequestsFromMapFunc(r.poolsOf)).
		Complete(r)
}

// poolsOf are all Pools of the kind: one that a node no longer has is not in its NodeStorage any more.
func (r *Reconciler) poolsOf(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.PoolList
	if err := r.client.List(ctx, &all); err != nil {
		return nil
	}
	var qs []reconcile.Request
	for _, p := range all.Items {
		if p.Spec.Kind == r.Kind {
			qs = append(qs, reconcile.Request{NamespacedName: types.NamespacedName{Name: p.Name}})
		}
	}
	return qs
}

// Reconcile is [reconcile.Reconciler].
func (r *Reconciler) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	p := &v1alpha1.Pool{}
	if err := r.client.Get(ctx, q.NamespacedName, p); err != nil || p.Spec.Kind != r.Kind {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	var nodes v1alpha1.NodeStorageList
	if err := r.client.List(ctx, &nodes); err != nil {
		return reconcile.Result{}, err
	}
	before := p.DeepCopy()
	sum(p, nodes.Items)
	if equality.Semantic.DeepEqual(before.Status, p.Status) {
		return reconcile.Result{}, nil
	}
	// The list of conditions is replaced as a whole, and pool-guard writes one too.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return reconcile.Result{}, client.IgnoreNotFound(r.client.Status().Patch(ctx, p, patch))
}

// named is how many nodes that are not ready a message names.
const named = 5

// sum writes into p's status what the nodes have of it.
func sum(p *v1alpha1.Pool, nodes []v1alpha1.NodeStorage) {
	var ready, total, volumes int32
	var capacity, available int64
	var silent []string
	for _, n := range nodes {
		for _, np := range n.Status.Pools {
			if np.Name != p.Name {
				continue
			}
			total++
			volumes += np.Volumes
			c := meta.FindStatusCondition(np.Conditions, v1alpha1.ConditionReady)
			switch {
			case c != nil && c.Status == metav1.ConditionTrue:
				ready++
				capacity += np.Capacity.Value()
				available += np.Available.Value()
			case c != nil:
				silent = append(silent, fmt.Sprintf("%s: %s", n.Name, c.Message))
			default:
				silent = append(silent, n.Name+": has not said yet")
			}
		}
	}
	s := &p.Status
	s.ObservedGeneration, s.NodesReady, s.NodesTotal, s.Volumes = p.Generation, ready, total, volumes
	s.Nodes = fmt.Sprintf("%d/%d", ready, total)
	all, free := record.Bytes(capacity), record.Bytes(available)
	s.Capacity, s.Available = &all, &free
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, ObservedGeneration: p.Generation}
	switch {
	case total == 0:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonNoNodes, "no node has the pool: does nodeSelector choose any that the driver runs on?"
	case ready < total:
		more := ""
		if len(silent) > named {
			more = fmt.Sprintf("; and %d more", len(silent)-named)
			silent = silent[:named]
		}
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonNotReady, strings.Join(silent, "; ")+more
		c.Message = c.Message[:min(len(c.Message), 4<<10)]
	}
	meta.SetStatusCondition(&s.Conditions, c)
}
