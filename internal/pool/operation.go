package pool

import (
	"context"
	"log/slog"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// answerMargin is how long before a caller's deadline it gets its answer. It has to reach a sidecar
// as "still copying, call again" and not as a deadline that says nothing.
const answerMargin = 200 * time.Millisecond

// operate runs one operation that changes something, under the locks of the keys. The operation has
// a context of its own: it goes on when the caller gives up, because a caller who calls again wants
// it done and half of it is worth nothing. The caller then gets errs.Aborted with what is going on.
func operate[T any](ctx context.Context, p *Pool, op string, keys []string, do func(context.Context) (T, error)) (T, error) {
	var none T
	wait, cancel := early(ctx)
	defer cancel()
	if err := wait.Err(); err != nil {
		return none, errs.E(errs.Aborted, "%s: the call ended before it began: %w", op, err)
	}
	h, err := p.locks.lock(wait, op+" "+keys[0], keys...)
	if err != nil {
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.opts.Budget())
		defer cancel()
		value, err := do(backend.WithProgress(own, h.report))
		p.locks.unlock(h, keys...)
		p.ended(op, keys[0], h.since, err)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-wait.Done():
		return none, errs.E(errs.Aborted, "%s; call again", h.describe(p.opts.Now()))
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

func (p *Pool) ended(op, key string, since time.Time, err error) {
	took := p.opts.Now().Sub(since)
	if p.opts.Observe != nil {
		p.opts.Observe(Observation{Pool: p.name, Kind: p.kind.Name, Op: op, Took: took, Err: err})
	}
	level, attrs := slog.LevelInfo, []slog.Attr{
		slog.String("pool", p.name), slog.String("op", op), slog.String("id", key), slog.Duration("took", took),
	}
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("kind", errs.KindOf(err).String()), slog.String("error", err.Error()))
	}
	p.opts.Log.LogAttrs(context.Background(), level, "pool operation", attrs...)
}
