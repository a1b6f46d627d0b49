package backendtest

import (
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func snapshotLaws() []law {
	snap := snapshotter()
	return []law{
		{"a snapshot is what was asked for", []need{snap}, snapshotIs},
		{"snapshot twice is one snapshot", []need{snap}, snapshotTwice},
		{"a taken snapshot name is refused for anything else", []need{snap}, snapshotNameTaken},
		{"delete snapshot twice is one deletion", []need{snap}, snapshotDeleteTwice},
		{"a snapshot is of its instant", []need{snap, data()}, snapshotInstant},
		{"a snapshot keeps its size", []need{snap, expander(), data()}, snapshotKeepsSize},
		{"a snapshot outlives its source or holds it", []need{snap, data()}, snapshotOutlives},
		{"snapshots of one volume are independent", []need{snap, data()}, snapshotsIndependent},
		{"a list of snapshots can be left early", []need{snap}, snapshotListBroken},
	}
}

func (e *env) getSnapshot(id backend.ID) backend.Snapshot {
	e.Helper()
	s, err := e.caps.Snapshotter.GetSnapshot(e.ctx, id)
	e.must(err, "get snapshot "+string(id))
	return s
}

func (e *env) deleteSnapshot(id backend.ID) {
	e.Helper()
	e.must(e.caps.Snapshotter.DeleteSnapshot(e.ctx, id), "delete snapshot "+string(id))
}

func (e *env) snapshotAbsent(id backend.ID) {
	e.Helper()
	_, err := e.caps.Snapshotter.GetSnapshot(e.ctx, id)
	e.want(err, "get snapshot "+string(id)+", which should not exist", errs.NotFound)
}

func snapshotIs(e *env) {
	v := e.create("law-a")
	const name = `a snapshot's "name" = 🧀`
	early := time.Now().Add(-time.Minute)
	s := e.snapshot(name, v.ID)
	if s.ID != backend.IDFor(name) || s.Name != name || s.Source != v.ID || s.Size != v.Size || s.Group != "" {
		e.Fatalf("the snapshot of %+v is %+v", v, s)
	}
	if s.Created.Before(early) || s.Created.After(time.Now().Add(time.Minute)) {
		e.Fatalf("the snapshot says that it was taken at %v; it is %v now", s.Created, time.Now())
	}
	if e.h.Kind.NodeBound && len(s.Nodes) == 0 {
		e.Fatalf("the kind is bound to nodes, the snapshot to none")
	}
	e.same(e.getSnapshot(s.ID), s, "GetSnapshot returns not what CreateSnapshot did")
	e.reopen()
	e.same(e.getSnapshot(s.ID), s, "after a restart GetSnapshot returns not what CreateSnapshot did")
	for got, err := range e.caps.Snapshotter.ListSnapshots(e.ctx) {
		e.must(err, "list snapshots")
		e.same(got, s, "ListSnapshots yields not what CreateSnapshot returned")
	}
	e.snapshotsListed(s.ID)
	e.listed(v.ID) // a snapshot is no volume
}

func snapshotTwice(e *env) {
	v := e.create("law-a")
	s := e.snapshot("law-snap", v.ID)
	e.same(e.snapshot("law-snap", v.ID), s, "the second CreateSnapshot returns another one")
	e.reopen()
	e.same(e.snapshot("law-snap", v.ID), s, "CreateSnapshot after a restart returns another one")
	e.snapshotsListed(s.ID)
}

func snapshotNameTaken(e *env) {
	a, b := e.create("law-a"), e.create("law-b")
	s := e.snapshot("law-snap", a.ID)
	for what, change := range map[string]func(*backend.SnapshotRequest){
		"of another volume": func(r *backend.SnapshotRequest) { r.Source = b.ID },
		"of another name":   func(r *backend.SnapshotRequest) { r.Name = "law another" },
		"with a group":      func(r *backend.SnapshotRequest) { r.Group = "law-group" },
	} {
		r := snapshotRequest("law-snap", a.ID)
		change(&r)
		_, err := e.caps.Snapshotter.CreateSnapshot(e.ctx, r)
		e.want(err, "snapshot "+what, errs.Exists)
	}
	e.same(e.getSnapshot(s.ID), s, "a refused CreateSnapshot changed the snapshot")
}

func snapshotDeleteTwice(e *env) {
	v := e.create("law-a")
	s := e.snapshot("law-snap", v.ID)
	e.deleteSnapshot(s.ID)
	e.deleteSnapshot(s.ID)
	e.snapshotAbsent(s.ID)
	e.snapshotsListed()
	e.deleteSnapshot("law-never-existed")
	e.reopen()
	e.snapshotAbsent(s.ID)
	e.get(v.ID)
}

func snapshotInstant(e *env) {
	v := e.create("law-a")
	e.fill(v.ID, "before", v.Size)
	s := e.snapshot("law-snap", v.ID)
	e.fill(v.ID, "after", v.Size)
	e.snapshot("law-snap", v.ID) // the same one: not of this instant
	e.create("law-copy", from(backend.Source{Snapshot: s.ID}))
	e.holds("law-copy", "before", v.Size, v.Size)
	e.holds(v.ID, "after", v.Size, v.Size)
	e.deleteSnapshot(s.ID)
	e.snapshot("law-snap", v.ID) // a new one
	e.create("law-copy-2", from(backend.Source{Snapshot: s.ID}))
	e.holds("law-copy-2", "after", v.Size, v.Size)
}

func snapshotKeepsSize(e *env) {
	v := e.create("law-a")
	e.fill(v.ID, "small", v.Size)
	s := e.snapshot("law-snap", v.ID)
	e.expand(v.ID, 2*e.size)
	e.fill(v.ID, "large", 2*e.size)
	e.same(e.getSnapshot(s.ID), s, "the snapshot changed with its source's growth")
	made := e.create("law-copy", from(backend.Source{Snapshot: s.ID}))
	if made.Size != v.Size {
		e.Fatalf("the volume from the snapshot has %d bytes, asked for %d", made.Size, v.Size)
	}
	e.holds("law-copy", "small", v.Size, v.Size)
	e.create("law-copy-2", from(backend.Source{Snapshot: s.ID}), sized(2*e.size))
	e.holds("law-copy-2", "small", v.Size, 2*e.size)
}

func snapshotOutlives(e *env) {
	v := e.create("law-a")
	e.fill(v.ID, "origin", v.Size)
	s := e.snapshot("law-snap", v.ID)
	e.tryDelete(v.ID)
	e.reopen()
	e.same(e.getSnapshot(s.ID), s, "the snapshot changed when its source was deleted")
	e.create("law-copy", from(backend.Source{Snapshot: s.ID}))
	e.holds("law-copy", "origin", v.Size, v.Size)
	e.deleteSnapshot(s.ID)
	e.tryDelete(v.ID)
}

func snapshotsIndependent(e *env) {
	v := e.create("law-a")
	for _, name := range []string{"law-1", "law-2", "law-3"} {
		e.fill(v.ID, name, v.Size)
		e.snapshot(name, v.ID)
	}
	e.deleteSnapshot("law-2")
	e.snapshotsListed("law-1", "law-3")
	for _, name := range []string{"law-1", "law-3"} {
		e.create("law-copy-of-"+name, from(backend.Source{Snapshot: backend.ID(name)}))
		e.holds(backend.ID("law-copy-of-"+name), name, v.Size, v.Size)
	}
	e.holds(v.ID, "law-3", v.Size, v.Size)
}

func snapshotListBroken(e *env) {
	v := e.create("law-a")
	e.snapshot("law-1", v.ID)
	e.snapshot("law-2", v.ID)
	if n := leave(e.caps.Snapshotter.ListSnapshots(e.ctx)); n != 1 {
		e.Fatalf("a list that was left after one snapshot went on: %d", n)
	}
	e.snapshotsListed("law-1", "law-2")
}
