package backendtest

import (
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// copyLaws hold for volumes made from snapshots and for those made from volumes.
func copyLaws() []law {
	var all []law
	for _, c := range copiers() {
		add := func(name string, run func(*env, copier), more ...need) {
			all = append(all, law{"a " + c.name + " " + name, append(more, c.need()), func(e *env) { run(e, c) }})
		}
		add("records its source", copyRecords)
		add("has its source's data", copyHasData, data())
		add("can be larger than its source", copyLarger, data())
		add("shares no writes with its source", copyIndependent, data())
		add("lives without its source", copyOutlives, data())
		add("of a copy lives without both", copyOfCopy, data())
		add("of something absent leaves nothing", copyOfAbsent)
		add("without room leaves nothing", copyNoSpace, limited(), thick())
		add("smaller than its source is refused", copySmaller)
		add("of a volume in use is consistent or refused", copyInUse, data())
	}
	return all
}

func copyRecords(e *env, c copier) {
	v := e.create("law-a")
	source := c.of(e, v.ID)
	made := e.create("law-copy", from(source))
	e.same(e.create("law-copy", from(source)), made, "the second Create returns another volume")
	e.reopen()
	if got := e.get(made.ID); got.Source != source {
		e.Fatalf("the source %+v came back as %+v", source, got.Source)
	}
	for got, err := range e.b.List(e.ctx) {
		e.must(err, "list")
		if got.ID == made.ID && got.Source != source {
			e.Fatalf("list: the source %+v came back as %+v", source, got.Source)
		}
	}
	_, err := e.b.Create(e.ctx, e.request("law-copy"))
	e.want(err, "create a blank volume where there is a copy", errs.Exists)
}

func copyHasData(e *env, c copier) {
	v := e.create("law-a")
	e.fill(v.ID, "origin", v.Size)
	made := e.create("law-copy", from(c.of(e, v.ID)))
	if made.Size != v.Size {
		e.Fatalf("the copy has %d bytes, asked for %d", made.Size, v.Size)
	}
	e.holds(made.ID, "origin", v.Size, made.Size)
}

func copyLarger(e *env, c copier) {
	v := e.create("law-a")
	e.fill(v.ID, "origin", v.Size)
	made := e.create("law-copy", from(c.of(e, v.ID)), sized(2*e.size))
	if made.Size != 2*e.size {
		e.Fatalf("the copy has %d bytes, asked for %d", made.Size, 2*e.size)
	}
	e.holds(made.ID, "origin", v.Size, made.Size)
	e.fill(made.ID, "all of it", made.Size)
	e.holds(v.ID, "origin", v.Size, v.Size)
}

func copyIndependent(e *env, c copier) {
	v := e.create("law-a")
	e.fill(v.ID, "origin", v.Size)
	source := c.of(e, v.ID)
	e.create("law-copy", from(source))
	e.fill("law-copy", "changed in the copy", v.Size)
	e.holds(v.ID, "origin", v.Size, v.Size)
	e.fill(v.ID, "changed in the source", v.Size)
	e.holds("law-copy", "changed in the copy", v.Size, v.Size)
	if source.Snapshot != "" {
		e.create("law-copy-2", from(source))
		e.holds("law-copy-2", "origin", v.Size, v.Size)
	}
}

// tryDelete deletes a volume, which may be refused while something depends on it.
func (e *env) tryDelete(id backend.ID) {
	e.Helper()
	v, absent := e.b.Get(e.ctx, id)
	err := e.b.Delete(e.ctx, id)
	if err == nil || errs.Is(absent, errs.NotFound) {
		e.must(err, "delete "+string(id))
		e.absent(id)
		return
	}
	e.want(err, "delete "+string(id)+", which was copied", errs.InUse)
	e.same(e.get(id), v, "a refused Delete changed the volume")
}

func copyOutlives(e *env, c copier) {
	v := e.create("law-a")
	e.fill(v.ID, "origin", v.Size)
	source := c.of(e, v.ID)
	e.create("law-copy", from(source))
	if source.Snapshot != "" {
		e.must(e.caps.Snapshotter.DeleteSnapshot(e.ctx, source.Snapshot), "delete a snapshot that was restored")
	}
	e.tryDelete(v.ID)
	e.reopen()
	e.holds("law-copy", "origin", v.Size, v.Size)
	e.create("law-copy", from(source)) // the same call finds it, though its source is gone
}

func copyOfCopy(e *env, c copier) {
	v := e.create("law-a")
	e.fill(v.ID, "origin", v.Size)
	first := c.of(e, v.ID)
	e.create("law-copy", from(first))
	forget := func() {
		if first.Snapshot != "" {
			e.must(e.caps.Snapshotter.DeleteSnapshot(e.ctx, first.Snapshot), "delete snapshot")
		}
	}
	forget()
	e.create("law-copy-2", from(c.of(e, "law-copy")))
	forget() // the second has the same name
	e.tryDelete(v.ID)
	e.tryDelete("law-copy")
	e.holds("law-copy-2", "origin", v.Size, v.Size)
}

func copyOfAbsent(e *env, c copier) {
	v := e.create("law-a")
	source := c.of(e, v.ID)
	before := e.list()
	if source.Snapshot != "" {
		source = backend.Source{Snapshot: "law-absent"}
	} else {
		source = backend.Source{Volume: "law-absent"}
	}
	e.want(e.copyTo("law-copy", source), "copy what is absent", errs.NotFound)
	e.absent("law-copy")
	_, err := e.p.Create(e.ctx, pool.VolumeRequest{Name: "law-copy", Source: source, Parameters: e.h.Parameters})
	e.want(err, "copy what is absent, through a pool", errs.NotFound)
	e.listed(before...)
	e.create("law-copy") // the name is free
}

func copyNoSpace(e *env, c copier) {
	v := e.create("law-a")
	source := c.of(e, v.ID)
	before := e.capacity()
	r := e.request("law-copy")
	r.Source, r.Size = source, e.tooLarge(before)
	_, err := e.b.Create(e.ctx, r)
	e.want(err, "create more than there is", errs.NoSpace)
	e.absent(r.ID)
	e.roomAsBefore(before)
}

// copySmaller goes through a pool, which is who refuses it, by what the backend says of sizes.
func copySmaller(e *env, c copier) {
	v := e.create("law-a", sized(3*e.size))
	source := c.of(e, v.ID)
	_, err := e.p.Create(e.ctx, pool.VolumeRequest{Name: "law-copy", Required: e.size, Source: source, Parameters: e.h.Parameters})
	e.want(err, "copy to less than the source", errs.OutOfRange)
	e.absent("law-copy")
}

// copyInUse writes a counter in two places, one after the other, while copies are made. In a copy
// of one instant the first is as high as the second or one higher.
func copyInUse(e *env, c copier) {
	v := e.create("law-a")
	content := e.content(v.ID)
	w := e.countIn([]Content{content, content}, []int64{0, v.Size - patch})
	var made []backend.ID
	for _, name := range []string{"law-copy-1", "law-copy-2", "law-copy-3"} {
		w.progress()
		r := e.request(name)
		source, err := e.sourceInUse(c, v.ID, name)
		if err == nil {
			r.Source = source
			_, err = e.b.Create(e.ctx, r)
		}
		if err != nil {
			e.want(err, "copy a volume in use", errs.InUse, errs.Busy, errs.Unsupported)
			e.absent(r.ID)
			continue
		}
		made = append(made, r.ID)
	}
	w.stop()
	e.must(content.Close(), "close")
	for _, id := range made {
		copied := e.content(id)
		first, second := e.counter(copied, 0), e.counter(copied, v.Size-patch)
		e.must(copied.Close(), "close")
		if first != second && first != second+1 {
			e.Fatalf("%s holds two instants: write %d came before write %d of the other place", id, first, second)
		}
	}
}

func (e *env) sourceInUse(c copier, id backend.ID, name string) (backend.Source, error) {
	if c.name != "restore" {
		return backend.Source{Volume: id}, e.caps.Cloner.CloneSource(e.ctx, id)
	}
	s, err := e.caps.Snapshotter.CreateSnapshot(e.ctx, snapshotRequest(name, id))
	return backend.Source{Snapshot: s.ID}, err
}
