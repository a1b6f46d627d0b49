package scheduler

// Room is what a pool has for new volumes on one node, in bytes.
type Room struct {
	Available int64 // for all of them together
	MaxVolume int64 // for the largest one
}

// Rooms is what one node has, by pool.
type Rooms map[string]PoolRoom

// PoolRoom is the room of a pool with the pool's kind, by which claims are found that name no pool.
type PoolRoom struct {
	Room
	Kind string
}

// cell is a pool on a node. Promises are kept also for a node that is not known yet, or no more: it may
// come back with the volumes.
type cell struct {
	room    Room
	known   bool
	settled int64 // bytes promised to volumes that will be made here
	offered int64 // bytes promised to volumes that will be made here or elsewhere
}

// free is what is left for new volumes after all promises, or without the offers.
func (c *cell) free(offers bool) int64 {
	free := c.room.Available - c.settled
	if offers {
		free -= c.offered
	}
	return max(0, free)
}

// holds reports whether need fits into what is left.
func (c *cell) holds(n need, offers bool) bool {
	free := c.free(offers)
	return n.total <= free && n.largest <= min(free, c.room.MaxVolume)
}

// table is the cells by pool and node.
type table map[string]map[string]*cell

func (t table) cell(pool, node string) *cell {
	nodes := t[pool]
	if nodes == nil {
		nodes = map[string]*cell{}
		t[pool] = nodes
	}
	c := nodes[node]
	if c == nil {
		c = &cell{}
		nodes[node] = c
	}
	return c
}

// drop forgets a cell of which nothing is known and nothing promised.
func (t table) drop(pool, node string) {
	c := t[pool][node]
	if c == nil || c.known || c.settled != 0 || c.offered != 0 {
		return
	}
	if delete(t[pool], node); len(t[pool]) == 0 {
		delete(t, pool)
	}
}
