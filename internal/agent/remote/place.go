package remote

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// nodePool is the pool on one node.
type nodePool struct {
	v1alpha1.NodePool
	node string
	err  error // why it is not ready there
}

// nodePools returns the pool on all nodes that have it.
func (b *Backend) nodePools(ctx context.Context, r client.Reader) ([]nodePool, error) {
	var nodes v1alpha1.NodeStorageList
	if err := r.List(ctx, &nodes); err != nil {
		return nil, asked(err)
	}
	var all []nodePool
	for _, n := range nodes.Items {
		for _, p := range n.Status.Pools {
			if p.Name == b.pool {
				all = append(all, nodePool{p, n.Name, notReady(p.Conditions)})
			}
		}
	}
	return all, nil
}

func notReady(conditions []metav1.Condition) error {
	c := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if c == nil {
		return errs.E(errs.Unavailable, "has not said yet whether it is ready")
	}
	if c.Status == metav1.ConditionTrue {
		return nil
	}
	return errs.E(record.KindOf(c.Reason), "%s", c.Message)
}

// place chooses the node of a new volume. A copy is made where its source is. Where only one node may have
// it, that one decides whether there is room, since it knows best.
func (b *Backend) place(ctx context.Context, r backend.Request) (string, error) {
	if !r.Source.IsZero() {
		return b.besideSource(ctx, r)
	}
	pools, err := b.nodePools(ctx, b.view.watched)
	if err != nil {
		return "", err
	}
	if len(r.Nodes) > 0 {
		pools = slices.DeleteFunc(pools, func(p nodePool) bool { return !slices.Contains(r.Nodes, p.node) })
	}
	switch {
	case len(pools) == 1:
		return pools[0].node, nil
	case len(pools) == 0 && len(r.Nodes) > 0:
		return "", errs.E(errs.NoSpace, "accessibility_requirements: pool %s is on none of the nodes %s", b.pool, strings.Join(r.Nodes, ", "))
	case len(pools) == 0:
		return "", errs.E(errs.Unavailable, "pool %s: no node has it yet", b.pool)
	}
	coming, err := b.coming(ctx)
	if err != nil {
		return "", err
	}
	return choose(pools, r.Size, coming, b.packs(ctx))
}

// choose takes the node with the most room, or, to pack, the one with the least that is enough. coming is
// what was promised on each node and is not in its figures.
func choose(pools []nodePool, size int64, coming map[string]int64, pack bool) (string, error) {
	room := func(p nodePool) int64 { return p.Available.Value() - coming[p.node] }
	var fit []nodePool
	var why []string
	for _, p := range pools {
		switch {
		case p.err != nil:
			why = append(why, fmt.Sprintf("node %s: %v", p.node, p.err))
		case min(room(p), p.MaximumVolumeSize.Value()) < size:
			why = append(why, fmt.Sprintf("node %s has room for %d bytes", p.node, max(0, min(room(p), p.MaximumVolumeSize.Value()))))
		default:
			fit = append(fit, p)
		}
	}
	if len(fit) == 0 {
		return "", errs.E(errs.NoSpace, "%d bytes are required: %s", size, strings.Join(why, "; "))
	}
	best := slices.MaxFunc(fit, func(a, b nodePool) int {
		if pack {
			a, b = b, a
		}
		return cmp.Or(cmp.Compare(room(a), room(b)), cmp.Compare(b.node, a.node))
	})
	return best.node, nil
}

// coming is what volumes take that are asked for and not made yet, by node: a burst of claims must not all
// go to the node that had the most room before it.
func (b *Backend) coming(ctx context.Context) (map[string]int64, error) {
	var all v1alpha1.NodeVolumeList
	if err := b.view.watched.List(ctx, &all, client.MatchingLabels{v1alpha1.PoolLabel: b.pool}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, asked(err)
	}
	sum := map[string]int64{}
	for i := range all.Items {
		if o := &all.Items[i]; !exists(o) {
			sum[o.Spec.Node] += o.Spec.Size.Value()
		}
	}
	return sum, nil
}

// admits refuses new volumes in a pool that is being deleted, which would keep it for ever.
func (b *Backend) admits(ctx context.Context) error {
	var p v1alpha1.Pool
	err := b.view.watched.Get(ctx, client.ObjectKey{Name: b.pool}, &p)
	if err == nil && p.DeletionTimestamp != nil {
		return errs.E(errs.Unavailable, "pool %s is being deleted, and gets no new volumes; use another, or make it anew when it is gone", b.pool)
	}
	return nil // one that cannot be seen is for the node to refuse
}

// packs reports whether the pool fills one node before the next.
func (b *Backend) packs(ctx context.Context) bool {
	var p v1alpha1.Pool
	err := b.view.watched.Get(ctx, client.ObjectKey{Name: b.pool}, &p)
	return err == nil && p.Spec.Placement == v1alpha1.Pack
}

// besideSource is the node of the source, if the volume may be there.
func (b *Backend) besideSource(ctx context.Context, r backend.Request) (string, error) {
	node, err := b.sourceNode(ctx, r.Source)
	if err != nil {
		return "", errs.E(errs.KindOf(err), "volume_content_source: %w", err)
	}
	if len(r.Nodes) > 0 && !slices.Contains(r.Nodes, node) {
		return "", errs.E(errs.NoSpace, "volume_content_source: the source is on node %s, where the copy has to be made, and the volume may only be on %s",
			node, strings.Join(r.Nodes, ", "))
	}
	return node, nil
}

func (b *Backend) sourceNode(ctx context.Context, s backend.Source) (string, error) {
	if s.Snapshot != "" {
		o, err := b.snapshot(ctx, s.Snapshot)
		if err != nil {
			return "", err
		}
		return o.Spec.Node, nil
	}
	o, err := b.volume(ctx, s.Volume)
	if err != nil {
		return "", err
	}
	return o.Spec.Node, nil
}
