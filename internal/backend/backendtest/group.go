package backendtest

import (
	"fmt"
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func groupLaws() []law {
	group := groupSnapshotter()
	return []law{
		{"a group is what was asked for", []need{group}, groupIs},
		{"a group is made whole or not at all", []need{group}, groupWhole},
		{"a group is of its volumes only", []need{group}, groupNameTaken},
		{"a group is of one instant", []need{group, data()}, groupInstant},
	}
}

func groupRequests(name string, of ...backend.ID) []backend.SnapshotRequest {
	var rs []backend.SnapshotRequest
	for _, id := range of {
		r := snapshotRequest(fmt.Sprintf("%s/%s", name, id), id)
		r.Group = backend.IDFor(name)
		rs = append(rs, r)
	}
	return rs
}

func groupIs(e *env) {
	a, b := e.create("law-a"), e.create("law-b", sized(2*e.size))
	rs := groupRequests("law-group", a.ID, b.ID)
	made, err := e.caps.GroupSnapshotter.CreateGroup(e.ctx, rs)
	e.must(err, "create group")
	if len(made) != 2 {
		e.Fatalf("a group of 2 has %d snapshots", len(made))
	}
	for i, s := range made {
		e.must(s.Satisfies(rs[i]), "a snapshot of the group")
		e.same(e.getSnapshot(s.ID), s, "GetSnapshot returns not what CreateGroup did")
	}
	if made[0].Size != a.Size || made[1].Size != b.Size {
		e.Fatalf("the snapshots of %d and %d bytes have %d and %d", a.Size, b.Size, made[0].Size, made[1].Size)
	}
	e.reopen()
	again, err := e.caps.GroupSnapshotter.CreateGroup(e.ctx, rs)
	e.must(err, "create group again")
	e.same(again, made, "the second CreateGroup returns other snapshots")
	e.snapshotsListed(made[0].ID, made[1].ID)
	for _, s := range made {
		e.deleteSnapshot(s.ID)
	}
}

func groupWhole(e *env) {
	a := e.create("law-a")
	rs := groupRequests("law-group", a.ID, "law-absent")
	_, err := e.caps.GroupSnapshotter.CreateGroup(e.ctx, rs)
	e.want(err, "a group with an absent volume", errs.NotFound)
	e.snapshotsListed()
	slices.Reverse(rs)
	_, err = e.caps.GroupSnapshotter.CreateGroup(e.ctx, rs)
	e.want(err, "a group with an absent volume", errs.NotFound)
	e.snapshotsListed()
	e.create("law-absent")
	made, err := e.caps.GroupSnapshotter.CreateGroup(e.ctx, rs)
	e.must(err, "create group")
	e.snapshotsListed(made[0].ID, made[1].ID)
}

// groupNameTaken: what is added to a group later is of another instant.
func groupNameTaken(e *env) {
	e.create("law-a")
	e.create("law-b")
	made, err := e.caps.GroupSnapshotter.CreateGroup(e.ctx, groupRequests("law-group", "law-a"))
	e.must(err, "create group")
	for range 2 {
		_, err = e.caps.GroupSnapshotter.CreateGroup(e.ctx, groupRequests("law-group", "law-a", "law-b"))
		e.want(err, "the group with one more volume", errs.Exists)
		e.snapshotsListed(made[0].ID)
	}
}

// groupInstant writes a counter to two volumes, one after the other; see copyInUse.
func groupInstant(e *env) {
	a, b := e.create("law-a"), e.create("law-b")
	contents := []Content{e.content(a.ID), e.content(b.ID)}
	w := e.countIn(contents, []int64{0, 0})
	var groups [][]backend.Snapshot
	for i := range 3 {
		w.progress()
		made, err := e.caps.GroupSnapshotter.CreateGroup(e.ctx, groupRequests(fmt.Sprintf("law-group-%d", i), a.ID, b.ID))
		if err != nil {
			e.want(err, "a group of volumes in use", errs.InUse, errs.Busy, errs.Unsupported)
			continue
		}
		groups = append(groups, made)
	}
	w.stop()
	for i, made := range groups {
		var counts [2]uint64
		for j, s := range made {
			v := e.create(fmt.Sprintf("law-copy-%d-%d", i, j), from(backend.Source{Snapshot: s.ID}))
			c := e.content(v.ID)
			counts[j] = e.counter(c, 0)
			e.must(c.Close(), "close")
		}
		if counts[0] != counts[1] && counts[0] != counts[1]+1 {
			e.Fatalf("a group of two instants: write %d to one volume came before write %d to the other", counts[0], counts[1])
		}
	}
	for _, c := range contents {
		e.must(c.Close(), "close")
	}
}
