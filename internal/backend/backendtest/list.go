package backendtest

import (
	"fmt"
	"iter"

	"github.com/dozo-dev/dozo/internal/backend"
)

func listLaws() []law {
	return []law{
		{"list yields all of ours", nil, listAll},
		{"list yields no strangers", []need{strangers()}, listStrangers},
		{"a list can be left early", nil, listBroken},
		{"the backend can be used in a list", nil, listReentered},
	}
}

func listAll(e *env) {
	e.listed()
	var ids []backend.ID
	for i := range 5 {
		ids = append(ids, e.create(fmt.Sprintf("law-%d", i)).ID)
	}
	e.listed(ids...)
	e.reopen()
	e.listed(ids...)
	e.delete(ids[2])
	e.listed(ids[0], ids[1], ids[3], ids[4])
	for v, err := range e.b.List(e.ctx) {
		e.must(err, "list")
		e.same(v, e.get(v.ID), "List and Get differ")
	}
}

func listStrangers(e *env) {
	remove := e.h.Strangers(e.TB, e.b)
	removed := false
	defer func() {
		if !removed {
			_ = remove() // the law has failed already
		}
	}()
	e.listed()
	e.create("law-a")
	e.listed("law-a")
	e.reopen()
	e.listed("law-a")
	if e.caps.Snapshotter != nil {
		e.snapshotsListed()
	}
	e.delete("law-a")
	removed = true
	e.must(remove(), "strangers")
}

func listBroken(e *env) {
	for i := range 3 {
		e.create(fmt.Sprintf("law-%d", i))
	}
	for range 20 {
		if first := leave(e.b.List(e.ctx)); first != 1 {
			e.Fatalf("a list that was left after one volume went on: %d", first)
		}
	}
	e.create("law-after")
	e.listed("law-0", "law-1", "law-2", "law-after")
}

// leave leaves a list after its first item and returns how many it was given.
func leave[T any](seq iter.Seq2[T, error]) (n int) {
	seq(func(T, error) bool {
		n++
		return false
	})
	return n
}

// listReentered finds backends that hold a lock while their caller works on what they yielded.
func listReentered(e *env) {
	for i := range 3 {
		e.create(fmt.Sprintf("law-%d", i))
	}
	done := make(chan error, 1)
	go func() {
		for v, err := range e.b.List(e.ctx) {
			if err == nil {
				_, err = e.b.Get(e.ctx, v.ID)
			}
			if err == nil {
				err = e.b.Delete(e.ctx, v.ID)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		e.must(err, "get and delete what a list yields")
	case <-e.ctx.Done():
		e.Fatalf("get or delete hangs while a list is being read")
	}
	e.listed()
}
