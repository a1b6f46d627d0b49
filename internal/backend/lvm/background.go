package lvm

import (
	"context"
	"sync"
)

// background is what goes on while a pool is open.
type background struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (p *pool) start() {
	p.background.ctx, p.background.cancel = context.WithCancel(context.Background())
}

// while runs f until the pool is closed.
func (p *pool) while(f func(ctx context.Context)) {
	p.background.wg.Go(func() { f(p.background.ctx) })
}

// Close is [backend.Backend]. Volumes stay active.
func (p *pool) Close() error {
	p.background.cancel()
	p.background.wg.Wait()
	return nil
}

// sweep clears what calls that were killed left and nobody has repeated: it takes up room, and temporary
// snapshots slow their volume down. What somebody is at is left alone. Where something fails, the next
// opening of the pool tries again. Thin pools make no temporary snapshots: their dissolve is nil.
func (p *pool) sweep(ctx context.Context, destroy func(ctx context.Context, op string, k key) error, dissolve func(ctx context.Context, op string, i item) error) {
	items, err := p.every(ctx)
	if err != nil {
		return
	}
	for _, i := range items {
		if i.whole() && i.key.sort != copySort || ctx.Err() != nil {
			continue
		}
		unlock, err := p.locks.TryLock(p.name + "/" + i.key.lockName())
		if err != nil {
			continue
		}
		if again, found, err := p.look(ctx, i.key); err == nil && found && (i.key.sort == copySort || !again.whole()) {
			if i.key.sort == copySort && dissolve != nil {
				_ = dissolve(ctx, "sweep", again)
			} else if i.key.sort != copySort {
				_ = destroy(ctx, "sweep", i.key)
			}
		}
		unlock()
	}
}
