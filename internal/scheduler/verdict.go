package scheduler

import (
	"fmt"
	"maps"
	"math"
	"slices"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/dozo-dev/dozo/internal/backend"
)

// need is what volumes need of one pool, in bytes.
type need struct{ total, largest int64 }

func (n need) plus(bytes int64) need {
	bytes = max(0, bytes)
	if n.total > math.MaxInt64-bytes {
		return need{math.MaxInt64, max(n.largest, bytes)} // more than any pool has
	}
	return need{n.total + bytes, max(n.largest, bytes)}
}

// needs is what the volumes of a pod need together.
type needs struct {
	pools map[string]need
	nodes []place // all must be met
}

// place is a node on which a volume must be.
type place struct{ node, volume string }

// Verdict says which nodes can have a pod.
type Verdict struct {
	Passed  []int             // indexes of nodes
	Refused map[string]string // node: reason, in words that are the same for many nodes, since events count them

	contended bool // a node was refused only because of what is offered to others
}

func (v Verdict) names(nodes []string) []string {
	names := make([]string, len(v.Passed))
	for i, n := range v.Passed {
		names[i] = nodes[n]
	}
	return names
}

// judge decides for each node. It changes nothing.
func judge(t table, n needs, nodes []string) Verdict {
	v := Verdict{Passed: make([]int, 0, len(nodes)), Refused: map[string]string{}}
	poolNeeds := reasonsOf(n)
	for i, node := range nodes {
		reason, contended := "", false
		for _, p := range n.nodes {
			if p.node != node {
				reason = fmt.Sprintf("%s has to be on node %s", p.volume, p.node)
				break
			}
		}
		if reason == "" {
			reason, contended = poolNeeds.refuse(t, node)
		}
		if reason == "" {
			v.Passed = append(v.Passed, i)
			continue
		}
		v.Refused[node] = reason
		v.contended = v.contended || contended
	}
	return v
}

// poolReasons is a need with what is said to a node that cannot meet it, written once for all nodes.
type poolReasons struct {
	pool                   string
	need                   need
	none, total, max, hold string
}

type allReasons []poolReasons

func reasonsOf(n needs) allReasons {
	var all allReasons
	for _, pool := range slices.Sorted(maps.Keys(n.pools)) {
		need := n.pools[pool]
		all = append(all, poolReasons{
			pool: pool, need: need,
			none:  fmt.Sprintf("pool %s is not on this node", pool),
			total: fmt.Sprintf("pool %s has no room for %s", pool, backend.FormatSize(need.total)),
			max:   fmt.Sprintf("pool %s cannot have a volume of %s", pool, backend.FormatSize(need.largest)),
			hold:  fmt.Sprintf("pool %s has its room promised to other pods", pool),
		})
	}
	return all
}

// refuse returns why a node cannot have the volumes, and whether only offers to others stand in the way.
func (all allReasons) refuse(t table, node string) (reason string, contended bool) {
	for _, r := range all {
		c := t[r.pool][node]
		switch {
		case c == nil || !c.known:
			return r.none, false
		case c.holds(r.need, true):
			continue
		case c.holds(r.need, false):
			reason, contended = r.hold, true // unless another pool has not even that
		case r.need.total > c.room.Available:
			return r.total, false
		case r.need.largest > c.room.MaxVolume:
			return r.max, false
		default:
			return r.hold, false
		}
	}
	return reason, contended
}

// grade returns the score of each node, which is that of the worst of the pools. A pod that needs
// nothing finds all nodes equal.
func grade(t table, w Weights, n needs, nodes []string) []int64 {
	scores := make([]int64, len(nodes))
	if len(n.pools) == 0 {
		return scores
	}
	for i, node := range nodes {
		score := extenderv1.MaxExtenderPriority
		for pool := range n.pools {
			c := t[pool][node]
			if c == nil || !c.known {
				score = extenderv1.MinExtenderPriority
				break
			}
			score = min(score, w.Score(pool, c.free(true)))
		}
		scores[i] = score
	}
	return scores
}
