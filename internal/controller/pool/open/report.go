package open

import (
	"cmp"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// How often a pool is asked how it is, and how long it may take to say so.
const (
	whenWell   = time.Minute
	whenUnwell = 10 * time.Second
	askTimeout = 15 * time.Second
	soon       = time.Second // when one is being opened
)

// Reporter writes into the Pools of a [Follower], which is added first, how they are.
type Reporter struct {
	*Follower
	WhenWell, WhenUnwell time.Duration // between two questions; 0: a minute, ten seconds

	client client.Client
	events events.EventRecorder
}

// Add has the manager run it, on the replica that is the leader.
func (r *Reporter) Add(mgr manager.Manager) error {
	r.client, r.events = mgr.GetClient(), mgr.GetEventRecorder("dozo-controller")
	return builder.ControllerManagedBy(mgr).Named("pool-report").
		For(&v1alpha1.Pool{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Channel(r.reports, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrent}).
		Complete(r)
}

// Reconcile is [reconcile.Reconciler].
func (r *Reporter) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	p := &v1alpha1.Pool{}
	if err := r.client.Get(ctx, q.NamespacedName, p); err != nil || p.Spec.Kind != r.Kind {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	st := r.state(p.Name)
	if st.Opening {
		return reconcile.Result{RequeueAfter: soon}, nil // what it was before is the better guess
	}
	before := p.DeepCopy()
	err := r.ask(ctx, p, st)
	p.Status.ObservedGeneration = p.Generation
	meta.SetStatusCondition(&p.Status.Conditions, record.Ready(p.Generation, err))
	again := reconcile.Result{RequeueAfter: cmp.Or(r.WhenWell, whenWell)}
	if err != nil {
		again.RequeueAfter = cmp.Or(r.WhenUnwell, whenUnwell)
	}
	if equality.Semantic.DeepEqual(before.Status, p.Status) {
		return again, nil
	}
	// The list of conditions is replaced as a whole, and pool-guard writes one too.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, p, patch); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	r.tell(before, p, err)
	return again, nil
}

// ask writes the figures of a pool into its object's status. They stay as they were if it does not say them.
func (r *Reporter) ask(ctx context.Context, o *v1alpha1.Pool, st pool.State) error {
	if st.Err != nil {
		return st.Err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	p := st.Pool
	room, err := p.Capacity(ctx, "")
	if err != nil {
		return inTime(ctx, err)
	}
	volumes, err := count(ctx, p)
	if err != nil {
		return inTime(ctx, err)
	}
	all, free := record.Bytes(room.Total), record.Bytes(room.Available)
	o.Status.Capacity, o.Status.Available, o.Status.Volumes = &all, &free, volumes
	return nil
}

func count(ctx context.Context, p *pool.Pool) (n int32, err error) {
	for _, err := range p.List(ctx) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// inTime says of an error what it comes from, if that was our own impatience.
func inTime(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errs.E(errs.Unavailable, "no answer within %v: %w", askTimeout, err)
	}
	return err
}

// tell makes an Event of what is news: that a pool is ready, that it is not any more, or for another reason.
func (r *Reporter) tell(before, now *v1alpha1.Pool, err error) {
	was := meta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionReady)
	is := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case was != nil && was.Status == is.Status && was.Reason == is.Reason:
	case err != nil:
		r.events.Eventf(now, nil, corev1.EventTypeWarning, "NotReady", "Open", "%s", is.Message[:min(len(is.Message), maxNote)])
	default:
		r.events.Eventf(now, nil, corev1.EventTypeNormal, "Ready", "Open", "the storage answers")
	}
}

// maxNote is the longest note of an Event in bytes.
const maxNote = 1 << 10
