package backendtest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// writer writes a rising number to several places, each write durable before the next begins.
type writer struct {
	e    *env
	quit chan struct{}
	done chan struct{}
	once sync.Once
	n    atomic.Uint64
	err  error
}

// countIn starts a writer: round by round to contents[i] at places[i], in this order.
func (e *env) countIn(contents []Content, places []int64) *writer {
	w := &writer{e: e, quit: make(chan struct{}), done: make(chan struct{})}
	e.Cleanup(func() { w.end() })
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.quit:
				return
			default:
			}
			n := w.n.Load() + 1
			for i, c := range contents {
				if w.err = put(c, places[i], n); w.err != nil {
					return
				}
			}
			w.n.Store(n)
		}
	}()
	return w
}

func put(c Content, at int64, n uint64) error {
	p := make([]byte, patch)
	binary.BigEndian.PutUint64(p, n)
	if _, err := c.WriteAt(p, at); err != nil {
		return err
	}
	return c.Sync()
}

// progress waits until a few rounds more are written.
func (w *writer) progress() {
	w.e.Helper()
	for target := w.n.Load() + 3; w.n.Load() < target; time.Sleep(time.Millisecond) {
		select {
		case <-w.done:
			w.e.Fatalf("write: %v", w.err)
		case <-w.e.ctx.Done():
			w.e.Fatalf("writes do not get on: %d rounds so far", w.n.Load())
		default:
		}
	}
}

func (w *writer) end() {
	w.once.Do(func() { close(w.quit) })
	<-w.done
}

func (w *writer) stop() {
	w.e.Helper()
	w.end()
	w.e.must(w.err, "write")
}

func (e *env) counter(c Content, at int64) uint64 {
	e.Helper()
	p := make([]byte, 8)
	_, err := c.ReadAt(p, at)
	e.must(err, "read")
	return binary.BigEndian.Uint64(p)
}
