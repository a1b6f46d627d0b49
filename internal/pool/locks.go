package pool

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// locks holds a lock for each key. A lock knows who holds it and since when, so that whoever has to
// wait can be told.
type locks struct {
	now func() time.Time

	mu   sync.Mutex
	held map[string]*holder
}

// holder is an operation under way.
type holder struct {
	op    string
	since time.Time
	done  chan struct{} // closed on release

	mu       sync.Mutex
	progress string
}

func newLocks(now func() time.Time) *locks {
	return &locks{now: now, held: map[string]*holder{}}
}

// lock waits until all keys are free and takes them together, or none: holders never wait for each
// other. errs.Aborted names the holder when ctx ends first.
func (l *locks) lock(ctx context.Context, op string, keys ...string) (*holder, error) {
	for {
		h, taken := l.tryLock(op, keys)
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

func (l *locks) tryLock(op string, keys []string) (mine, taken *holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if h := l.held[k]; h != nil {
			return nil, h
		}
	}
	mine = &holder{op: op, since: l.now(), done: make(chan struct{})}
	for _, k := range keys {
		l.held[k] = mine
	}
	return mine, nil
}

func (l *locks) unlock(h *holder, keys ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		delete(l.held, k)
	}
	close(h.done)
}

// drain waits until nothing is held.
func (l *locks) drain(ctx context.Context) error {
	for {
		h := l.any()
		if h == nil {
			return nil
		}
		select {
		case <-h.done:
		case <-ctx.Done():
			return fmt.Errorf("still running: %s", h.describe(l.now()))
		}
	}
}

func (l *locks) any() *holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		return h
	}
	return nil
}

// running describes what is under way, longest first.
func (l *locks) running() []string {
	l.mu.Lock()
	var hs []*holder
	for _, h := range l.held {
		if !slices.Contains(hs, h) {
			hs = append(hs, h)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(hs, func(a, b *holder) int { return a.since.Compare(b.since) })
	out := make([]string, len(hs))
	for i, h := range hs {
		out[i] = h.describe(l.now())
	}
	return out
}

func (h *holder) report(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.progress = what
}

func (h *holder) describe(now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := fmt.Sprintf("%s, running since %s (%v)", h.op, h.since.UTC().Format("15:04:05Z"), now.Sub(h.since).Round(100*time.Millisecond))
	if h.progress != "" {
		s += ": " + h.progress
	}
	return s
}
