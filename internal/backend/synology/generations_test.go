package synology_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// TestGenerations: a pool whose options change while a share of it grows. A node that is admitted by the new one is not forgotten by the
// old one, which writes the share's mark as it read it: nobody would take the node's rule away again.
func TestGenerations(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	ctx := t.Context()
	set := pool.EmptySet([]backend.Kind{synology.Kind()}, pool.Options{Log: slog.New(slog.DiscardHandler)})
	use := func(location string) *pool.Pool {
		t.Helper()
		c := b.config(map[string]string{"protocol": "nfs", "location": location})
		fine(t, set.Use(ctx, pool.Spec{Name: c.Pool, Kind: synology.KindName, Options: c.Options, Secrets: c.Secrets}))
		p, err := set.Get(c.Pool)
		fine(t, err)
		return p
	}
	old := use("/volume1")
	v, err := old.Create(ctx, pool.VolumeRequest{Name: "a", Required: 4 << 20})
	fine(t, err)
	var met atomic.Bool
	attached := make(chan error, 1)
	b.intercept(func(api, method string) bool {
		if api == "SYNO.Core.Share" && method == "set" && met.CompareAndSwap(false, true) {
			next := use("")
			go func() {
				_, err := next.Attach(ctx, v.ID, node)
				attached <- err
			}()
			doneOrWaiting(attached)
		}
		return false
	})
	_, err = old.Expand(ctx, v.ID, 8<<20, 0)
	fine(t, err)
	fine(t, <-attached)
	p := b.open(nil)
	if rules := b.rulesOf(p, v.ID); len(rules) == 0 {
		t.Error("the node is not served")
	}
	fine(t, use("").Detach(ctx, v.ID, node.Node))
	if rules := b.rulesOf(p, v.ID); len(rules) > 0 {
		t.Errorf("when the node is shut out the rules are %+v", rules)
	}
	fine(t, set.Close(ctx))
}

// TestGenerationsOfANode: what several volumes have in common, the target of a node, is not changed by the new pool under an operation
// of the old one on another volume.
func TestGenerationsOfANode(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	ctx, kind := t.Context(), synology.Kind()
	open := func() *synology.Backend {
		p, err := kind.Open(ctx, b.config(nil))
		fine(t, err)
		t.Cleanup(func() { _ = p.Close() })
		return p.(*synology.Backend)
	}
	old, next := open(), open()
	for _, name := range []string{"a", "b", "c"} {
		b.create(old, name)
	}
	b.attach(old, "a", node)
	b.attach(old, "b", node)
	var met atomic.Bool
	detached := make(chan error, 1)
	b.intercept(func(_, method string) bool {
		if method == "map_target" && met.CompareAndSwap(false, true) {
			go func() { detached <- next.Detach(context.WithoutCancel(ctx), "a", node.Node) }()
			doneOrWaiting(detached)
		}
		return false
	})
	b.attach(old, "c", node) // and is not told to call again
	fine(t, <-detached)
}

// doneOrWaiting returns when an operation has ended, or had the time for it.
func doneOrWaiting(ended chan error) {
	select {
	case err := <-ended:
		ended <- err
	case <-time.After(200 * time.Millisecond):
	}
}
