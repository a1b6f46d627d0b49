package remote

import (
	"context"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// Follower has a set of pools follow the Pools of one kind.
type Follower struct {
	Kind  string
	Pools *pool.Set // of kinds that [Kind] returned
	Read  client.Reader
}

// Add has the manager run it, on every replica: each serves its own calls.
func (f *Follower) Add(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).Named("pool-follow").For(&v1alpha1.Pool{}).
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false)}).
		Complete(reconcile.Func(func(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{}, f.follow(ctx, q.Name)
		}))
}

// All follows all Pools that there are now.
func (f *Follower) All(ctx context.Context) error {
	var all v1alpha1.PoolList
	if err := f.Read.List(ctx, &all); err != nil {
		return asked(err)
	}
	for _, p := range all.Items {
		if err := f.follow(ctx, p.Name); err != nil {
			return err
		}
	}
	return nil
}

func (f *Follower) follow(ctx context.Context, name string) error {
	p := &v1alpha1.Pool{}
	err := f.Read.Get(ctx, client.ObjectKey{Name: name}, p)
	if err != nil && !apierrors.IsNotFound(err) {
		return asked(err)
	}
	if err != nil || p.Spec.Kind != f.Kind {
		f.Pools.Drop(name)
		return nil
	}
	err = f.Pools.Use(ctx, pool.Spec{Name: name, Kind: p.Spec.Kind, Options: maps.Clone(p.Spec.Options)})
	if errs.Is(err, errs.Invalid) {
		return nil // its nodes say so in their NodeStorage, from where it comes into the Pool's status
	}
	return err
}
