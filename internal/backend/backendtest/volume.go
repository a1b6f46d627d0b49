package backendtest

import (
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

func volumeLaws() []law {
	return []law{
		{"a volume is what was asked for", nil, isWhatWasAskedFor},
		{"create twice is one volume", nil, createTwice},
		{"a taken name is refused for anything else", nil, nameTaken},
		{"delete twice is one deletion", nil, deleteTwice},
		{"a deleted name makes a new volume", nil, nameReused},
		{"a volume in use is not deleted", []need{data()}, deleteInUse},
		{"what is absent is not found", nil, absentNotFound},
		{"a new volume is blank", []need{data()}, newIsBlank},
		{"names are kept as they are", nil, namesKept},
		{"ids that look alike are different volumes", nil, alike},
		{"a closed pool opens again", nil, closeAndReopen},
		{"answers share no memory", nil, noSharedMemory},
		{"a well volume has no problems", []need{checker()}, wellIsWell},
	}
}

// same compares volumes and snapshots; whether no nodes are nil or empty is the same.
func (e *env) same(got, want any, what string) {
	e.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		e.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func isWhatWasAskedFor(e *env) {
	r := e.request("law-a")
	v, err := e.b.Create(e.ctx, r)
	e.must(err, "create")
	if v.ID != r.ID || v.Name != r.Name || v.Size != r.Size || v.Source != r.Source {
		e.Fatalf("created %+v for %+v", v, r)
	}
	e.must(v.Access.Check(), "the access of a new volume")
	if e.h.Kind.NodeBound && len(v.Nodes) == 0 {
		e.Fatalf("the kind is bound to nodes, the volume to none")
	}
	e.same(e.get(r.ID), v, "Get returns not what Create did")
	for got, err := range e.b.List(e.ctx) {
		e.must(err, "list")
		e.same(got, v, "List yields not what Create returned")
	}
	e.listed(r.ID)
}

func createTwice(e *env) {
	v := e.create("law-a")
	e.same(e.create("law-a"), v, "the second Create returns another volume")
	e.reopen()
	e.same(e.create("law-a"), v, "Create after a restart returns another volume")
	e.listed(v.ID)
}

func nameTaken(e *env) {
	unit := e.h.Kind.Granularity
	v := e.create("law-a", sized(e.size+unit))
	e.same(e.create("law-a", sized(e.size)), v, "a larger volume satisfies a request without a limit")
	for what, change := range map[string]func(*backend.Request){
		"larger than it is":      sized(e.size + 2*unit),
		"smaller, with a limit":  func(r *backend.Request) { r.Limit = e.size },
		"of another name":        func(r *backend.Request) { r.Name = "law another" },
		"as a copy of a volume":  from(backend.Source{Volume: "law-other"}),
		"with a snapshot's data": from(backend.Source{Snapshot: "law-other"}),
	} {
		r := e.request("law-a")
		change(&r)
		_, err := e.b.Create(e.ctx, r)
		e.want(err, "create "+what, errs.Exists)
	}
	e.same(e.get(v.ID), v, "a refused Create changed the volume")
}

func deleteTwice(e *env) {
	v := e.create("law-a")
	e.delete(v.ID)
	e.delete(v.ID)
	e.absent(v.ID)
	e.delete("law-never-existed")
	e.reopen()
	e.delete(v.ID)
	e.absent(v.ID)
}

func nameReused(e *env) {
	e.create("law-a")
	e.delete("law-a")
	v := e.create("law-a", sized(e.size+e.h.Kind.Granularity))
	if want := e.size + e.h.Kind.Granularity; v.Size != want {
		e.Fatalf("the new volume has %d bytes, asked for %d", v.Size, want)
	}
}

func deleteInUse(e *env) {
	v := e.create("law-a")
	c := e.content(v.ID)
	e.fillOpen(c, "in use", v.Size)
	e.want(e.b.Delete(e.ctx, v.ID), "delete while open", errs.InUse)
	e.same(e.get(v.ID), v, "a refused Delete changed the volume")
	e.holdsOpen(c, v.ID, "in use", v.Size, v.Size)
	e.must(c.Close(), "close")
	e.holds(v.ID, "in use", v.Size, v.Size)
	e.delete(v.ID)
	e.absent(v.ID)
}

func absentNotFound(e *env) {
	const id = "law-absent"
	e.create("law-present")
	e.absent(id)
	for what, call := range e.asks(id) {
		e.want(call(), what, errs.NotFound)
	}
	if a := e.caps.Activator; a != nil {
		e.must(a.Deactivate(e.ctx, id), "deactivate an absent volume")
	}
	e.listed("law-present")
}

// asks are all calls about one volume or snapshot that have no answer when it is absent.
func (e *env) asks(id backend.ID) map[string]func() error {
	asks := map[string]func() error{
		"get": func() error { _, err := e.b.Get(e.ctx, id); return err },
	}
	if x := e.caps.Expander; x != nil {
		asks["expand"] = func() error { _, err := x.Expand(e.ctx, id, 2*e.size); return err }
	}
	if c := e.caps.Cloner; c != nil {
		asks["clone source"] = func() error { return c.CloneSource(e.ctx, id) }
		asks["clone"] = func() error { return e.copyTo("law-copy", backend.Source{Volume: id}) }
	}
	if s := e.caps.Snapshotter; s != nil {
		asks["get snapshot"] = func() error { _, err := s.GetSnapshot(e.ctx, id); return err }
		asks["snapshot"] = func() error {
			_, err := s.CreateSnapshot(e.ctx, snapshotRequest("law-snap", id))
			return err
		}
		asks["restore"] = func() error { return e.copyTo("law-copy", backend.Source{Snapshot: id}) }
	}
	if a := e.caps.Activator; a != nil {
		asks["activate"] = func() error { _, err := a.Activate(e.ctx, id); return err }
	}
	if m := e.caps.Marker; m != nil {
		asks["mark"] = func() error { _, err := m.Mark(e.ctx, id); return err }
		asks["set mark"] = func() error { return m.SetMark(e.ctx, id, backend.Mark{FS: "ext4"}) }
	}
	if a := e.caps.Attacher; a != nil {
		asks["attach"] = func() error { _, err := a.Attach(e.ctx, id, toNode(1)); return err }
	}
	if c := e.caps.Checker; c != nil {
		asks["check"] = func() error { _, err := c.Check(e.ctx, id); return err }
	}
	return asks
}

func (e *env) copyTo(name string, s backend.Source) error {
	r := e.request(name)
	r.Source = s
	_, err := e.b.Create(e.ctx, r)
	return err
}

func newIsBlank(e *env) {
	v := e.create("law-a")
	e.fill(v.ID, "somebody's secret", v.Size)
	e.delete(v.ID)
	for _, name := range []string{"law-a", "law-b"} {
		v := e.create(name)
		c := e.content(v.ID)
		e.blankOpen(c, v.ID, 0, v.Size)
		e.must(c.Close(), "close")
	}
}

func namesKept(e *env) {
	names := []string{
		"pvc-4f1c", `quotes " ' and \ back`, "a=b,c:d;e|f &g $(h) `i`", "käse 乾酪 🧀", " spaces around ",
		strings.Repeat("long ", (pool.MaxNameLength-3)/5) + "end", "@tag+x.y/z#%",
	}
	for _, n := range names {
		e.create(n)
	}
	e.reopen()
	for _, n := range names {
		if v := e.get(backend.IDFor(n)); v.Name != n {
			e.Fatalf("the name %q came back as %q", n, v.Name)
		}
		e.create(n) // it satisfies the request still
	}
	for v, err := range e.b.List(e.ctx) {
		e.must(err, "list")
		if v.ID != backend.IDFor(v.Name) {
			e.Fatalf("list: %s has the name %q", v.ID, v.Name)
		}
	}
}

// alike finds backends that shorten IDs, match them by prefix, or use one name space for volumes,
// snapshots and their own things.
func alike(e *env) {
	long := strings.Repeat("x", backend.MaxIDLength-1)
	names := []string{long + "1", long + "2", "a", "a-b", "a-snap", "a-0", "0", "new", "tmp"}
	var ids []backend.ID
	for i, n := range names {
		v := e.create(n, sized(e.size+int64(i)*e.h.Kind.Granularity))
		ids = append(ids, v.ID)
	}
	e.listed(ids...)
	for i, id := range ids {
		if v := e.get(id); v.ID != id || v.Size != e.size+int64(i)*e.h.Kind.Granularity {
			e.Fatalf("get %s returns %+v", id, v)
		}
	}
	if e.caps.Snapshotter != nil {
		e.snapshot("a", "a")
		e.snapshot(long+"1", backend.ID(long+"1"))
		e.snapshotsListed("a", backend.ID(long+"1"))
		e.must(e.caps.Snapshotter.DeleteSnapshot(e.ctx, "a"), "delete snapshot a")
		e.get("a")
		e.must(e.caps.Snapshotter.DeleteSnapshot(e.ctx, backend.ID(long+"1")), "delete a snapshot with a long ID")
	}
	e.delete("a")
	e.delete(ids[0])
	e.absent("a")
	e.listed("a-b", "a-snap", "a-0", "0", "new", "tmp", ids[1])
}

func closeAndReopen(e *env) {
	v := e.create("law-a")
	e.must(e.b.Close(), "close")
	e.all = e.all[:len(e.all)-1]
	e.reopen()
	e.same(e.get(v.ID), v, "after Close and Reopen Get returns not what Create did")
	e.create("law-b")
	e.listed("law-a", "law-b")
}

// noSharedMemory finds answers that are changed by changing others.
func noSharedMemory(e *env) {
	v := e.create("law-a")
	for i := range v.Nodes {
		v.Nodes[i] = "scribble"
	}
	scribbleOn(v.Access)
	got := e.get(v.ID)
	if strings.Contains(fmt.Sprint(deref(got.Access)), "scribble") {
		e.Fatalf("the access of an earlier answer was changed, and Get returns the change")
	}
	if e.caps.Attacher != nil {
		scribbleOn(e.attach(v.ID, toNode(1)))
		if a := e.attach(v.ID, toNode(1)); strings.Contains(fmt.Sprint(deref(a)), "scribble") {
			e.Fatalf("the access of an earlier answer was changed, and Attach returns the change")
		}
	}
	for _, n := range got.Nodes {
		if n == "scribble" {
			e.Fatalf("the nodes of an earlier answer were changed, and Get returns the change")
		}
	}
}

func scribbleOn(a backend.Access) {
	if a.Local != nil {
		a.Local.ID = "scribble"
	}
	if a.ISCSI != nil {
		a.ISCSI.WWID = "scribble"
		if t := a.ISCSI.Target; t != nil {
			t.IQN, t.Portals[0] = "scribble", "scribble"
		}
	}
	if a.Mount != nil {
		a.Mount.Source = "scribble"
	}
}

func wellIsWell(e *env) {
	v := e.create("law-a")
	problems, err := e.caps.Checker.Check(e.ctx, v.ID)
	e.must(err, "check")
	if len(problems) > 0 {
		e.Fatalf("a new volume has problems: %+v", problems)
	}
}
