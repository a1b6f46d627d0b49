package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/errs"
)

func newScheduler(t testing.TB) *Scheduler {
	t.Helper()
	s, err := New(Weights{Mode: Spread, DefaultDivisor: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// has gives a node room in pools, as pairs of a name and the bytes that are free.
func has(s *Scheduler, node string, rooms map[string]int64) {
	all := Rooms{}
	for pool, free := range rooms {
		all[pool] = PoolRoom{Kind: "lvm", Room: Room{Available: free, MaxVolume: free}}
	}
	s.SetRooms(node, all)
}

func volume(name, pool string, bytes int64) claims.Volume {
	return claims.Volume{Key: "claim/ns/" + name, Name: "claim ns/" + name, Kind: "lvm", Pool: pool, Bytes: bytes}
}

// passed returns the names of the nodes that a filter passes.
func passed(t *testing.T, s *Scheduler, volumes []claims.Volume, nodes ...string) []string {
	t.Helper()
	v, err := s.Filter(t.Context(), volumes, nodes)
	if err != nil && !errs.Is(err, errs.Busy) {
		t.Fatal(err)
	}
	return v.names(nodes)
}

func TestFilter(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4"}
	for name, c := range map[string]struct {
		volumes []claims.Volume
		want    []string
		refused map[string]string // part of the reason
	}{
		"nothing of ours passes everywhere": {nil, nodes, nil},
		"one volume": {
			[]claims.Volume{volume("a", "ssd", 6*gib)},
			[]string{"n2"},
			map[string]string{"n1": "pool ssd has no room for 6Gi", "n3": "pool ssd is not on this node", "n4": "pool ssd is not on this node"},
		},
		"exactly what is free": {[]claims.Volume{volume("a", "ssd", 10*gib)}, []string{"n2"}, nil},
		"a byte more":          {[]claims.Volume{volume("a", "ssd", 10*gib+1)}, nil, nil},
		"the sum counts": {
			[]claims.Volume{volume("a", "ssd", 6*gib), volume("b", "ssd", 6*gib)}, nil,
			map[string]string{"n2": "no room for 12Gi"},
		},
		"every pool counts": {
			[]claims.Volume{volume("a", "ssd", 5*gib), volume("b", "hdd", 50*gib)},
			[]string{"n1"},
			map[string]string{"n2": "pool hdd is not on this node"},
		},
		"a copy goes where its source is": {
			[]claims.Volume{{Key: "c", Name: "claim ns/c", Kind: "lvm", Pool: "ssd", Bytes: gib, Node: "n1"}},
			[]string{"n1"},
			map[string]string{"n2": "claim ns/c has to be on node n1"},
		},
		"a copy that its source's node has no room for": {
			[]claims.Volume{{Key: "c", Name: "claim ns/c", Kind: "lvm", Pool: "ssd", Bytes: 6 * gib, Node: "n1"}}, nil,
			map[string]string{"n1": "no room"},
		},
		"copies of two nodes": {
			[]claims.Volume{{Key: "c", Pool: "ssd", Node: "n1"}, {Key: "d", Pool: "ssd", Node: "n2"}}, nil, nil,
		},
		"a volume that is being made needs no more room": {
			[]claims.Volume{{Key: "c", Name: "claim ns/c", Pool: "ssd", Bytes: 100 * gib, Node: "n1", Settled: true}},
			[]string{"n1"}, nil,
		},
		"the largest volume counts": {
			[]claims.Volume{volume("a", "frag", 3*gib)}, nil,
			map[string]string{"n3": "pool frag cannot have a volume of 3Gi"},
		},
		"several smaller ones may fit": {
			[]claims.Volume{volume("a", "frag", 2*gib), volume("b", "frag", 2*gib)}, []string{"n3"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScheduler(t)
			has(s, "n1", map[string]int64{"ssd": 5 * gib, "hdd": 100 * gib})
			has(s, "n2", map[string]int64{"ssd": 10 * gib})
			s.SetRooms("n3", Rooms{"frag": {Kind: "lvm", Room: Room{Available: 4 * gib, MaxVolume: 2 * gib}}})
			v, err := s.Filter(t.Context(), c.volumes, nodes)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.names(nodes); !slices.Equal(got, c.want) {
				t.Errorf("passed %v, want %v; refused: %v", got, c.want, v.Refused)
			}
			for node, part := range c.refused {
				if !strings.Contains(v.Refused[node], part) {
					t.Errorf("%s is refused with %q, want %q in it", node, v.Refused[node], part)
				}
			}
			if len(v.Passed)+len(v.Refused) != len(nodes) {
				t.Errorf("%d passed and %d refused of %d nodes", len(v.Passed), len(v.Refused), len(nodes))
			}
		})
	}
}

func TestPoolWithoutName(t *testing.T) {
	s := newScheduler(t)
	has(s, "n1", map[string]int64{"ssd": gib})
	v := volume("a", "", gib)
	if got := passed(t, s, []claims.Volume{v}, "n1"); len(got) != 1 {
		t.Errorf("the only pool of the kind is not taken: passed %v", got)
	}
	has(s, "n2", map[string]int64{"hdd": gib})
	if _, err := s.Filter(t.Context(), []claims.Volume{v}, []string{"n1"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("two pools of the kind: error %v, want an invalid one", err)
	}
	s.SetRooms("n2", nil)
	if got := passed(t, s, []claims.Volume{v}, "n1"); len(got) != 1 {
		t.Errorf("the only pool that is left is not taken: passed %v", got)
	}
}

// TestFilterIsExact tries random rooms, promises and pods: a node passes if and only if it can hold the
// sum beside what is promised there.
func TestFilterIsExact(t *testing.T) {
	pools := []string{"a", "b", "c"}
	for round := range 3000 {
		s := newScheduler(t)
		free := map[[2]string]int64{}
		var nodes []string
		for n := range 1 + rand.IntN(5) {
			node := fmt.Sprint("n", n)
			nodes = append(nodes, node)
			rooms := map[string]int64{}
			for _, p := range pools {
				if rand.IntN(4) > 0 {
					rooms[p] = rand.Int64N(20)
					free[[2]string{p, node}] = rooms[p]
				}
			}
			has(s, node, rooms)
		}
		for i := range rand.IntN(6) {
			pool, node, size := pools[rand.IntN(3)], nodes[rand.IntN(len(nodes))], 1+rand.Int64N(8)
			s.Settle(volume(fmt.Sprint("other", i), pool, size), node)
			free[[2]string{pool, node}] -= size
		}
		var volumes []claims.Volume
		sum := map[string]int64{}
		for i := range rand.IntN(4) {
			v := volume(fmt.Sprint("v", i), pools[rand.IntN(3)], 1+rand.Int64N(8))
			volumes = append(volumes, v)
			sum[v.Pool] += v.Bytes
		}
		got := passed(t, s, volumes, nodes...)
		for _, node := range nodes {
			fits := true
			for pool, need := range sum {
				fits = fits && need <= free[[2]string{pool, node}]
			}
			if fits != slices.Contains(got, node) {
				t.Fatalf("round %d: node %s fits: %v; passed: %v; free %v, needed %v", round, node, fits, got, free, sum)
			}
		}
	}
}

func TestPrioritize(t *testing.T) {
	s := newScheduler(t)
	has(s, "n1", map[string]int64{"ssd": 8 * gib, "hdd": 2 * gib})
	has(s, "n2", map[string]int64{"ssd": 4 * gib, "hdd": 1024 * gib})
	nodes := []string{"n1", "n2", "n3"}
	for name, c := range map[string]struct {
		volumes []claims.Volume
		want    []int64
	}{
		"nothing of ours":    {nil, []int64{0, 0, 0}},
		"one pool":           {[]claims.Volume{volume("a", "ssd", 1)}, []int64{3, 2, 0}},
		"the worst of pools": {[]claims.Volume{volume("a", "ssd", 1), volume("b", "hdd", 1)}, []int64{1, 2, 0}},
	} {
		got, err := s.Prioritize(c.volumes, nodes)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: scores %v (%v), want %v", name, got, err, c.want)
		}
		for _, v := range c.volumes {
			s.Drop(v.Key)
		}
	}
}

// TestPromises goes through the life of a promise, and every way in which it ends.
func TestPromises(t *testing.T) {
	mine, other := volume("mine", "ssd", 6*gib), volume("other", "ssd", 6*gib)
	both := []string{"n1", "n2"}
	for name, c := range map[string]struct {
		then func(s *Scheduler, clock *time.Time)
		want []string // where the other has room
	}{
		"offered on both":            {func(*Scheduler, *time.Time) {}, nil},
		"narrowed by prioritize":     {func(s *Scheduler, _ *time.Time) { s.Prioritize([]claims.Volume{mine}, []string{"n1"}) }, []string{"n2"}},
		"settled":                    {func(s *Scheduler, _ *time.Time) { s.Settle(mine, "n1") }, []string{"n2"}},
		"settled elsewhere":          {func(s *Scheduler, _ *time.Time) { s.Settle(mine, "n9") }, both},
		"an offer that ends by time": {func(_ *Scheduler, c *time.Time) { *c = c.Add(offerTime) }, both},
		"an offer just before":       {func(_ *Scheduler, c *time.Time) { *c = c.Add(offerTime - 1) }, nil},
		"settled, ends by time":      {func(s *Scheduler, c *time.Time) { s.Settle(mine, "n1"); *c = c.Add(settledTime) }, both},
		"settled, told again": {func(s *Scheduler, c *time.Time) {
			s.Settle(mine, "n1")
			*c = c.Add(settledTime - 1)
			s.Settle(mine, "n1")
			*c = c.Add(1)
		}, both},
		"settled, given up":       {func(s *Scheduler, _ *time.Time) { s.Settle(mine, "n1"); s.Unsettle(mine.Key) }, both},
		"offered, not given up":   {func(s *Scheduler, _ *time.Time) { s.Unsettle(mine.Key) }, nil},
		"dropped":                 {func(s *Scheduler, _ *time.Time) { s.Drop(mine.Key) }, both},
		"made, not published yet": {func(s *Scheduler, c *time.Time) { s.Settle(mine, "n1"); s.Made(mine.Key); *c = c.Add(madeTime - 1) }, []string{"n2"}},
		"made and published": {func(s *Scheduler, c *time.Time) {
			s.Settle(mine, "n1")
			s.Made(mine.Key)
			has(s, "n1", map[string]int64{"ssd": 4 * gib})
			*c = c.Add(madeTime)
		}, []string{"n2"}},
		"a node that left and came back": {func(s *Scheduler, _ *time.Time) {
			s.Settle(mine, "n1")
			s.SetRooms("n1", nil)
			has(s, "n1", map[string]int64{"ssd": 10 * gib})
		}, []string{"n2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScheduler(t)
			clock := time.Unix(1e9, 0)
			s.now = func() time.Time { return clock }
			for _, n := range both {
				has(s, n, map[string]int64{"ssd": 10 * gib})
			}
			if got := passed(t, s, []claims.Volume{mine}, both...); !slices.Equal(got, both) {
				t.Fatalf("the first pod passes %v", got)
			}
			if got := passed(t, s, []claims.Volume{mine}, both...); !slices.Equal(got, both) {
				t.Fatalf("asked again it passes %v: it stands in its own way", got)
			}
			c.then(s, &clock)
			if got := passed(t, s, []claims.Volume{other}, both...); !slices.Equal(got, c.want) {
				t.Errorf("the other pod passes %v, want %v", got, c.want)
			}
		})
	}
}

// TestNothingIsKept: after all promises have ended no cell is left but those of rooms.
func TestNothingIsKept(t *testing.T) {
	s := newScheduler(t)
	clock := time.Unix(1e9, 0)
	s.now = func() time.Time { return clock }
	for i := range 100 {
		s.Settle(volume(fmt.Sprint(i), fmt.Sprint("pool", i%7), gib), fmt.Sprint("n", i%13))
	}
	clock = clock.Add(settledTime)
	passed(t, s, nil, "n1")
	if settled, offered := s.Promised(); settled+offered != 0 || len(s.promises.table) != 0 {
		t.Errorf("%d settled and %d offered promises, %d pools are kept", settled, offered, len(s.promises.table))
	}
}

// TestFilterWaitsForOffers: a pod that only an offer to another stands in the way of waits for the moment
// until the other's node is seen, and no longer.
func TestFilterWaitsForOffers(t *testing.T) {
	s := newScheduler(t)
	nodes := []string{"n1", "n2"}
	for _, n := range nodes {
		has(s, n, map[string]int64{"ssd": 10 * gib})
	}
	first := volume("first", "ssd", 6*gib)
	passed(t, s, []claims.Volume{first}, nodes...)
	time.AfterFunc(20*time.Millisecond, func() { s.Settle(first, "n2") })
	if got := passed(t, s, []claims.Volume{volume("second", "ssd", 6*gib)}, nodes...); !slices.Equal(got, []string{"n1"}) {
		t.Errorf("passed %v, want n1", got)
	}
	start := time.Now()
	v, err := s.Filter(t.Context(), []claims.Volume{volume("third", "ssd", 6*gib)}, nodes)
	if !errs.Is(err, errs.Busy) || len(v.Passed) != 0 {
		t.Errorf("a third: %v, %v; want it to be told that we are busy", v, err)
	}
	if took := time.Since(start); took < offerWait || took > offerWait+10*time.Second {
		t.Errorf("it waited %s, want %s", took, offerWait)
	}
	if reason := v.Refused["n1"]; reason != "pool ssd has its room promised to other pods" {
		t.Errorf("n1 is refused with %q", reason)
	}
}

// TestBurst has a scheduler place 50 pods as fast as it can, with the node written on the claim some
// milliseconds later as kube-scheduler does, and volumes made long after. No node gets more than it can
// hold, and all find their place though there is none to spare.
func TestBurst(t *testing.T) {
	const pods, perNode, size = 50, 10, 3 * gib
	s := newScheduler(t)
	var nodes []string
	for i := range pods / perNode {
		nodes = append(nodes, fmt.Sprint("n", i))
		has(s, nodes[i], map[string]int64{"ssd": perNode*size + size/2})
	}
	var binding sync.WaitGroup
	placed := map[string]int{}
	refused := 0
	for i := 0; i < pods; {
		v := []claims.Volume{volume(fmt.Sprint("pod", i), "ssd", size)}
		got := passed(t, s, v, nodes...)
		if len(got) == 0 {
			if refused++; refused > pods {
				t.Fatalf("pod %d finds no room; placed so far: %v", i, placed)
			}
			continue
		}
		node := got[0]
		if len(got) > 1 {
			scores, err := s.Prioritize(v, got)
			if err != nil {
				t.Fatal(err)
			}
			node = got[slices.Index(scores, slices.Max(scores))]
		}
		placed[node]++
		binding.Go(func() {
			time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
			s.Settle(v[0], node)
		})
		i++
	}
	binding.Wait()
	for _, n := range nodes {
		if placed[n] != perNode {
			t.Errorf("node %s has %d volumes, can hold %d", n, placed[n], perNode)
		}
	}
	t.Logf("%d pods, %d on each of %d nodes; refused on the way: %d", pods, perNode, len(nodes), refused)
	if v, err := s.Filter(context.Background(), []claims.Volume{volume("last", "ssd", size)}, nodes); !errs.Is(err, errs.Busy) || len(v.Passed) != 0 {
		t.Errorf("a pod too many: %v, %v", v, err)
	}
}

// TestBurstWithoutPromises shows that the test above can fail: by the room alone all pods fit anywhere.
func TestBurstWithoutPromises(t *testing.T) {
	s := newScheduler(t)
	has(s, "n1", map[string]int64{"ssd": 10 * gib})
	for i := range 50 {
		v := volume(fmt.Sprint(i), "ssd", 3*gib)
		if len(passed(t, s, []claims.Volume{v}, "n1")) != 1 {
			t.Fatalf("pod %d is refused without a promise in its way", i)
		}
		s.Drop(v.Key)
	}
}

// TestConcurrently has two schedulers and the feed at work at once, for the race detector.
func TestConcurrently(t *testing.T) {
	s := newScheduler(t)
	nodes := []string{"n1", "n2", "n3"}
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 200 {
				v := []claims.Volume{volume(fmt.Sprintf("%d-%d", w, i%5), "ssd", gib)}
				has(s, nodes[i%3], map[string]int64{"ssd": 100 * gib})
				if _, err := s.Filter(context.Background(), v, nodes); err != nil {
					t.Error(err)
				}
				if _, err := s.Prioritize(v, nodes); err != nil {
					t.Error(err)
				}
				s.Settle(v[0], nodes[i%3])
				s.Made(v[0].Key)
				s.Drop(v[0].Key)
			}
		})
	}
	all.Wait()
	if settled, offered := s.Promised(); settled+offered != 0 {
		t.Errorf("%d settled and %d offered promises are left", settled, offered)
	}
}
