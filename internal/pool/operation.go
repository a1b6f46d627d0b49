package pool

import (
	"context"
	"log/slog"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// operate runs one operation that changes something, under the locks of the keys. It goes on when
// the caller gives up, who then gets errs.Aborted with what is going on; see [keylock.Run].
func operate[T any](ctx context.Context, p *Pool, op string, keys keylock.Keys, do func(context.Context) (T, error)) (T, error) {
	of := keys.Alone[0]
	return keylock.Run(ctx, p.locks, keylock.Work[T]{
		Op: op + " " + of, Keys: keys, Budget: p.opts.Budget(), Do: do,
		Ended: func(since time.Time, err error) { p.ended(op, of, since, err) },
	})
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
