package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

const (
	// patience is how long a worker waits for an operation before it notes how far that is and looks again.
	// The operation goes on meanwhile; see keylock.Run.
	patience = 5 * time.Second
	// concurrency is how many objects of a sort are worked on at once. A worker only waits.
	concurrency = 64
	// The waits between two attempts at what failed.
	firstAttempt, lastAttempt = time.Second, time.Minute
)

// workers are the options of every controller of an agent.
func workers(n int) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: n,
		SkipNameValidation:      ptr.To(true), // an agent that lost the API server makes them again
		CacheSyncTimeout:        24 * time.Hour,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstAttempt, lastAttempt),
	}
}

// items brings objects of one sort onto the pools.
type items[T any, O record.Of[T]] struct {
	agent   *Agent
	session *session

	// make brings the storage to what the object asks for, and writes what there is into its status.
	make func(ctx context.Context, p *pool.Pool, o O) error
	// remove removes what the object stands for; what stands there for something else stays.
	remove func(ctx context.Context, p *pool.Pool, o O) error

	mu      sync.Mutex
	removed map[types.UID]bool // objects whose storage is gone: whatever a cache says, it is not made again
}

// Reconcile is [reconcile.Reconciler].
func (r *items[T, O]) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	o := O(new(T))
	if err := r.session.client.Get(ctx, q.NamespacedName, o); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	spec, _ := o.Item()
	p, ours, err := r.agent.poolOf(ctx, r.session, spec.Pool)
	switch {
	case err == nil && !ours:
		return reconcile.Result{}, nil // another driver's agent answers
	case r.isRemoved(o):
		return reconcile.Result{}, r.finish(ctx, o)
	case settled(o):
		return reconcile.Result{}, nil
	case err != nil:
		return r.answer(ctx, o, O(o.DeepCopyObject().(O)), err)
	}
	return r.work(ctx, p, o)
}

// settled reports whether the object is answered, and nothing but a change of it could change the answer.
func settled(o record.Object) bool {
	if !record.Answered(o) {
		return false
	}
	spec, _ := o.Item()
	err := record.Answer(o)
	switch {
	case o.GetDeletionTimestamp() != nil:
		return false
	case spec.Absent: // refused; to delete it later, when nobody asks, would be a surprise
		return errs.Is(err, errs.InUse)
	case err == nil:
		return true
	}
	return !retryable(err)
}

// retryable reports whether what failed may succeed without anybody changing the object.
func retryable(err error) bool {
	return slices.Contains([]errs.Kind{errs.Unavailable, errs.Busy, errs.Aborted, errs.Internal, errs.InUse}, errs.KindOf(err))
}

func wanted(o record.Object) bool {
	spec, _ := o.Item()
	return !spec.Absent && o.GetDeletionTimestamp() == nil
}

func (r *items[T, O]) work(ctx context.Context, p *pool.Pool, o O) (reconcile.Result, error) {
	before := O(o.DeepCopyObject().(O))
	if wanted(o) && controllerutil.AddFinalizer(o, v1alpha1.Finalizer) {
		// Made by hand: without it a deletion would not reach this node.
		return reconcile.Result{}, r.session.client.Update(ctx, o)
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	do := r.make
	if !wanted(o) {
		do = r.remove
	}
	err := do(short, p, o)
	if errs.Is(err, errs.Aborted) && ctx.Err() == nil {
		return r.progress(ctx, o, before, err, short.Err() != nil)
	}
	if err == nil && !wanted(o) {
		r.setRemoved(o)
		r.agent.touch()
		return reconcile.Result{}, r.finish(ctx, o)
	}
	return r.answer(ctx, o, before, err)
}

// progress notes what the storage is doing, and comes back: at once to what is under way.
func (r *items[T, O]) progress(ctx context.Context, o, before O, doing error, running bool) (reconcile.Result, error) {
	_, status := o.Item()
	status.Progress = doing.Error()
	again := reconcile.Result{RequeueAfter: time.Second}
	if running {
		again.RequeueAfter = time.Millisecond
	}
	return again, client.IgnoreNotFound(r.session.client.Status().Patch(ctx, o, client.MergeFrom(before)))
}

// answer writes what became of the object, and has what may succeed later tried again.
func (r *items[T, O]) answer(ctx context.Context, o, before O, err error) (reconcile.Result, error) {
	was := record.Answer(before)
	record.SetAnswer(o, err)
	if err != nil && (was == nil || record.Reason(was) != record.Reason(err)) {
		r.session.events.Eventf(o, nil, corev1.EventTypeWarning, record.Reason(err), "Reconcile", "%v", err)
	}
	// The spec may have been changed meanwhile; then it is another answer that is due.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.session.client.Status().Patch(ctx, o, patch); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	r.agent.touch()
	if err != nil && (retryable(err) && !settled(o)) {
		return reconcile.Result{}, err
	}
	return reconcile.Result{}, nil
}

// finish deletes the object itself, after its storage.
func (r *items[T, O]) finish(ctx context.Context, o O) error {
	if o.GetDeletionTimestamp() == nil {
		uid := o.GetUID()
		if err := r.session.client.Delete(ctx, o, client.Preconditions{UID: &uid}); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	before := O(o.DeepCopyObject().(O))
	if !controllerutil.RemoveFinalizer(o, v1alpha1.Finalizer) {
		return nil
	}
	return client.IgnoreNotFound(r.session.client.Patch(ctx, o, client.MergeFrom(before)))
}

// maxRemoved bounds what is remembered of removed objects. Their events come within seconds.
const maxRemoved = 10_000

func (r *items[T, O]) setRemoved(o O) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.removed) > maxRemoved {
		r.removed = nil
	}
	if r.removed == nil {
		r.removed = map[types.UID]bool{}
	}
	r.removed[o.GetUID()] = true
}

func (r *items[T, O]) isRemoved(o O) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removed[o.GetUID()]
}

// poolOf returns the pool of an object. ours is false if its kind is another driver's, or if there is no
// such Pool: then nobody is to answer.
func (a *Agent) poolOf(ctx context.Context, s *session, name string) (p *pool.Pool, ours bool, err error) {
	var object v1alpha1.Pool
	if err := s.client.Get(ctx, client.ObjectKey{Name: name}, &object); err != nil {
		return nil, false, client.IgnoreNotFound(err)
	}
	if object.Spec.Kind != a.opts.Kind {
		return nil, false, nil
	}
	p, err = a.opts.Pools.Get(name)
	if errs.Is(err, errs.Invalid) {
		err = errs.E(errs.Unavailable, "pool %s is not on this node: its nodeSelector does not choose it", name)
	}
	return p, true, err
}
