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

	offered  bool // a node was refused only because of what is offered to others
	promised bool // a node was refused only because of what is promised to others, offered or settled
}

func (v Verdict) names(nodes []string) []string {
	names := make([]string, len(v.Passed))
	for i, n := range v.Passed {
		names[i] = nodes[n]
	}
	return names
}

// column is a pool on each of the nodes in question.
type column struct {
	pool  string
	need  need
	cells []*cell // nil where the pool is not
}

func columnsOf(t table, n needs, nodes []string) []column {
	var all []column
	for _, pool := range slices.Sorted(maps.Keys(n.pools)) {
		all = append(all, column{pool, n.pools[pool], t.column(pool, nodes)})
	}
	return all
}

// pick returns the cells with the indexes, or all with nil, where the pool is.
func (c column) pick(indexes []int) []*cell {
	picked := make([]*cell, 0, len(c.cells))
	for i := range c.cells {
		at := i
		if indexes != nil {
			if i == len(indexes) {
				break
			}
			at = indexes[i]
		}
		if c.cells[at] != nil {
			picked = append(picked, c.cells[at])
		}
	}
	return picked
}

// judge decides for each node. It changes nothing.
func judge(columns []column, n needs, nodes []string) Verdict {
	v := Verdict{Passed: make([]int, 0, len(nodes)), Refused: map[string]string{}}
	reasons := make([]reasons, len(columns))
	for i, c := range columns {
		reasons[i] = reasonsOf(c)
	}
	for i, node := range nodes {
		reason, worst := n.misplaced(node), fits
		if reason != "" {
			worst = lacks
		}
		for k := range columns {
			if o := fit(columns[k], i); o > worst {
				reason, worst = reasons[k].of(columns[k], i, o), o
			}
		}
		if worst == fits {
			v.Passed = append(v.Passed, i)
			continue
		}
		v.Refused[node] = reason
		v.offered = v.offered || worst == offered
		v.promised = v.promised || worst == offered || worst == promised
	}
	return v
}

// misplaced says why a node is not where all volumes can be that have to be on one.
func (n needs) misplaced(node string) string {
	for _, p := range n.nodes {
		if p.node != node {
			return fmt.Sprintf("%s has to be on node %s", p.volume, p.node)
		}
	}
	return ""
}

// outcome says how volumes fit into a pool on a node, from well to worse.
type outcome int

const (
	fits     outcome = iota
	offered          // not beside what others are offered: that is settled in a moment
	promised         // not beside what others were promised: their volumes are being made, or given up
	lacks            // not at all
)

func fit(col column, node int) outcome {
	c := col.cells[node]
	switch {
	case c == nil || !c.known || col.need.total > c.room.Available || col.need.largest > c.room.MaxVolume:
		return lacks
	case c.holds(col.need, true):
		return fits
	case c.holds(col.need, false):
		return offered
	}
	return promised
}

// reasons is what is said to a node, written once for all of them.
type reasons struct{ absent, total, largest, promised string }

func reasonsOf(c column) reasons {
	return reasons{
		absent:   fmt.Sprintf("pool %s is not on this node, or not ready", c.pool),
		total:    fmt.Sprintf("pool %s has no room for %s", c.pool, backend.FormatSize(c.need.total)),
		largest:  fmt.Sprintf("pool %s cannot have a volume of %s", c.pool, backend.FormatSize(c.need.largest)),
		promised: fmt.Sprintf("pool %s has its room promised to other pods", c.pool),
	}
}

func (r reasons) of(col column, node int, o outcome) string {
	c := col.cells[node]
	switch {
	case o != lacks:
		return r.promised
	case c == nil || !c.known:
		return r.absent
	case col.need.total > c.room.Available:
		return r.total
	}
	return r.largest
}

// grade returns the score of each node, which is that of the worst of the pools. A pod that needs
// nothing finds all nodes equal.
func grade(columns []column, w Weights, nodes int) []int64 {
	scores := make([]int64, nodes)
	if len(columns) == 0 {
		return scores
	}
	for i := range scores {
		scores[i] = extenderv1.MaxExtenderPriority
		for _, col := range columns {
			score := extenderv1.MinExtenderPriority
			if c := col.cells[i]; c != nil && c.known {
				score = w.Score(col.pool, c.free(true))
			}
			scores[i] = min(scores[i], score)
		}
	}
	return scores
}
