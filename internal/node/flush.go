package node

import (
	"context"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
)

// flushPatience is how long a call waits for a server that is away. The kubelet calls again.
const flushPatience = 60 * time.Second

// flushes are those of file systems on servers that are under way, by where they are mounted. One waits for a server that is away as long as
// that takes, so for each place there is never more than one.
type flushes struct {
	mu      sync.Mutex
	running map[string]*flush
}

type flush struct {
	done chan struct{} // closed when err says what came of it
	err  error
}

// of returns the flush of a place, which is begun unless it is under way.
func (f *flushes) of(at *mnt.Place, path string) (*flush, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.running[path]; one != nil {
		return one, nil
	}
	result, err := at.Flush("unstage.flush")
	if err != nil {
		return nil, err
	}
	one := &flush{done: make(chan struct{})}
	f.running[path] = one
	go func() {
		err := <-result
		f.mu.Lock()
		delete(f.running, path)
		f.mu.Unlock()
		one.err = err
		close(one.done)
	}()
	return one, nil
}

// flush waits until a server has all that was written to a volume here. errs.Unavailable if it does not answer: a volume that was detached
// then would lose what the kernel still holds. What a server refuses, as from a node that it shut out, it will never have.
func (n *Node) flush(ctx context.Context, rec *record, at *mnt.Place) error {
	there, err := at.IsMountPoint()
	if err != nil || !there {
		return err
	}
	one, err := n.flushes.of(at, rec.Staging)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	select {
	case <-one.done:
		if one.err != nil {
			n.log.Warn("what was written last may not be on the server", "volume", rec.Volume, "source", rec.Access.Mount.Source, "error", one.err)
		}
		return nil
	case <-wait.Done():
		return errs.E(errs.Unavailable, "%s: %s does not answer, and may not have all yet that was written here; the volume is unmounted when it is back",
			fieldStaging, rec.Access.Mount.Source)
	}
}
