package keylock

import (
	"context"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// answerMargin is how long before a caller's deadline it gets its answer. It has to reach a sidecar
// as "still copying, call again" and not as a deadline that says nothing.
const answerMargin = 200 * time.Millisecond

// Work is one operation for [Run].
type Work[T any] struct {
	Op     string        // what it is called to those who wait
	Keys   Keys          // its locks
	Budget time.Duration // the longest that it may take
	Do     func(ctx context.Context) (T, error)
	Ended  func(since time.Time, err error) // called once after Do, under the locks still, so in order; may be nil
}

// Run does w under its locks. The work has a context of its own: it goes on when the caller gives
// up, because a caller who calls again wants it done and half of it is worth nothing. The caller
// then gets errs.Aborted with what is going on.
func Run[T any](ctx context.Context, l *Locks, w Work[T]) (T, error) {
	var none T
	wait, cancel := early(ctx)
	defer cancel()
	if err := wait.Err(); err != nil {
		return none, errs.E(errs.Aborted, "%s: the call ended before it began: %w", w.Op, err)
	}
	h, err := l.Take(wait, w.Op, w.Keys)
	if err != nil {
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Budget)
		defer cancel()
		value, err := w.Do(backend.WithProgress(own, h.Report))
		if w.Ended != nil {
			w.Ended(h.since, err)
		}
		l.Unlock(h)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-wait.Done():
		select {
		case r := <-done: // both at once: a result is worth more
			return r.value, r.err
		default:
		}
		return none, errs.E(errs.Aborted, "%s; call again", h.describe(l.now()))
	}
}

// early returns a context that ends a little before ctx does.
func early(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	margin := min(answerMargin, time.Until(deadline)/4)
	return context.WithDeadline(ctx, deadline.Add(-margin))
}
