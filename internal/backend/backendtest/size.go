package backendtest

import (
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

func sizeLaws() []law {
	return []law{
		{"sizes are rounded up and limits kept", nil, sizesRounded},
		{"expand grows once", []need{expander()}, expandGrows},
		{"expand never shrinks", []need{expander()}, expandNeverShrinks},
		{"expand keeps the data and adds zeros", []need{expander(), data()}, expandKeepsData},
		{"a volume grows while in use", []need{expander(), activator(), data()}, expandInUse},
		{"expand without room changes nothing", []need{expander(), limited(), thick()}, expandNoSpace},
	}
}

// sizesRounded goes through a pool, which chooses the sizes.
func sizesRounded(e *env) {
	k := e.h.Kind
	for _, c := range []struct {
		name            string
		required, limit int64
		kind            errs.Kind // Internal: it goes well
	}{
		{"law-one-byte", 1, 0, 0},
		{"law-odd", e.size + 1, 0, 0},
		{"law-exact", e.size, e.size, 0},
		{"law-room", e.size - 1, e.size + k.Granularity, 0},
		{"law-upside-down", e.size, e.size - 1, errs.OutOfRange},
		{"law-too-large", k.MaxSize + 1, 0, errs.OutOfRange},
		{"law-negative", -1, 0, errs.OutOfRange},
	} {
		v, err := e.p.Create(e.ctx, pool.VolumeRequest{Name: c.name, Required: c.required, Limit: c.limit, Parameters: e.h.Parameters})
		if c.kind != 0 {
			e.want(err, c.name, c.kind)
			e.absent(backend.IDFor(c.name))
			continue
		}
		e.must(err, c.name)
		if v.Size < max(c.required, k.MinSize) || v.Size%k.Granularity != 0 || c.limit > 0 && v.Size > c.limit {
			e.Fatalf("%s: %d bytes for required %d, limit %d", c.name, v.Size, c.required, c.limit)
		}
		e.same(e.get(v.ID), v, c.name)
	}
}

func expandGrows(e *env) {
	e.create("law-a")
	want := 2 * e.size
	v := e.expand("law-a", want)
	if v.Size != want {
		e.Fatalf("expanded to %d, asked for %d", v.Size, want)
	}
	e.same(e.expand("law-a", want), v, "the second Expand returns another volume")
	e.reopen()
	e.same(e.get("law-a"), v, "after a restart Get returns not what Expand did")
	e.same(e.create("law-a"), v, "the grown volume satisfies the request that made it")
}

func (e *env) expand(id backend.ID, size int64) backend.Volume {
	e.Helper()
	v, err := e.caps.Expander.Expand(e.ctx, id, size)
	e.must(err, "expand "+string(id))
	return v
}

func expandNeverShrinks(e *env) {
	v := e.create("law-a", sized(2*e.size))
	e.same(e.expand(v.ID, e.size), v, "Expand to less")
	e.same(e.get(v.ID), v, "Get after Expand to less")
}

func expandKeepsData(e *env) {
	v := e.create("law-a")
	e.fill(v.ID, "kept", v.Size)
	v = e.expand(v.ID, 3*e.size)
	e.holds(v.ID, "kept", e.size, v.Size)
	e.fill(v.ID, "all of it", v.Size)
	e.holds(v.ID, "all of it", v.Size, v.Size)
}

func expandInUse(e *env) {
	v := e.create("law-a")
	c := e.content(v.ID)
	before := e.activate(v.ID)
	e.fillOpen(c, "in use", v.Size)
	v = e.expand(v.ID, 2*e.size)
	if after := e.activate(v.ID); after != before {
		e.Fatalf("activated as %s, after Expand as %s", before, after)
	}
	e.holdsOpen(c, v.ID, "in use", e.size, v.Size)
	e.must(c.Close(), "close")
}

func expandNoSpace(e *env) {
	v := e.create("law-a")
	before := e.capacity()
	_, err := e.caps.Expander.Expand(e.ctx, v.ID, e.tooLarge(before)+e.size)
	e.want(err, "expand beyond what there is", errs.NoSpace)
	e.same(e.get(v.ID), v, "a refused Expand changed the volume")
	e.roomAsBefore(before)
}
