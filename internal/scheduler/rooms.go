package scheduler

import "slices"

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
	node, pool string
	room       Room
	known      bool
	settled    int64 // bytes promised to volumes that will be made here
	offered    int64 // bytes promised to volumes that will be made here or elsewhere
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

// table is the cells of each node. A node has few pools.
type table map[string][]*cell

// find returns a pool on a node, nil if nothing is known of it nor promised.
func (t table) find(pool, node string) *cell {
	for _, c := range t[node] {
		if c.pool == pool {
			return c
		}
	}
	return nil
}

// column returns a pool on each of the nodes, nil where [table.find] has none.
func (t table) column(pool string, nodes []string) []*cell {
	cells := make([]*cell, len(nodes))
	for i, node := range nodes {
		cells[i] = t.find(pool, node)
	}
	return cells
}

// cell returns a pool on a node.
func (t table) cell(pool, node string) *cell {
	c := t.find(pool, node)
	if c == nil {
		c = &cell{pool: pool, node: node}
		t[node] = append(t[node], c)
	}
	return c
}

// drop forgets a cell of which nothing is known and nothing promised.
func (t table) drop(c *cell) {
	if c.known || c.settled != 0 || c.offered != 0 {
		return
	}
	left := slices.DeleteFunc(t[c.node], func(o *cell) bool { return o == c })
	if t[c.node] = left; len(left) == 0 {
		delete(t, c.node)
	}
}
