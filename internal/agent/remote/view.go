package remote

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// View is what all pools of a process see of the cluster: the API server, and a watch of what the nodes
// answer. It is safe for concurrent use.
type View struct {
	api     client.Client
	watched client.Reader

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]bool // by kind and name of an object
}

// NewView returns a view that reads and writes with api, which must not cache, and watches with c, which the
// caller starts.
func NewView(ctx context.Context, api client.Client, c cache.Cache) (*View, error) {
	v := &View{api: api, watched: c, waiting: map[string]map[chan struct{}]bool{}}
	for _, o := range []client.Object{&v1alpha1.NodeVolume{}, &v1alpha1.NodeSnapshot{}, &v1alpha1.NodeStorage{}, &v1alpha1.Pool{}} {
		informer, err := c.GetInformer(ctx, o, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, errs.E(errs.Unavailable, "watching %T: %w", o, err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: v.wake, UpdateFunc: func(_, o any) { v.wake(o) }, DeleteFunc: v.wake,
		}); err != nil {
			return nil, errs.E(errs.Internal, "watching %T: %w", o, err)
		}
	}
	return v, nil
}

// wake tells those who wait for the object that it changed.
func (v *View) wake(o any) {
	if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	item, ok := o.(record.Object)
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.waiting[key(item)] {
		select {
		case c <- struct{}{}:
		default: // it will look anyway
		}
	}
}

func key(o record.Object) string {
	if _, ok := o.(*v1alpha1.NodeSnapshot); ok {
		return "snapshot " + o.GetName()
	}
	return "volume " + o.GetName()
}

// subscribe returns a channel that says that the object may have changed.
func (v *View) subscribe(o record.Object) (changes <-chan struct{}, stop func()) {
	c, k := make(chan struct{}, 1), key(o)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting[k] == nil {
		v.waiting[k] = map[chan struct{}]bool{}
	}
	v.waiting[k][c] = true
	return c, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.waiting[k], c)
		if len(v.waiting[k]) == 0 {
			delete(v.waiting, k)
		}
	}
}

// answered waits until the node has answered o, which this process has just read or written, and returns the
// object as it is then: nil if it is gone. errs.Aborted if ctx ends first, errs.Unavailable if the node has
// left the cluster.
func answered[T any, O record.Of[T]](ctx context.Context, v *View, o O) (O, error) {
	changes, stop := v.subscribe(o)
	defer stop()
	spec, _ := o.Item()
	doing := "its agent has not answered yet"
	for {
		now, err := watched[T, O](ctx, v, o)
		if err != nil || now == nil {
			return nil, err
		}
		if now.GetGeneration() >= o.GetGeneration() {
			switch {
			case record.Answered(now):
				return now, nil
			case record.Lost(now):
				return nil, errs.E(errs.Unavailable, "node %s is not in the cluster; what it has comes back with it", spec.Node)
			}
			if _, status := now.Item(); status.Progress != "" {
				doing = status.Progress
			}
		}
		backend.Progress(ctx, "waiting for node "+spec.Node+": "+doing)
		select {
		case <-changes:
		case <-ctx.Done():
			return nil, errs.E(errs.Aborted, "waiting for node %s: %s; call again", spec.Node, doing)
		}
	}
}

// watched returns o as the watch has it, nil if it is gone. The watch may be behind: what it lacks is looked
// for at the API server, and is o itself if it is there.
func watched[T any, O record.Of[T]](ctx context.Context, v *View, o O) (O, error) {
	for _, r := range []client.Reader{v.watched, v.api} {
		now := O(new(T))
		err := r.Get(ctx, client.ObjectKeyFromObject(o), now)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, asked(err)
		case now.GetUID() == o.GetUID():
			return now, nil
		}
	}
	return nil, nil
}
