// Package scheduler answers kube-scheduler's extender calls: which nodes have room for the volumes that
// a pod is still to get, and which of them are the better ones.
//
// It decides over figures in memory that others keep current: the room of each pool on each node, and
// the claims. What it has answered counts as a promise until the volume is there, so that pods that come
// in a burst, faster than volumes are made, are not all sent to the same room.
//
// A promise begins as an offer: the pod may land on any of the nodes it was told, so it counts on all of
// them. It is settled when the chosen node is seen, which is written on the claim, or on the pod; then it
// counts there and nowhere else. It ends when the volume is made or given up, and in any case after a time.
package scheduler

import (
	"context"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Scheduler has the figures and the promises. It is safe for concurrent use.
type Scheduler struct {
	weights Weights
	now     func() time.Time

	mu       sync.Mutex
	rooms    map[string]Rooms // by node, as last published
	kinds    map[string]map[string]int
	promises promises
	changed  chan struct{} // closed and replaced when a promise ends or is settled, or room changes
}

// New returns a scheduler that knows no node. errs.Invalid if the weights cannot be used.
func New(w Weights) (*Scheduler, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	return &Scheduler{
		weights: w, now: time.Now,
		rooms: map[string]Rooms{}, kinds: map[string]map[string]int{},
		promises: promises{table: table{}, byKey: map[string]*promise{}},
		changed:  make(chan struct{}),
	}, nil
}

// SetRooms replaces what is known of a node: nothing, with nil.
func (s *Scheduler) SetRooms(node string, rooms Rooms) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.tell()
	for pool, old := range s.rooms[node] {
		s.countKind(old.Kind, pool, -1)
		c := s.promises.table.cell(pool, node)
		c.known, c.room = false, Room{}
		if _, stays := rooms[pool]; !stays {
			s.promises.table.drop(c)
		}
	}
	for pool, r := range rooms {
		s.countKind(r.Kind, pool, 1)
		c := s.promises.table.cell(pool, node)
		c.known, c.room = true, r.Room
	}
	if s.rooms[node] = rooms; rooms == nil {
		delete(s.rooms, node)
	}
}

// countKind keeps on how many nodes pools of a kind are.
func (s *Scheduler) countKind(kind, pool string, by int) {
	pools := s.kinds[kind]
	if pools == nil {
		pools = map[string]int{}
		s.kinds[kind] = pools
	}
	if pools[pool] += by; pools[pool] <= 0 {
		delete(pools, pool)
	}
}

// Settle notes that a volume will be made on a node, and nowhere else.
func (s *Scheduler) Settle(v claims.Volume, node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pool, err := s.poolOf(v)
	if err != nil {
		return // it cannot be made
	}
	c := s.promises.table.cell(pool, node)
	if old := s.promises.byKey[v.Key]; old != nil && old.settled && old.cells[0] == c && old.bytes == v.Bytes {
		return // told again: its time does not begin anew
	}
	s.promises.put(v.Key, promise{bytes: v.Bytes, cells: []*cell{c}, settled: true, until: s.now().Add(settledTime)})
	s.tell()
}

// Made notes that a volume is there: it counts until its node has published what is left.
func (s *Scheduler) Made(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.promises.byKey[key]; m != nil {
		if end := s.now().Add(madeTime); end.Before(m.until) {
			m.until = end
		}
	}
}

// Drop notes that a volume will not be made, or not on the node it was settled on.
func (s *Scheduler) Drop(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promises.remove(key)
	s.tell()
}

// Unsettle notes that no node is chosen for a volume any more. An offer stays as it is.
func (s *Scheduler) Unsettle(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.promises.byKey[key]; m != nil && m.settled {
		s.promises.remove(key)
		s.tell()
	}
}

// tell wakes those who wait for room. The caller has the lock.
func (s *Scheduler) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// poolOf returns the pool that a volume is to be in. Without a name it is the only one of the kind.
func (s *Scheduler) poolOf(v claims.Volume) (string, error) {
	if v.Pool != "" {
		return v.Pool, nil
	}
	pools := s.kinds[v.Kind]
	if len(pools) != 1 {
		return "", errs.E(errs.Invalid, "%s: its class names no pool, and there are %d of the kind %s; set parameters[\"pool\"]", v.Name, len(pools), v.Kind)
	}
	for pool := range pools {
		return pool, nil
	}
	panic("unreachable")
}

// offerWait is how long a filter waits, when no node has room, for offers to others to be settled. That
// takes kube-scheduler some milliseconds, while a pod that is refused has to wait for a second or more.
const offerWait = 250 * time.Millisecond

// Filter returns the verdict over nodes for a pod's volumes, and promises them the room on those that
// passed. errs.Invalid if the volumes cannot be on any node, whatever is free. errs.Busy if no node passed,
// and one would without promises to others: these end soon, with or without a volume, and kube-scheduler
// tries a pod with an error again within seconds, while one that was refused waits for something to happen
// in the cluster, and nothing may.
func (s *Scheduler) Filter(ctx context.Context, volumes []claims.Volume, nodes []string) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, offerWait)
	defer cancel()
	for {
		v, changed, err := s.filter(volumes, nodes, ctx.Err() != nil)
		if err != nil || changed == nil {
			return v, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// filter decides once. It returns a channel if it is worth waiting for a change.
func (s *Scheduler) filter(volumes []claims.Volume, nodes []string, last bool) (v Verdict, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	needs, err := s.withdraw(volumes)
	if err != nil {
		return Verdict{}, nil, err
	}
	columns := columnsOf(s.promises.table, needs, nodes)
	v = judge(columns, needs, nodes)
	if len(v.Passed) == 0 && v.offered && !last {
		return v, s.changed, nil
	}
	if len(v.Passed) == 0 && v.promised {
		return v, nil, errs.E(errs.Busy, "the room for its volumes is promised to other pods; it will be tried again")
	}
	s.offer(volumes, columns, v.Passed)
	return v, nil, nil
}

// Prioritize returns the scores of nodes for a pod's volumes, in their order, and narrows what was
// promised to the volumes to these nodes.
func (s *Scheduler) Prioritize(volumes []claims.Volume, nodes []string) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	needs, err := s.withdraw(volumes)
	if err != nil {
		return nil, err
	}
	columns := columnsOf(s.promises.table, needs, nodes)
	scores := grade(columns, s.weights, len(nodes))
	s.offer(volumes, columns, nil)
	return scores, nil
}

func (s *Scheduler) expire() {
	if s.promises.expire(s.now()) {
		s.tell()
	}
}

// withdraw takes back what was offered for the volumes, which is decided anew, and adds up what they need.
// Volumes whose node was chosen have their room there already.
func (s *Scheduler) withdraw(volumes []claims.Volume) (needs, error) {
	all := needs{pools: map[string]need{}}
	for _, v := range volumes {
		if v.Node != "" {
			all.nodes = append(all.nodes, place{v.Node, v.Name})
		}
		if v.Settled {
			continue
		}
		pool, err := s.poolOf(v)
		if err != nil {
			return needs{}, err
		}
		s.promises.remove(v.Key)
		all.pools[pool] = all.pools[pool].plus(v.Bytes)
	}
	return all, nil
}

// offer promises the volumes room on the nodes with the indexes, or all with nil.
func (s *Scheduler) offer(volumes []claims.Volume, columns []column, nodes []int) {
	offered := map[string][]*cell{}
	for _, c := range columns {
		offered[c.pool] = c.pick(nodes)
	}
	for _, v := range volumes {
		pool, err := s.poolOf(v)
		if v.Settled || err != nil || len(offered[pool]) == 0 {
			continue
		}
		s.promises.put(v.Key, promise{bytes: v.Bytes, cells: offered[pool], until: s.now().Add(offerTime)})
	}
}

// Promised returns how many volumes room is promised to, by whether their node is chosen.
func (s *Scheduler) Promised() (settled, offered int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.promises.byKey {
		if m.settled {
			settled++
		} else {
			offered++
		}
	}
	return settled, offered
}
