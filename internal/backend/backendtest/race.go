package backendtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

func raceLaws() []law {
	return []law{
		{"many callers of one name make one volume", nil, raceOneName},
		{"many callers of many names make many volumes", nil, raceManyNames},
		{"creates and deletes of one name leave it whole or gone", nil, raceMixed},
		{"many snapshots of one volume", []need{snapshotter()}, raceSnapshots},
		{"many volumes from one snapshot", []need{snapshotter(), data()}, raceRestores},
		{"reads go on while volumes come and go", nil, raceReads},
	}
}

// race calls f from many goroutines at once. What loses is called again, as callers do.
func (e *env) race(f func(i int) error) {
	e.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	failures := make([]error, e.h.Callers)
	for i := range e.h.Callers {
		wg.Go(func() {
			<-start
			failures[i] = e.again(func() error { return f(i) })
		})
	}
	close(start)
	wg.Wait()
	for i, err := range failures {
		e.must(err, fmt.Sprintf("caller %d of %d", i, e.h.Callers))
	}
}

func (e *env) again(f func() error) error {
	for {
		err := f()
		if !errs.Is(err, errs.Aborted) && !errs.Is(err, errs.Busy) {
			return err
		}
		select {
		case <-e.ctx.Done():
			return errs.E(errs.Internal, "still losing when the law's time was up: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// processes are two pools over the same storage: in each calls for one ID come one at a time, as
// the contract has it, but the two do not know of each other.
func (e *env) processes() [2]*pool.Pool {
	e.Helper()
	first := e.p
	e.reopen()
	return [2]*pool.Pool{first, e.p}
}

func (e *env) wants(name string) pool.VolumeRequest {
	return pool.VolumeRequest{Name: name, Required: e.size, Parameters: e.h.Parameters}
}

// raceOneName goes through two pools. Two processes meet once in a race, so there are several.
func raceOneName(e *env) {
	processes := e.processes()
	for range 5 {
		made := make([]backend.Volume, e.h.Callers)
		e.race(func(i int) (err error) {
			made[i], err = processes[i%2].Create(e.ctx, e.wants("law-a"))
			return err
		})
		for _, v := range made {
			e.same(v, made[0], "two callers have two volumes")
		}
		e.same(e.get("law-a"), made[0], "Get returns not what Create did")
		e.listed("law-a")
		e.race(func(i int) error { return processes[i%2].Delete(e.ctx, "law-a") })
		e.absent("law-a")
	}
}

// raceManyNames calls the backend directly: calls for different IDs come at once.
func raceManyNames(e *env) {
	name := func(i int) string { return fmt.Sprintf("law-%02d", i) }
	var all []backend.ID
	for i := range e.h.Callers {
		all = append(all, backend.ID(name(i)))
	}
	e.race(func(i int) error {
		v, err := e.b.Create(e.ctx, e.request(name(i)))
		if err == nil && v.ID != backend.ID(name(i)) {
			return fmt.Errorf("asked for %s, got %s", name(i), v.ID)
		}
		return err
	})
	e.listed(all...)
	e.race(func(i int) error { return e.b.Delete(e.ctx, all[i]) })
	e.listed()
}

// raceMixed goes through two pools.
func raceMixed(e *env) {
	processes := e.processes()
	room := e.capacity()
	for range 3 {
		e.race(func(i int) error {
			p := processes[i%2]
			if i/2%2 == 0 {
				v, err := p.Create(e.ctx, e.wants("law-a"))
				if err == nil && v.Size != e.size {
					return fmt.Errorf("created %+v", v)
				}
				return err
			}
			return p.Delete(e.ctx, "law-a")
		})
		if v, err := e.b.Get(e.ctx, "law-a"); err == nil {
			e.same(e.create("law-a"), v, "what the race left is not whole")
			e.listed("law-a")
		} else {
			e.absent("law-a")
		}
		e.delete("law-a")
		e.absent("law-a")
		e.roomAsBefore(room)
	}
}

// raceSnapshots goes through two pools: half of the callers want a snapshot of their own, the other
// half one and the same.
func raceSnapshots(e *env) {
	e.create("law-a")
	processes := e.processes()
	name := func(i int) string {
		if i/2%2 == 0 {
			return "law-same"
		}
		return fmt.Sprintf("law-%02d", i)
	}
	want := map[backend.ID]bool{}
	for i := range e.h.Callers {
		want[backend.ID(name(i))] = true
	}
	e.race(func(i int) error {
		_, err := processes[i%2].Snapshot(e.ctx, name(i), "law-a")
		return err
	})
	got := map[backend.ID]bool{}
	for _, id := range e.snapshots() {
		got[id] = true
	}
	e.same(got, want, "the snapshots")
	e.race(func(i int) error { return processes[i%2].DeleteSnapshot(e.ctx, backend.ID(name(i))) })
	e.snapshotsListed()
}

// raceRestores calls the backend directly: it may be asked for many copies of one source at once.
func raceRestores(e *env) {
	v := e.create("law-a")
	e.fill(v.ID, "origin", v.Size)
	s := e.snapshot("law-snap", v.ID)
	name := func(i int) string { return fmt.Sprintf("law-%02d", i) }
	e.race(func(i int) error { return e.copyTo(name(i), backend.Source{Snapshot: s.ID}) })
	for i := range e.h.Callers {
		e.holds(backend.ID(name(i)), "origin", v.Size, v.Size)
	}
}

// raceReads reads, directly, what is made and deleted meanwhile: one volume stays, and must be in
// every list; the others are there or not.
func raceReads(e *env) {
	stays := e.create("law-stays")
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	var reads atomic.Int32
	failure := make(chan error, 1)
	go func() {
		defer close(failure)
		for ctx.Err() == nil {
			if err := e.readWhole(stays); err != nil {
				failure <- err
				reads.Add(enough)
				return
			}
			reads.Add(1)
		}
	}()
	e.race(func(i int) error {
		r := e.request(fmt.Sprintf("law-%02d", i))
		for {
			if _, err := e.b.Create(e.ctx, r); err != nil {
				return err
			}
			if err := e.b.Delete(e.ctx, r.ID); err != nil || reads.Load() >= enough {
				return err
			}
		}
	})
	stop()
	if err := <-failure; err != nil {
		e.Fatalf("while volumes came and went: %v", err)
	}
	e.listed("law-stays")
}

// enough reads for one to have met a volume that was going.
const enough = 5

func (e *env) readWhole(stays backend.Volume) error {
	if _, err := e.b.Get(e.ctx, stays.ID); err != nil {
		return err
	}
	found := false
	for v, err := range e.b.List(e.ctx) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		found = found || cmp.Equal(v, stays, cmpopts.EquateEmpty())
	}
	if !found {
		return fmt.Errorf("the list lacks %s, which nobody touched", stays.ID)
	}
	return nil
}
