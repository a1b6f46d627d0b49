package scheduler

import "time"

// How long promises count at most. None of these times can block a pod for good: each ends by itself.
const (
	// offerTime is for a pod that was told "any of these nodes" and of which nothing more was heard: its
	// scheduling failed afterwards, or another extender took the nodes away. Usually the choice is seen
	// within milliseconds.
	offerTime = 5 * time.Second
	// settledTime is for a volume whose node was chosen and that does not come: its pool refuses it for a
	// reason that has nothing to do with room, or the provisioner does not run.
	settledTime = time.Minute
	// madeTime is how long a volume counts after it is there: until then its node has published what it
	// has left, which it does within a second.
	madeTime = 2 * time.Second
)

// promise is room that is spoken for: the one volume that has the key will be made in one of the cells,
// which are one pool on several nodes.
type promise struct {
	bytes   int64
	cells   []*cell // one, if settled
	settled bool
	until   time.Time
}

// promises is a ledger by volume, so that a volume never counts twice, whoever asks for it how often.
type promises struct {
	table table
	byKey map[string]*promise
}

// put makes or replaces the promise to a volume.
func (p *promises) put(key string, new promise) {
	p.count(&new, new.bytes) // first, so that cells in both stay
	p.remove(key)
	p.byKey[key] = &new
}

func (p *promises) remove(key string) {
	old := p.byKey[key]
	if old == nil {
		return
	}
	delete(p.byKey, key)
	p.count(old, -old.bytes)
	for _, c := range old.cells {
		p.table.drop(c)
	}
}

func (p *promises) count(m *promise, bytes int64) {
	for _, c := range m.cells {
		if m.settled {
			c.settled += bytes
		} else {
			c.offered += bytes
		}
	}
}

// expire removes the promises whose time is over.
func (p *promises) expire(now time.Time) (any bool) {
	for key, m := range p.byKey {
		if !now.Before(m.until) {
			p.remove(key)
			any = true
		}
	}
	return any
}
