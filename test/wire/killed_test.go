package wire

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/wire"
)

// caller does what a pool does for its callers, on one volume after the other, and repeats what says
// that it may be repeated.
type caller struct {
	t       *testing.T
	ctx     context.Context
	c       *wire.Client
	repeats *atomic.Int32
}

func (c caller) must(what string, call func() error) {
	for {
		err := call()
		switch errs.KindOf(err) {
		case errs.Unavailable, errs.Aborted, errs.Busy:
			if c.ctx.Err() != nil {
				return // the test says so
			}
			c.repeats.Add(1)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil { // above all: NotFound for what is there
			c.t.Errorf("%s: %v (%v)", what, err, errs.KindOf(err))
		}
		return
	}
}

// life makes, grows, copies, uses and deletes a volume.
func (c caller) life(name string) {
	id, snap, clone := backend.ID(name), backend.ID(name+"-s"), backend.ID(name+"-c")
	parameters := map[string]string{}
	for _, p := range c.c.Kind().Parameters {
		parameters[p.Name] = p.Default
	}
	c.must("create", func() error {
		_, err := c.c.Create(c.ctx, backend.Request{ID: id, Name: name, Size: 4 * mib, Parameters: parameters})
		return err
	})
	c.must("mark", func() error { return c.c.SetMark(c.ctx, id, backend.Mark{FS: "xfs", Done: true}) })
	c.must("expand", func() error {
		v, err := c.c.Expand(c.ctx, id, 8*mib)
		if err == nil && v.Size != 8*mib {
			err = fmt.Errorf("%d bytes", v.Size)
		}
		return err
	})
	c.must("activate", func() error { _, err := c.c.Activate(c.ctx, id); return err })
	c.must("deactivate", func() error { return c.c.Deactivate(c.ctx, id) })
	c.must("snapshot", func() error {
		_, err := c.c.CreateSnapshot(c.ctx, backend.SnapshotRequest{ID: snap, Name: name + "-s", Source: id})
		return err
	})
	c.must("restore", func() error {
		_, err := c.c.Create(c.ctx, backend.Request{
			ID: clone, Name: name + "-c", Size: 8 * mib, Source: backend.Source{Snapshot: snap}, Parameters: parameters,
		})
		return err
	})
	c.must("mark of the copy", func() error {
		m, err := c.c.Mark(c.ctx, clone)
		if err == nil && m != (backend.Mark{FS: "xfs", Done: true, Copied: true}) {
			err = fmt.Errorf("%+v", m)
		}
		return err
	})
	c.must("list", func() error { return c.listed(id, clone) })
	c.must("delete", func() error { return c.c.Delete(c.ctx, clone) })
	c.must("delete the snapshot", func() error { return c.c.DeleteSnapshot(c.ctx, snap) })
	c.must("delete", func() error { return c.c.Delete(c.ctx, id) })
}

// listed finds both in one list that came to its end.
func (c caller) listed(ids ...backend.ID) error {
	found := 0
	for v, err := range c.c.List(c.ctx) {
		if err != nil {
			return err
		}
		if v.ID == ids[0] || v.ID == ids[1] {
			found++
		}
	}
	if found != len(ids) {
		return fmt.Errorf("a list that looks whole has %d of %v", found, ids)
	}
	return nil
}

// TestKilled kills the daemon again and again, wherever it is, while callers work: on a fast machine
// they lead more lives until there were enough kills.
func TestKilled(t *testing.T) {
	const callers, lives, least = 4, 15, 10
	dir := hosttest.FileSystem(t, "xfs", 1<<30)
	d := start(t, dir)
	client := d.connect()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var repeats, kills, led atomic.Int32
	var working sync.WaitGroup
	done := make(chan struct{})
	for i := range callers {
		working.Go(func() {
			for n := 0; n < lives || kills.Load() < least && ctx.Err() == nil; n++ {
				caller{t, ctx, client, &repeats}.life(fmt.Sprintf("v%d-%d", i, n))
				led.Add(1)
			}
		})
	}
	go func() { working.Wait(); close(done) }()
	for working := true; working; {
		select {
		case <-done:
			working = false
		case <-time.After(time.Duration(30+rand.IntN(150)) * time.Millisecond):
			d.kill()
			d.run()
			kills.Add(1)
		}
	}
	if ctx.Err() != nil {
		t.Fatal("the callers are still not done")
	}
	if kills.Load() < least || repeats.Load() == 0 {
		t.Errorf("%d kills and %d repeated calls: too few to say anything", kills.Load(), repeats.Load())
	}
	for _, what := range leaks(t, dir) {
		t.Errorf("left: %s", what)
	}
	fmt.Printf("lvmd: killed %d times while %d callers led %d volumes through their lives; %d calls were repeated, nothing is left\n",
		kills.Load(), callers, led.Load(), repeats.Load())
}
