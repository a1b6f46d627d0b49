package synology_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// counts are the calls of an operation by method, and the time it took.
type counts struct {
	calls map[string]int
	took  time.Duration
}

func (c counts) sum() (n int) {
	for _, k := range c.calls {
		n += k
	}
	return n
}

func (c counts) String() string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(c.calls)) {
		short := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(name, "SYNO."), "Core."), "ISCSI.")
		if n := c.calls[name]; n > 1 {
			short = fmt.Sprintf("%d %s", n, short)
		}
		texts = append(texts, short)
	}
	return strings.Join(texts, ", ")
}

// TestCallsPerOperation: how many calls an operation takes is the same with 500 LUNs as with none besides.
func TestCallsPerOperation(t *testing.T) {
	few, many := count(t, 0), count(t, 500)
	t.Logf("calls: %-30s %5s %12s %12s  %s", "operation", "calls", "time", "with 500", "which")
	for _, op := range operations() {
		a, b := few[op.name], many[op.name]
		t.Logf("calls: %-30s %5d %12v %12v  %s", op.name, a.sum(), a.took.Round(100*time.Microsecond), b.took.Round(100*time.Microsecond), a)
		if !maps.Equal(a.calls, b.calls) {
			t.Errorf("%s: %v with a few LUNs, %v with 500 more", op.name, a.calls, b.calls)
		}
		if a.sum() > 15 {
			t.Errorf("%s: %d calls: %v", op.name, a.sum(), a)
		}
	}
}

func count(t *testing.T, luns int) map[string]counts {
	t.Helper()
	all := map[string]counts{}
	for _, op := range operations() {
		b, p := furnishedWith(t, dsmsim.Config{VirtualDisks: luns, ForgetQuota: true,
			Model: dsmsim.Model{Name: "x", LUNs: luns + 20, Targets: 20, SnapshotsPerLUN: 20, SnapshotsPerShare: 20, Shares: 20}})
		b.sim.ResetCalls()
		start := time.Now()
		fine(t, op.do(t.Context(), p))
		all[op.name] = counts{b.sim.Calls(), time.Since(start)}
		fine(t, b.server.Stop())
	}
	return all
}

// TestCeilings: what a model allows no more of is no room, with the ceiling's name and value, and what was left of the try is nothing.
func TestCeilings(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{VirtualDisks: 2, Model: dsmsim.Model{Name: "DS425+", LUNs: 3, Targets: 1, SnapshotsPerLUN: 1, SnapshotsPerShare: 1, Shares: 1}})
	p, ctx := b.open(nil), t.Context()
	v := b.create(p, "a")
	says := func(err error, words string) {
		t.Helper()
		is(t, err, errs.NoSpace)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v does not say %q", err, words)
		}
	}
	_, err := p.Create(ctx, request("b"))
	says(err, "has 3 LUNs (max_iscsiluns)")
	if c, err := p.Capacity(ctx, ""); err != nil || c.Available != 0 || c.MaxVolume != 0 || c.Total == 0 {
		t.Errorf("capacity %+v, %v", c, err)
	}
	snap := func(id backend.ID) error {
		_, err := p.CreateSnapshot(ctx, backend.SnapshotRequest{ID: id, Name: string(id), Source: v.ID})
		return err
	}
	fine(t, snap("s"))
	says(snap("t"), "has 1 snapshots (max_snapshot_per_lun)")
	b.attach(p, v.ID, node)
	_, err = p.Attach(ctx, v.ID, shareable("n2"))
	says(err, "has 1 iSCSI targets (max_iscsitrgs)")
	says(err, "one that a LUN left (.W and digits in its name) gets no other")
	b.create(p, "f", shared)
	_, err = p.Create(ctx, request("g", shared))
	says(err, "allows no more shares")
	is(t, p.Delete(ctx, v.ID), errs.InUse)
	fine(t, p.Detach(ctx, v.ID, "n1"))
	is(t, p.Delete(ctx, v.ID), errs.InUse) // its snapshot would go with it
	fine(t, p.DeleteSnapshot(ctx, "s"))
	fine(t, p.Delete(ctx, v.ID))
	if c, err := p.Capacity(ctx, ""); err != nil || c.MaxVolume == 0 {
		t.Errorf("capacity %+v, %v", c, err)
	}
	b.create(p, "b")
}

// TestPlace: where a volume goes, of which type it is then, and what cannot be.
func TestPlace(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{Volumes: []dsmsim.Volume{
		{Path: "/volume1", FileSystem: "btrfs", Total: 1 << 30}, {Path: "/volume2", FileSystem: "ext4", Total: 4 << 30},
		{Path: "/volume3", FileSystem: "btrfs", Total: 2 << 30}, {Path: "/volume4", FileSystem: "btrfs", Total: 8 << 30, Status: "crashed"},
		{Path: "/volumeUSB1", FileSystem: "ext4", Total: 16 << 30, External: true}}})
	any, one := b.open(nil), b.open(map[string]string{"location": "/volume1"})
	for i, c := range []struct {
		pool *synology.Backend
		size int64
		with map[string]string
		want string // place and type of a LUN, place of a share, or a kind
	}{
		{any, 1 << 20, nil, "/volume2 THIN"},
		{any, 1 << 20, map[string]string{"type": "thick"}, "/volume2 FILE"},
		{any, 1 << 20, map[string]string{"type": "BLUN"}, "/volume3 BLUN"},
		{any, 1 << 20, map[string]string{"type": "BLUN_THICK", "fua": "true", "sync": "true"}, "/volume3 BLUN_THICK"},
		{any, 1 << 20, map[string]string{"location": "/volume1"}, "/volume1 BLUN"},
		{any, 3 << 30, map[string]string{"type": "BLUN"}, "no space"},
		{any, 1 << 20, map[string]string{"location": "/volume4"}, "no space"},
		{any, 1 << 20, map[string]string{"location": "/volume9"}, "unavailable"},
		{any, 1 << 20, map[string]string{"location": "/volume1", "type": "THIN"}, "invalid"},
		{any, 1 << 20, map[string]string{"protocol": "nfs"}, "/volume3"},
		{any, 1 << 20, map[string]string{"protocol": "nfs", "quota": "false"}, "/volume2"},
		{any, 1 << 20, map[string]string{"protocol": "nfs", "location": "/volume2"}, "invalid"},
		{one, 1 << 20, nil, "/volume1 BLUN"},
		{one, 2 << 30, nil, "no space"},
		{one, 1 << 20, map[string]string{"location": "/volume3"}, "/volume3 BLUN"},
	} {
		r := request(fmt.Sprintf("v%d", i), sized(c.size))
		for k, v := range c.with {
			r.Parameters[k] = v
		}
		v, err := c.pool.Create(t.Context(), r)
		got := ""
		switch {
		case err != nil:
			got = kindOf(err)
		case v.Access.Mount != nil:
			s, err := b.nas.Share(t.Context(), b.share(c.pool, v.ID))
			fine(t, err)
			got = s.VolumePath
		default:
			l, err := b.nas.LUN(t.Context(), "dozo.nas."+string(v.ID))
			fine(t, err)
			got = l.Location + " " + l.Type
			if thin := l.Type == dsm.TypeThin; l.HasAttr(dsm.AttrSnapshot) != thin || l.HasAttr(dsm.AttrUnmap) != thin ||
				l.HasAttr(dsm.AttrFUA) != (c.with["fua"] == "true") || l.HasAttr(dsm.AttrSync) != (c.with["sync"] != "false") {
				t.Errorf("%v: attributes %+v", c.with, l.DevAttribs)
			}
		}
		if got != c.want {
			t.Errorf("%d bytes with %v: %s (%v), want %s", c.size, c.with, got, err, c.want)
		}
	}
}

// TestManySnapshots: where DSM's own schedules keep as many as it allows, of 62 LUNs, there is still room for ours.
func TestManySnapshots(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{VirtualDisks: 62, Scheduled: 256,
		Model: dsmsim.Model{Name: "x", LUNs: 63, Targets: 20, SnapshotsPerLUN: 256, SnapshotsPerShare: 20, Shares: 20}})
	p := b.open(nil)
	b.create(p, "a")
	fine(t, snapshotOf(t, p, "s"))
	fine(t, p.Delete(t.Context(), "absent"))
}
