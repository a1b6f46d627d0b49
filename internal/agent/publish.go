package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

const (
	// coalesce is how long changes are collected before they are published together: the scheduler is to
	// know within a second, and a burst of volumes is not to be a burst of writes.
	coalesce = 250 * time.Millisecond
	// askTimeout is how long a pool may take to say what it has.
	askTimeout = 5 * time.Second
)

// addPublisher has the NodeStorage follow the pools.
func (a *Agent) addPublisher(mgr manager.Manager, s *session) error {
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		refresh := time.NewTicker(a.opts.Refresh)
		defer refresh.Stop()
		for {
			if err := a.publish(ctx, s); err != nil && ctx.Err() == nil {
				a.opts.Log.Warn("publishing the node's storage", "error", err) // the next round is soon
			}
			select {
			case <-ctx.Done():
				return nil
			case <-refresh.C:
			case <-a.dirty:
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(coalesce):
				}
			}
		}
	}))
}

// publish writes what the pools have now into the NodeStorage, if that is not what it says.
func (a *Agent) publish(ctx context.Context, s *session) error {
	a.publishing.Lock()
	defer a.publishing.Unlock()
	pools := a.nodePools(ctx, s)
	if a.isPublished(ctx, s, pools) {
		return nil
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		have, err := a.nodeStorage(ctx, s)
		if err != nil || have == nil {
			return err
		}
		now := have.DeepCopy()
		// Entries of other kinds are other agents'.
		now.Status.Pools = slices.DeleteFunc(now.Status.Pools, func(p v1alpha1.NodePool) bool { return p.Kind == a.opts.Kind })
		for _, p := range pools {
			now.Status.Pools = append(now.Status.Pools, carryOver(p, have.Status.Pools))
		}
		slices.SortFunc(now.Status.Pools, func(a, b v1alpha1.NodePool) int { return cmp.Compare(a.Name, b.Name) })
		now.Status.Summary = summary(now.Status.Pools)
		if !equality.Semantic.DeepEqual(have.Status, now.Status) {
			if err := s.client.Status().Update(ctx, now); err != nil {
				return err
			}
			a.tellOrphans(s, have, now)
		}
		a.published = published{now.ResourceVersion, pools}
		return nil
	})
}

// published is what was written last.
type published struct {
	version string // of the object, as written
	pools   []v1alpha1.NodePool
}

// isPublished reports whether the object is as it was written last and would be written again: then nothing is
// asked of the API server. A node that is idle costs it nothing.
func (a *Agent) isPublished(ctx context.Context, s *session, pools []v1alpha1.NodePool) bool {
	var seen v1alpha1.NodeStorage
	err := s.client.Get(ctx, client.ObjectKey{Name: a.opts.Node}, &seen)
	return err == nil && seen.ResourceVersion == a.published.version && equality.Semantic.DeepEqual(pools, a.published.pools)
}

// carryOver keeps from the last time when a condition changed or an orphan was found, and the figures of a pool that says nothing.
func carryOver(p v1alpha1.NodePool, before []v1alpha1.NodePool) v1alpha1.NodePool {
	i := slices.IndexFunc(before, func(b v1alpha1.NodePool) bool { return b.Name == p.Name })
	var conditions []metav1.Condition
	if i >= 0 {
		conditions = slices.Clone(before[i].Conditions)
		if !meta.IsStatusConditionTrue(p.Conditions, v1alpha1.ConditionReady) {
			p.Capacity, p.Available, p.MaximumVolumeSize = before[i].Capacity, before[i].Available, before[i].MaximumVolumeSize
		}
		p.OrphanItems = sinceWhen(p.OrphanItems, before[i].OrphanItems)
	}
	for _, c := range p.Conditions {
		meta.SetStatusCondition(&conditions, c)
	}
	p.Conditions = conditions
	return p
}

// nodeStorage returns this node's object and makes it if need be: nil if the node is not in the cluster.
func (a *Agent) nodeStorage(ctx context.Context, s *session) (*v1alpha1.NodeStorage, error) {
	have := &v1alpha1.NodeStorage{}
	err := s.api.Get(ctx, client.ObjectKey{Name: a.opts.Node}, have)
	if !apierrors.IsNotFound(err) {
		return have, err
	}
	n := &corev1.Node{}
	if err := s.client.Get(ctx, client.ObjectKey{Name: a.opts.Node}, n); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	have.Name = a.opts.Node
	// It goes with its node.
	have.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}}
	if err := s.client.Create(ctx, have); !apierrors.IsAlreadyExists(err) {
		return have, err
	}
	return have, s.api.Get(ctx, client.ObjectKey{Name: a.opts.Node}, have)
}

// nodePools asks all pools, side by side: one that hangs does not hold up the others.
func (a *Agent) nodePools(ctx context.Context, s *session) []v1alpha1.NodePool {
	states := a.opts.Pools.States()
	all := make([]v1alpha1.NodePool, len(states))
	var asking sync.WaitGroup
	for i, st := range states {
		asking.Go(func() { all[i] = a.nodePool(ctx, s, st) })
	}
	asking.Wait()
	return all
}

func (a *Agent) nodePool(ctx context.Context, s *session, st pool.State) v1alpha1.NodePool {
	np := v1alpha1.NodePool{Name: st.Spec.Name, Kind: a.opts.Kind, ObservedGeneration: a.generation(st.Spec.Name)}
	err := st.Err
	if st.Pool != nil {
		room, askErr := capacity(ctx, st.Pool)
		np.Capacity, np.Available = record.Bytes(room.Total), record.Bytes(max(0, room.Available))
		np.MaximumVolumeSize = record.Bytes(room.MaxVolume)
		if err == nil {
			err = askErr
		}
		if askErr == nil {
			a.rescan(ctx, s, st.Pool)
		}
	}
	found := a.lastScan(st.Spec.Name)
	np.Volumes = a.count(ctx, s, st.Spec.Name)
	np.Orphans = int32(len(found.orphans))
	np.OrphanItems = slices.Clone(found.orphans[:min(len(found.orphans), maxOrphans)])
	np.Conditions = []metav1.Condition{record.Ready(np.ObservedGeneration, err)}
	return np
}

// capacity asks a pool, and does not wait for one whose storage hangs.
func capacity(ctx context.Context, p *pool.Pool) (backend.Capacity, error) {
	type answer struct {
		room backend.Capacity
		err  error
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c := make(chan answer, 1)
	go func() {
		room, err := p.Capacity(ctx, "")
		c <- answer{room, err}
	}()
	select {
	case got := <-c:
		return got.room, got.err
	case <-ctx.Done():
		return backend.Capacity{}, errs.E(errs.Unavailable, "pool %s: did not say within %v what room it has", p.Name(), askTimeout)
	}
}
