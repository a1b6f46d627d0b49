// Package tell tells who has a claim what happened to its volume: it is lost with its node, gone from the
// storage or cannot be reached, and when it is well again. People look at claims, and not at NodeVolumes.
package tell

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pv"
)

// Reconciler tells of the volumes of one driver.
type Reconciler struct {
	Driver string

	client client.Client
	events events.EventRecorder

	mu   sync.Mutex
	told map[types.UID]string // reasons of what was told last, by object; a new process tells it again
}

// Add has the manager run it.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client, r.events, r.told = mgr.GetClient(), mgr.GetEventRecorder("dozo-controller"), map[types.UID]string{}
	return builder.ControllerManagedBy(mgr).Named("persistentvolumeclaim-tell").For(&v1alpha1.NodeVolume{}).Complete(r)
}

// Reconcile tells what is wrong with a volume, if that is news.
func (r *Reconciler) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	o := &v1alpha1.NodeVolume{}
	if err := r.client.Get(ctx, q.NamespacedName, o); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if o.DeletionTimestamp != nil {
		r.news(o.UID, "")
		return reconcile.Result{}, nil
	}
	reason, message := state(o)
	before, news := r.news(o.UID, reason)
	if !news {
		return reconcile.Result{}, nil
	}
	whose, err := r.whose(ctx, o)
	if err != nil || whose == nil {
		return reconcile.Result{}, err
	}
	if reason == "" {
		r.events.Eventf(whose, o, corev1.EventTypeNormal, "VolumeBack", "Watch", "its volume on node %s is well again (it was %s)", o.Spec.Node, before)
		return reconcile.Result{}, nil
	}
	r.events.Eventf(whose, o, corev1.EventTypeWarning, reason, "Watch", "%.1000s", message)
	return reconcile.Result{}, nil
}

// news notes the state of an object, and reports whether it was another before.
func (r *Reconciler) news(of types.UID, reason string) (before string, news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.told[of]
	if reason == "" {
		delete(r.told, of)
	} else {
		r.told[of] = reason
	}
	return before, before != reason
}

// state is the worst that is wrong with a volume, as far as its user notices; "" for nothing.
func state(o *v1alpha1.NodeVolume) (reason, message string) {
	answer := record.Answer(o)
	switch {
	case record.Lost(o):
		return "VolumeLost", "node " + o.Spec.Node + ", which has its volume, has left the cluster; the volume comes back with it"
	case o.Status.ID != "" && errs.Is(answer, errs.NotFound):
		return "VolumeMissing", answer.Error()
	}
	for _, p := range record.Problems(o) {
		if p.Severity >= backend.Inaccessible {
			return p.Reason, p.Message
		}
	}
	return "", ""
}

// whose is the claim of a volume, or its PersistentVolume if that has none; nil if it has neither.
func (r *Reconciler) whose(ctx context.Context, o *v1alpha1.NodeVolume) (client.Object, error) {
	var all corev1.PersistentVolumeList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	p := pv.Find(all.Items, r.Driver, o.Spec.Pool, record.IDOf(o))
	if p == nil {
		return nil, nil
	}
	if p.Spec.ClaimRef == nil || p.Spec.ClaimRef.UID == "" {
		return p.DeepCopy(), nil
	}
	c := &corev1.PersistentVolumeClaim{}
	c.Namespace, c.Name, c.UID = p.Spec.ClaimRef.Namespace, p.Spec.ClaimRef.Name, p.Spec.ClaimRef.UID
	return c, nil
}
