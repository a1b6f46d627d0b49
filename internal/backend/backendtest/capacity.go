package backendtest

import (
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

func capacityLaws() []law {
	return []law{
		{"capacity adds up", nil, capacityAddsUp},
		{"capacity goes down and comes back", []need{thick()}, capacityMoves},
		{"create without room leaves nothing", []need{limited()}, createNoSpace},
		{"the largest volume can be made", nil, largestVolume},
	}
}

func (e *env) capacity() backend.Capacity {
	e.Helper()
	c, err := e.b.Capacity(e.ctx, "")
	e.must(err, "capacity")
	return c
}

// roomAsBefore checks that what was made in vain takes no room.
func (e *env) roomAsBefore(before backend.Capacity) {
	e.Helper()
	if c := e.capacity(); c.Available < before.Available-e.h.Slack {
		e.Fatalf("%d bytes are available, %d were before", c.Available, before.Available)
	}
}

func capacityAddsUp(e *env) {
	c := e.capacity()
	if c.Total <= 0 || c.Available < 0 || c.Available > c.Total || c.MaxVolume < 0 {
		e.Fatalf("%+v", c)
	}
	if c.MaxVolume > c.Available && !e.h.Thin {
		e.Fatalf("%+v: the largest volume is larger than what is available", c)
	}
}

func capacityMoves(e *env) {
	before := e.capacity()
	size := max(e.size, roundUp(2*e.h.Slack, e.h.Kind.Granularity))
	e.create("law-a", sized(size))
	if with := e.capacity(); with.Available > before.Available-size+e.h.Slack {
		e.Fatalf("%d bytes were available, %d are with a volume of %d", before.Available, with.Available, size)
	}
	e.delete("law-a")
	e.roomAsBefore(before)
}

func createNoSpace(e *env) {
	before := e.capacity()
	r := e.request("law-a")
	r.Size = e.tooLarge(before)
	for range 2 {
		_, err := e.b.Create(e.ctx, r)
		e.want(err, "create more than there is", errs.NoSpace)
		e.absent(r.ID)
		e.roomAsBefore(before)
	}
	e.create("law-a") // the name is free
}

// largestVolume goes through a pool, which rounds what the backend says and knows the kind's limit.
func largestVolume(e *env) {
	c, err := e.p.Capacity(e.ctx, "")
	e.must(err, "capacity")
	size := (c.MaxVolume - e.h.Slack) / e.h.Kind.Granularity * e.h.Kind.Granularity
	if size < e.h.Kind.MinSize {
		e.Fatalf("no volume fits: MaxVolume is %d, the least size %d", c.MaxVolume, e.h.Kind.MinSize)
	}
	_, err = e.p.Create(e.ctx, pool.VolumeRequest{Name: "law-more", Required: e.tooLarge(c), Parameters: e.h.Parameters})
	e.want(err, "create more than MaxVolume", errs.NoSpace, errs.OutOfRange)
	v, err := e.p.Create(e.ctx, pool.VolumeRequest{Name: "law-most", Required: size, Parameters: e.h.Parameters})
	e.must(err, "create MaxVolume")
	if v.Size != size {
		e.Fatalf("created %d, asked for %d", v.Size, size)
	}
	e.delete(v.ID)
}
