// Package open has a process open the Pools whose storage is outside the cluster. Those of kinds that are bound
// to nodes are opened there by agents; these the controller opens itself, with what their Secrets say, and tells
// in their status how they are.
package open

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// The times of a Follower. A pool that does not open at the start holds the others up no longer than firstOpen;
// it is tried again in the background.
const (
	firstOpen  = 5 * time.Second
	lookAgain  = 30 * time.Second // at a Secret that could not be read
	concurrent = 8                // pools being opened, each of which may take a while to say no
)

// Follower has a set of pools follow the Pools of one kind and their Secrets.
type Follower struct {
	Kind      string
	Namespace string // of the Secrets
	Pools     *pool.Set
	Read      client.Reader    // Pools; may cache
	Live      client.WithWatch // Secrets; must not cache, since a cache wants to list them all
	Log       *slog.Logger

	changed chan event.GenericEvent // Pools to follow anew
	reports chan event.GenericEvent // Pools to report on anew

	mu      sync.Mutex
	unread  map[string]error              // why the Secret of a Pool could not be read, by the Pool's name
	watched map[string]context.CancelFunc // ends the watch of a Secret, by its name
}

// Add has the manager run it, on every replica: each serves its own calls.
func (f *Follower) Add(mgr manager.Manager) error {
	f.changed, f.reports = make(chan event.GenericEvent), make(chan event.GenericEvent, 100)
	f.Pools.OnChange(f.report)
	f.unread, f.watched = map[string]error{}, map[string]context.CancelFunc{}
	if err := mgr.Add(watches{f}); err != nil {
		return err
	}
	// Its status, which is written by whoever asks the pool, says nothing of how it is to be opened.
	spec := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	return builder.ControllerManagedBy(mgr).Named("pool-open").For(&v1alpha1.Pool{}, spec).
		WatchesRawSource(source.Channel(f.changed, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false), MaxConcurrentReconciles: concurrent}).
		Complete(reconcile.Func(func(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
			return f.follow(ctx, q.Name)
		}))
}

// All follows all Pools that there are now, the slow ones not to their end.
func (f *Follower) All(ctx context.Context) error {
	var all v1alpha1.PoolList
	if err := f.Read.List(ctx, &all); err != nil {
		return errs.E(errs.Unavailable, "listing pools: %w", err)
	}
	soon, cancel := context.WithTimeout(ctx, firstOpen)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range all.Items {
		wg.Go(func() {
			if _, err := f.follow(soon, p.Name); err != nil {
				f.Log.Warn("pool", "pool", p.Name, "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

// follow opens, changes or drops one pool as its object says. What cannot be read is no reason to drop one.
func (f *Follower) follow(ctx context.Context, name string) (reconcile.Result, error) {
	p := &v1alpha1.Pool{}
	err := f.Read.Get(ctx, client.ObjectKey{Name: name}, p)
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return reconcile.Result{}, err
	case err != nil || p.Spec.Kind != f.Kind:
		f.setUnread(name, nil)
		f.Pools.Drop(name)
		return reconcile.Result{}, f.watchSecrets(ctx)
	}
	if err := f.watchSecrets(ctx); err != nil {
		return reconcile.Result{}, err
	}
	spec, err := Spec(ctx, f.Live, f.Namespace, p)
	f.setUnread(name, err)
	if err != nil {
		f.Log.Warn("pool", "pool", name, "error", err)
		return reconcile.Result{RequeueAfter: lookAgain}, nil
	}
	if err := f.Pools.Use(ctx, spec); err != nil { // the set tries again by itself, and the status says why
		f.Log.Warn("pool", "pool", name, "error", err)
	}
	return reconcile.Result{}, nil
}

// Spec is a Pool as configured, with what its Secret, which is in the namespace, says.
func Spec(ctx context.Context, live client.Reader, namespace string, p *v1alpha1.Pool) (pool.Spec, error) {
	spec := pool.Spec{Name: p.Name, Kind: p.Spec.Kind, Options: maps.Clone(p.Spec.Options)}
	if p.Spec.SecretRef == nil {
		return spec, nil
	}
	s, name := &corev1.Secret{}, p.Spec.SecretRef.Name
	err := live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, s)
	switch {
	case apierrors.IsNotFound(err):
		return spec, errs.E(errs.NotFound, "secretRef.name: there is no Secret %s in the namespace %s", name, namespace)
	case apierrors.IsForbidden(err):
		return spec, errs.E(errs.Invalid, "secretRef.name: this process has no right to read the Secret %s in the namespace %s: give it one, by its name (the chart does for the pools in its values)", name, namespace)
	case err != nil:
		return spec, errs.E(errs.Unavailable, "secretRef.name: Secret %s: %w", name, err)
	}
	spec.Secrets = pool.NewSecrets(s.Data)
	return spec, nil
}

func (f *Follower) setUnread(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.unread, name)
		return
	}
	f.unread[name] = err
	f.report(name)
}

// report has a Pool reported on soon, by the replica that does so.
func (f *Follower) report(name string) {
	select {
	case f.reports <- event.GenericEvent{Object: &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: name}}}:
	default: // this replica is not the leader, or asks all of them anyway
	}
}

// state is a pool as it is; its Err says why it is not as its object and Secret say.
func (f *Follower) state(name string) pool.State {
	st := pool.State{Err: errs.E(errs.Unavailable, "not opened yet"), Opening: true}
	for _, s := range f.Pools.States() {
		if s.Spec.Name == name {
			st = s
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.unread[name]; err != nil {
		st.Err, st.Opening = err, false
	}
	return st
}
