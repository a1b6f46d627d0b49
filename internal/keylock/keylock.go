// Package keylock holds a lock for each key, alone or shared, and knows who holds it and since when, so that
// whoever has to wait can be told. [Run] does work under such locks that outlives an impatient caller.
package keylock

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Keys are what an operation locks: for itself alone, and together with others that share it too.
type Keys struct {
	Alone  []string
	Shared []string
}

// Locks are the locks of one process. They are safe for concurrent use.
type Locks struct {
	now func() time.Time
	*table
}

// table is what locks have in common with those [Locks.Beside] them.
type table struct {
	mu   sync.Mutex
	held map[string][]*Holder // of a key: the one that has it alone, or those that share it
}

// Holder is an operation under way.
type Holder struct {
	of    *Locks
	op    string
	keys  Keys
	since time.Time
	done  chan struct{} // closed on release

	mu       sync.Mutex
	progress string
}

// New returns locks of which none is held; now tells the time.
func New(now func() time.Time) *Locks {
	return &Locks{now: now, table: &table{held: map[string][]*Holder{}}}
}

// Beside returns locks of the same keys for somebody else: who takes one waits for the holders of both, and each drains its own.
func (l *Locks) Beside() *Locks { return &Locks{now: l.now, table: l.table} }

// Lock is Take of keys for this operation alone.
func (l *Locks) Lock(ctx context.Context, op string, keys ...string) (*Holder, error) {
	return l.Take(ctx, op, Keys{Alone: keys})
}

// Take waits until all keys are to be had and takes them together, or none: holders never wait for each
// other. errs.Aborted names the holder when ctx ends first.
func (l *Locks) Take(ctx context.Context, op string, keys Keys) (*Holder, error) {
	for {
		h, taken := l.tryTake(op, keys)
		if taken == nil {
			return h, nil
		}
		select {
		case <-taken.done:
		case <-ctx.Done():
			return nil, errs.E(errs.Aborted, "waiting for %s; call again", taken.describe(l.now()))
		}
	}
}

func (l *Locks) tryTake(op string, keys Keys) (mine, taken *Holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys.Alone {
		if hs := l.held[k]; len(hs) > 0 {
			return nil, hs[0]
		}
	}
	for _, k := range keys.Shared {
		if hs := l.held[k]; len(hs) > 0 && !slices.Contains(hs[0].keys.Shared, k) {
			return nil, hs[0]
		}
	}
	mine = &Holder{of: l, op: op, keys: keys, since: l.now(), done: make(chan struct{})}
	for _, k := range slices.Concat(keys.Alone, keys.Shared) {
		l.held[k] = append(l.held[k], mine)
	}
	return mine, nil
}

// Unlock frees the keys that h took.
func (l *Locks) Unlock(h *Holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range slices.Concat(h.keys.Alone, h.keys.Shared) {
		l.held[k] = slices.DeleteFunc(l.held[k], func(other *Holder) bool { return other == h })
		if len(l.held[k]) == 0 {
			delete(l.held, k)
		}
	}
	close(h.done)
}

// Drain waits until nothing is held.
func (l *Locks) Drain(ctx context.Context) error {
	for {
		hs := l.holders()
		if len(hs) == 0 {
			return nil
		}
		select {
		case <-hs[0].done:
		case <-ctx.Done():
			return fmt.Errorf("still running: %s", hs[0].describe(l.now()))
		}
	}
}

// holders are those that took their keys of these locks, not of others beside them; longest first.
func (l *Locks) holders() []*Holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	var hs []*Holder
	for _, holders := range l.held {
		for _, h := range holders {
			if h.of == l && !slices.Contains(hs, h) {
				hs = append(hs, h)
			}
		}
	}
	slices.SortFunc(hs, func(a, b *Holder) int { return a.since.Compare(b.since) })
	return hs
}

// Running describes what is under way, longest first.
func (l *Locks) Running() []string {
	hs := l.holders()
	out := make([]string, len(hs))
	for i, h := range hs {
		out[i] = h.describe(l.now())
	}
	return out
}

// Since is when the operation took its locks.
func (h *Holder) Since() time.Time { return h.since }

// Report notes what the operation is doing, for those who wait.
func (h *Holder) Report(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.progress = what
}

func (h *Holder) describe(now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := fmt.Sprintf("%s, running since %s (%v)", h.op, h.since.UTC().Format("15:04:05Z"), now.Sub(h.since).Round(100*time.Millisecond))
	if h.progress != "" {
		s += ": " + h.progress
	}
	return s
}
