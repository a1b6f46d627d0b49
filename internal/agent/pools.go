package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

type httpClient = http.Client

// addPools has the set of pools follow the Pools of our kind that select this node.
func (a *Agent) addPools(mgr manager.Manager, s *session) error {
	r := reconcile.Func(func(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{}, a.followPool(ctx, s, q.Name)
	})
	allPools := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return a.poolRequests(ctx, s)
	})
	// Nothing tells of a Pool that was deleted while this process was away.
	forgotten := manager.RunnableFunc(func(ctx context.Context) error {
		for _, st := range a.opts.Pools.States() {
			if err := a.followPool(ctx, s, st.Spec.Name); err != nil {
				a.opts.Log.Warn("pool", "pool", st.Spec.Name, "error", err)
			}
		}
		<-ctx.Done()
		return nil
	})
	if err := mgr.Add(forgotten); err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).Named("pool").
		For(&v1alpha1.Pool{}).
		Watches(&corev1.Node{}, allPools, builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WithOptions(workers(8)).
		Complete(r)
}

func (a *Agent) poolRequests(ctx context.Context, s *session) []reconcile.Request {
	var all v1alpha1.PoolList
	if err := s.client.List(ctx, &all); err != nil {
		a.opts.Log.Error("listing pools", "error", err)
		return nil
	}
	var rs []reconcile.Request
	for _, p := range all.Items {
		rs = append(rs, reconcile.Request{NamespacedName: types.NamespacedName{Name: p.Name}})
	}
	return rs
}

// followPool opens, changes or drops one pool as its object says.
func (a *Agent) followPool(ctx context.Context, s *session, name string) error {
	p := &v1alpha1.Pool{}
	err := s.client.Get(ctx, client.ObjectKey{Name: name}, p)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	selected := false
	if err == nil && p.Spec.Kind == a.opts.Kind {
		if selected, err = a.selects(ctx, s, p.Spec.NodeSelector); err != nil {
			return err // it is not known, so nothing is dropped
		}
	}
	if !selected {
		a.setGeneration(name, 0)
		a.opts.Pools.Drop(name)
		return a.remember()
	}
	a.setGeneration(name, p.Generation)
	err = a.opts.Pools.Use(ctx, pool.Spec{Name: name, Kind: p.Spec.Kind, Options: maps.Clone(p.Spec.Options), Socket: a.opts.Socket})
	if err != nil {
		// The set tries again by itself, and the NodeStorage says why.
		a.opts.Log.Warn("pool", "pool", name, "error", err)
		s.events.Eventf(p, nil, corev1.EventTypeWarning, "NotOpen", "Open", "node %s: %v", a.opts.Node, err)
	}
	a.touch()
	return a.remember()
}

// selects reports whether a selector chooses this node.
func (a *Agent) selects(ctx context.Context, s *session, selector *metav1.LabelSelector) (bool, error) {
	if selector == nil {
		return true, nil
	}
	chosen, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, errs.E(errs.Invalid, "nodeSelector: %w", err)
	}
	n := &corev1.Node{}
	if err := s.client.Get(ctx, client.ObjectKey{Name: a.opts.Node}, n); err != nil {
		return false, errs.E(errs.Unavailable, "node %s: whether it is selected cannot be told: %w", a.opts.Node, err)
	}
	return chosen.Matches(labels.Set(n.Labels)), nil
}

func (a *Agent) setGeneration(name string, g int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g == 0 {
		delete(a.generations, name)
		delete(a.scans, name)
		return
	}
	a.generations[name] = g
}

func (a *Agent) generation(name string) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.generations[name]
}

// state is the file of the pools seen last.
type state struct {
	Pools []pool.Spec `json:"pools"`
}

// maxState is the most that is read of it, in bytes.
const maxState = 1 << 20

// remembered returns the pools seen last.
func (a *Agent) remembered() ([]pool.Spec, error) {
	data, err := a.opts.Host.ReadFile("agent.pools.read", a.opts.State, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "the pools seen last: %w", err)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, errs.E(errs.Internal, "%s: %w; remove it, it is written again once the API server answers", a.opts.State, err)
	}
	return s.Pools, nil
}

// remember writes the pools of now, unless that is what the file has.
func (a *Agent) remember() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var now state
	for _, st := range a.opts.Pools.States() {
		now.Pools = append(now.Pools, st.Spec)
	}
	data, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return err
	}
	if old, err := a.opts.Host.ReadFile("agent.pools.read", a.opts.State, maxState); err == nil && string(old) == string(data) {
		return nil
	}
	return a.opts.Host.WriteFile("agent.pools", a.opts.State, data, 0o600)
}
