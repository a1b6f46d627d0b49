package agent

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

func (a *Agent) addVolumes(mgr manager.Manager, s *session) error {
	r := &items[v1alpha1.NodeVolume, *v1alpha1.NodeVolume]{agent: a, session: s, make: makeVolume, remove: removeVolume}
	return builder.ControllerManagedBy(mgr).Named("nodevolume").
		For(&v1alpha1.NodeVolume{}).
		WatchesRawSource(source.Channel(a.opened, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, p client.Object) []reconcile.Request {
			return a.waitingFor(ctx, s, p.GetName())
		}))).
		WithOptions(workers(concurrency)).
		Complete(r)
}

// waitingFor returns the volumes of a pool that could not be worked on, to try again now that it changed.
func (a *Agent) waitingFor(ctx context.Context, s *session, name string) []reconcile.Request {
	var all v1alpha1.NodeVolumeList
	if err := s.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	var rs []reconcile.Request
	for i := range all.Items {
		if o := &all.Items[i]; o.Spec.Pool == name && !settled(o) {
			rs = append(rs, reconcile.Request{NamespacedName: types.NamespacedName{Name: o.Name}})
		}
	}
	return rs
}

// makeVolume makes a volume that does not exist, and grows or limits one that does.
func makeVolume(ctx context.Context, p *pool.Pool, o *v1alpha1.NodeVolume) error {
	r := record.Request(o)
	if o.Status.ID == "" {
		v, err := create(ctx, p, o, r)
		if err == nil {
			record.SetVolume(o, v)
		}
		return err
	}
	v, err := p.Get(ctx, r.ID)
	if errs.Is(err, errs.NotFound) {
		return vanished("volume", p, err)
	}
	if err == nil && v.Size < r.Size {
		v, err = p.Expand(ctx, r.ID, r.Size, 0)
	}
	if err == nil && v.Limits != r.Limits {
		v, err = p.Modify(ctx, r.ID, r.Limits)
	}
	if err == nil {
		record.SetVolume(o, v)
	}
	return err
}

// create makes the volume, or takes what is to be imported for it.
func create(ctx context.Context, p *pool.Pool, o *v1alpha1.NodeVolume, r backend.Request) (backend.Volume, error) {
	if o.Spec.ImportFrom != "" {
		return p.ImportExact(ctx, o.Spec.ImportFrom, r)
	}
	return p.CreateExact(ctx, r)
}

// vanished is the answer about something that was there.
func vanished(what string, p *pool.Pool, err error) error {
	return errs.E(errs.NotFound, "the %s was made and is not on the storage of pool %s any more (%w); it is not made anew: "+
		"bring the storage back, or delete this object", what, p.Name(), err)
}

// removeVolume deletes the volume that the object stands for. One that does not fit the object was there
// before it, or is somebody else's: it is none of what this object asked for.
func removeVolume(ctx context.Context, p *pool.Pool, o *v1alpha1.NodeVolume) error {
	r := record.Request(o)
	if o.Spec.ImportFrom != "" && o.Status.ID == "" {
		return nil // nobody was told yet that it is a volume: it is its first owner's, and left alone
	}
	v, err := p.Get(ctx, r.ID)
	switch {
	case errs.Is(err, errs.NotFound): // what is left of an interrupted call goes too
	case err != nil:
		return err
	case v.Name != r.Name, o.Status.ID == "" && v.Satisfies(r) != nil:
		return nil
	}
	return p.Delete(ctx, r.ID)
}
