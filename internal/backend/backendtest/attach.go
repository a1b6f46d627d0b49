package backendtest

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func attachLaws() []law {
	return []law{
		{"attach twice is one access", []need{attacher()}, attachTwice},
		{"a node is not admitted otherwise than it was", []need{attacher()}, attachOtherwise},
		{"what was a block device is raw", []need{attacher()}, rawStays},
		{"a copy of what was a block device is raw", []need{attacher(), snapshotter()}, rawCopies},
		{"a copy says that it is one", []need{attacher(), snapshotter(), cloner()}, copiesSay},
		{"a second node is kept out", []need{attacher()}, secondNode},
		{"nodes that share are admitted together", []need{attacher()}, sharedNodes},
		{"detach twice is one detachment", []need{attacher()}, detachTwice},
		{"detach of no node is of all", []need{attacher()}, detachAll},
		{"an attached volume is not deleted", []need{attacher()}, deleteAttached},
		{"an attached volume grows", []need{attacher(), expander()}, expandAttached},
		{"an attached volume is copied", []need{attacher(), snapshotter()}, snapshotAttached},
		{"a node that nobody can shut out is not out", []need{attacher(), unreachable()}, unreachableDetach},
		{"many callers of one node get one access", []need{attacher()}, raceOneNode},
		{"one of many nodes is admitted", []need{attacher()}, raceManyNodes},
		{"a cancelled attach can be finished", []need{attacher()}, cancelledAttach},
		{"a cancelled detach can be finished", []need{attacher()}, cancelledDetach},
	}
}

// toNode asks for the nth node, whose address is one for documentation (RFC 5737).
func toNode(n int, change ...func(*backend.AttachRequest)) backend.AttachRequest {
	r := backend.AttachRequest{Node: fmt.Sprintf("law-node-%d", n), Addresses: []string{fmt.Sprintf("192.0.2.%d", n+1)}}
	for _, c := range change {
		c(&r)
	}
	return r
}

func shared(r *backend.AttachRequest) { r.Shared = true }

func (e *env) attach(id backend.ID, r backend.AttachRequest) backend.Access {
	e.Helper()
	a, err := e.caps.Attacher.Attach(e.ctx, id, r)
	e.must(err, fmt.Sprintf("attach %s to %s", id, r.Node))
	return a
}

func (e *env) detach(id backend.ID, node string) {
	e.Helper()
	e.must(e.caps.Attacher.Detach(e.ctx, id, node), fmt.Sprintf("detach %s from %q", id, node))
}

// keptOut checks that a node is refused because of another, whom the error has to name.
func (e *env) keptOut(id backend.ID, r backend.AttachRequest, because string) {
	e.Helper()
	_, err := e.caps.Attacher.Attach(e.ctx, id, r)
	e.want(err, "attach to "+r.Node+" while "+because+" is admitted", errs.InUse)
	if !strings.Contains(err.Error(), because) {
		e.Fatalf("attach to %s while %s is admitted: %v: does not name the node", r.Node, because, err)
	}
}

func attachTwice(e *env) {
	v := e.create("law-a")
	first := e.attach(v.ID, toNode(1))
	e.must(first.Check(), "the access that Attach returns")
	e.sameWay(v.Access, first)
	e.same(e.attach(v.ID, toNode(1)), first, "the second Attach returns another access")
	e.same(e.get(v.ID), v, "Get returns not what Create did, now that the volume is attached")
	e.reopen()
	e.same(e.attach(v.ID, toNode(1)), first, "Attach after a restart returns another access")
	other := e.create("law-b")
	if second := e.attach(other.ID, toNode(1)); fmt.Sprint(deref(second)) == fmt.Sprint(deref(first)) {
		e.Fatalf("two volumes are reached by one access: %v", deref(first))
	}
}

// attachOtherwise: who mounted a volume to write to it must not find it read-only, nor may who reads be let write unnoticed.
func attachOtherwise(e *env) {
	v := e.create("law-a")
	for _, readOnly := range []bool{false, true} {
		now := toNode(1, func(r *backend.AttachRequest) { r.ReadOnly = readOnly })
		other := toNode(1, func(r *backend.AttachRequest) { r.ReadOnly = !readOnly })
		a := e.attach(v.ID, now)
		e.reopen()
		_, err := e.caps.Attacher.Attach(e.ctx, v.ID, other)
		e.want(err, fmt.Sprintf("attach with read-only %v what is attached with %v", !readOnly, readOnly), errs.Exists)
		e.same(e.attach(v.ID, now), a, "the refused Attach changed the access")
		e.detach(v.ID, now.Node)
		e.same(e.get(v.ID), v, "Get returns not what Create did, now that the volume was attached and detached")
	}
}

// sameWay checks that a node gets to what the PersistentVolume names.
func (e *env) sameWay(kept, given backend.Access) {
	e.Helper()
	if given.ISCSI != nil {
		if given.ISCSI.Target == nil {
			e.Fatalf("attached by iSCSI, and no target is named")
		}
		iscsi := *given.ISCSI
		iscsi.Target, iscsi.Raw, iscsi.Copied = nil, false, false
		given.ISCSI = &iscsi
	}
	e.same(given, kept, "Attach leads to something else than Create said")
}

// used attaches a volume and detaches it again, and checks that it is raw, if it is a device.
func (e *env) used(id backend.ID, raw bool, change ...func(*backend.AttachRequest)) {
	e.Helper()
	r := toNode(1, change...)
	first := e.attach(id, r)
	if first.ISCSI != nil && first.ISCSI.Raw != raw {
		e.Fatalf("attached as %+v volume %s is raw: %v, and it was to be %v", r, id, !raw, raw)
	}
	e.same(e.attach(id, r), first, "the second Attach returns another access")
	e.detach(id, r.Node)
}

func asBlock(r *backend.AttachRequest)  { r.Block = true }
func readOnly(r *backend.AttachRequest) { r.ReadOnly = true }

// rawStays: nobody else knows that a block device which shows no file system is not blank.
func rawStays(e *env) {
	v := e.create("law-a")
	e.used(v.ID, false)
	e.used(v.ID, false, readOnly)
	e.used(v.ID, true, asBlock)
	e.reopen()
	e.used(v.ID, true)
	e.used(v.ID, true, readOnly)
	e.same(e.get(v.ID), v, "Get returns not what Create did, now that the volume was a block device")
	other := e.create("law-b")
	e.used(other.ID, false)
	e.used(other.ID, true, asBlock, readOnly) // who opens a device that is only to be read can write to it all the same
}

// rawCopies: a snapshot may be of any instant, also if it was taken before its volume was attached.
func rawCopies(e *env) {
	v := e.create("law-a")
	e.used(v.ID, true, asBlock)
	s := e.snapshot("law-snap", v.ID)
	c := e.create("law-copy", from(backend.Source{Snapshot: s.ID}))
	e.used(c.ID, true)
	e.used(e.create("law-again", from(backend.Source{Snapshot: e.snapshot("law-snap-2", c.ID).ID})).ID, true)
}

// copiesSay: a file system that is there twice is used beside itself, which a node has to know beforehand.
func copiesSay(e *env) {
	v := e.create("law-a")
	c := e.create("law-copy", from(backend.Source{Snapshot: e.snapshot("law-snap", v.ID).ID}))
	again := e.create("law-again", from(backend.Source{Volume: c.ID}))
	for range 2 {
		for id, copied := range map[backend.ID]bool{v.ID: false, c.ID: true, again.ID: true} {
			a := e.attach(id, toNode(1))
			if a.ISCSI != nil && a.ISCSI.Copied != copied {
				e.Fatalf("attached, volume %s is a copy: %v, and it was to be %v", id, !copied, copied)
			}
			e.detach(id, "law-node-1")
		}
		e.reopen()
	}
}

// deref returns an access as text can have it, without pointers.
func deref(a backend.Access) []any {
	var all []any
	if a.Local != nil {
		all = append(all, *a.Local)
	}
	if a.ISCSI != nil {
		all = append(all, a.ISCSI.WWID)
		if a.ISCSI.Target != nil {
			all = append(all, *a.ISCSI.Target)
		}
	}
	if a.Mount != nil {
		all = append(all, *a.Mount)
	}
	return all
}

// secondNode: what a node that is cut off still writes must not arrive beside what another one writes.
func secondNode(e *env) {
	v := e.create("law-a")
	e.attach(v.ID, toNode(1))
	e.keptOut(v.ID, toNode(2), "law-node-1")
	e.reopen()
	e.keptOut(v.ID, toNode(2), "law-node-1")
	e.attach(v.ID, toNode(1))
	e.detach(v.ID, "law-node-1")
	e.attach(v.ID, toNode(2))
	e.keptOut(v.ID, toNode(1), "law-node-2")
}

func sharedNodes(e *env) {
	v := e.create("law-a")
	first, second := e.attach(v.ID, toNode(1, shared)), e.attach(v.ID, toNode(2, shared))
	e.same(e.attach(v.ID, toNode(1, shared)), first, "a second node changed the access of the first")
	_, err := e.caps.Attacher.Attach(e.ctx, v.ID, toNode(3))
	e.want(err, "attach to a node that does not share", errs.InUse)
	e.detach(v.ID, "law-node-1")
	e.keptOut(v.ID, toNode(3), "law-node-2")
	e.same(e.attach(v.ID, toNode(2, shared)), second, "the detachment of a node changed the access of another")
	e.keptOut(v.ID, toNode(1), "law-node-2")
}

func detachTwice(e *env) {
	v, other := e.create("law-a"), e.create("law-b")
	e.detach(v.ID, "law-node-1")
	e.attach(v.ID, toNode(1))
	e.attach(other.ID, toNode(1))
	e.detach(v.ID, "law-node-2")
	e.keptOut(v.ID, toNode(2), "law-node-1")
	e.detach(v.ID, "law-node-1")
	e.detach(v.ID, "law-node-1")
	e.reopen()
	e.detach(v.ID, "law-node-1")
	e.keptOut(other.ID, toNode(2), "law-node-1") // it was no business of this volume
	e.delete(v.ID)
	e.detach(v.ID, "law-node-1")
	e.detach(v.ID, "")
	e.detach("law-never-existed", "law-node-1")
	e.absent(v.ID)
}

func detachAll(e *env) {
	v := e.create("law-a")
	e.detach(v.ID, "")
	e.attach(v.ID, toNode(1, shared))
	e.attach(v.ID, toNode(2, shared))
	e.detach(v.ID, "")
	e.attach(v.ID, toNode(3))
	e.detach(v.ID, "")
	e.delete(v.ID)
	e.absent(v.ID)
}

func deleteAttached(e *env) {
	v := e.create("law-a")
	e.attach(v.ID, toNode(1))
	e.want(e.b.Delete(e.ctx, v.ID), "delete while attached", errs.InUse)
	e.same(e.get(v.ID), v, "a refused Delete changed the volume")
	e.keptOut(v.ID, toNode(2), "law-node-1")
	e.detach(v.ID, "law-node-1")
	e.delete(v.ID)
	e.absent(v.ID)
}

func expandAttached(e *env) {
	v := e.create("law-a")
	a := e.attach(v.ID, toNode(1))
	if got := e.expand(v.ID, 2*e.size); got.Size != 2*e.size {
		e.Fatalf("expanded to %d while attached, asked for %d", got.Size, 2*e.size)
	}
	e.keptOut(v.ID, toNode(2), "law-node-1")
	e.same(e.attach(v.ID, toNode(1)), a, "the expansion changed the access")
}

// snapshotAttached: a copy is a volume of its own, which nobody is admitted to.
func snapshotAttached(e *env) {
	v := e.create("law-a")
	a := e.attach(v.ID, toNode(1))
	s := e.snapshot("law-snap", v.ID)
	e.keptOut(v.ID, toNode(2), "law-node-1")
	e.same(e.attach(v.ID, toNode(1)), a, "the snapshot changed the access")
	c := e.create("law-copy", from(backend.Source{Snapshot: s.ID}))
	e.attach(c.ID, toNode(2))
	e.keptOut(v.ID, toNode(2), "law-node-1")
}

// unreachableDetach: who is told that a node is out starts another one.
func unreachableDetach(e *env) {
	v := e.create("law-a")
	e.attach(v.ID, toNode(1))
	restore := e.unreachable()
	for _, node := range []string{"law-node-1", "law-node-2", ""} {
		e.want(e.caps.Attacher.Detach(e.ctx, v.ID, node), fmt.Sprintf("detach from %q", node), notAsked()...)
	}
	_, err := e.caps.Attacher.Attach(e.ctx, v.ID, toNode(2))
	e.want(err, "attach", notAsked()...)
	restore()
	e.keptOut(v.ID, toNode(2), "law-node-1")
}

// raceOneNode goes through two pools.
func raceOneNode(e *env) {
	v := e.create("law-a")
	processes := e.processes()
	for range 3 {
		given := make([]backend.Access, e.h.Callers)
		e.race(func(i int) (err error) {
			given[i], err = processes[i%2].Attach(e.ctx, v.ID, toNode(1))
			return err
		})
		for _, a := range given {
			e.same(a, given[0], "two callers have two accesses")
		}
		e.race(func(i int) error { return processes[i%2].Detach(e.ctx, v.ID, "law-node-1") })
	}
	e.attach(v.ID, toNode(2))
}

// raceManyNodes goes through two pools. That all lose is not good, but safe: they call again.
func raceManyNodes(e *env) {
	v := e.create("law-a")
	processes := e.processes()
	if e.h.Elected {
		processes[1] = processes[0]
	}
	for range 3 {
		var mu sync.Mutex
		var won []string
		e.race(func(i int) error {
			r := toNode(i)
			_, err := processes[i%2].Attach(e.ctx, v.ID, r)
			switch {
			case err == nil:
				mu.Lock()
				won = append(won, r.Node)
				mu.Unlock()
			case errs.Is(err, errs.InUse):
				return nil
			}
			return err
		})
		switch len(won) {
		case 0:
			e.attach(v.ID, toNode(e.h.Callers))
		case 1:
			e.keptOut(v.ID, toNode(e.h.Callers), won[0])
		default:
			e.Fatalf("each of these nodes was told that it alone is admitted: %v", won)
		}
		e.detach(v.ID, "")
	}
}

func cancelledAttach(e *env) {
	v := e.create("law-a")
	for _, d := range moments() {
		e.at(d, "attach", func(ctx context.Context) error {
			_, err := e.caps.Attacher.Attach(ctx, v.ID, toNode(1))
			return err
		})
		e.attach(v.ID, toNode(1))
		e.keptOut(v.ID, toNode(2), "law-node-1")
		e.detach(v.ID, "law-node-1")
		e.attach(v.ID, toNode(2))
		e.detach(v.ID, "law-node-2")
	}
}

func cancelledDetach(e *env) {
	v := e.create("law-a")
	for _, d := range moments() {
		e.attach(v.ID, toNode(1))
		e.at(d, "detach", func(ctx context.Context) error { return e.caps.Attacher.Detach(ctx, v.ID, "law-node-1") })
		e.detach(v.ID, "law-node-1")
		e.attach(v.ID, toNode(2))
		e.detach(v.ID, "law-node-2")
	}
}
