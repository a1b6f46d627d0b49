package synology_test

import (
	"context"
	"errors"
	"fmt"
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

// operation is one method of the backend in one of its cases, on a NAS with LUN volume "a" that has snapshot "s", attached LUN
// volume "m", share volumes by NFS "f" and by SMB "h", attached ones "g" and "i", share "e", which somebody
// renamed, and LUN "old" and share "old", which are not Dozo's.
type operation struct {
	name string
	do   func(context.Context, *synology.Backend) error
	done func(context.Context, *synology.Backend) error // nil: it changes nothing
}

var shared = with("protocol", "nfs")

// bySMB is for two users, whose names DSM writes otherwise.
func bySMB(r *backend.Request) { r.Parameters["protocol"], r.Parameters["users"] = "smb", "k8s, k9 s" }

func operations() []operation { return slices.Concat(asking, changingLUNs(), changingShares()) }

var asking = []operation{
	{name: "Get LUN", do: func(c context.Context, p *synology.Backend) error { _, err := p.Get(c, "a"); return err }},
	{name: "Get share", do: func(c context.Context, p *synology.Backend) error { _, err := p.Get(c, "f"); return err }},
	{name: "List", do: func(c context.Context, p *synology.Backend) error { return counted(p.List(c), 7) }},
	{name: "Capacity", do: func(c context.Context, p *synology.Backend) error { _, err := p.Capacity(c, ""); return err }},
	{name: "Gauges", do: func(c context.Context, p *synology.Backend) error { _, err := p.Gauges(c); return err }},
	{name: "Check", do: func(c context.Context, p *synology.Backend) error { _, err := p.Check(c, "a"); return err }},
	{name: "CloneSource", do: func(c context.Context, p *synology.Backend) error { return p.CloneSource(c, "a") }},
	{name: "GetSnapshot", do: func(c context.Context, p *synology.Backend) error { _, err := p.GetSnapshot(c, "s"); return err }},
	{name: "ListSnapshots", do: func(c context.Context, p *synology.Backend) error { return counted(p.ListSnapshots(c), 1) }},
	{name: "Create LUN again", do: func(c context.Context, p *synology.Backend) error { _, err := p.Create(c, request("a")); return err }},
	{name: "Attach LUN again", do: func(c context.Context, p *synology.Backend) error { _, err := p.Attach(c, "m", node); return err }},
	{name: "Attach share again", do: func(c context.Context, p *synology.Backend) error { _, err := p.Attach(c, "g", node); return err }},
	{name: "Attach SMB share again", do: func(c context.Context, p *synology.Backend) error { _, err := p.Attach(c, "i", node); return err }},
	{name: "Detach renamed share", do: func(c context.Context, p *synology.Backend) error { return p.Detach(c, "e", "n1") }},
}

func counted[T any](seq func(func(T, error) bool), want int) (err error) {
	n := 0
	for _, e := range seq {
		err = errors.Join(err, e)
		n++
	}
	if err == nil && n != want {
		err = errs.E(errs.NotFound, "the list has %d and not %d", n, want)
	}
	return err
}

// makes is an operation that makes volume "n".
func makes(name string, size int64, change ...func(*backend.Request)) operation {
	return operation{name, func(c context.Context, p *synology.Backend) error {
		_, err := p.Create(c, request("n", append(change, sized(size))...))
		return err
	}, hasSize("n", size)}
}

func hasSize(id backend.ID, size int64) func(context.Context, *synology.Backend) error {
	return func(c context.Context, p *synology.Backend) error {
		v, err := p.Get(c, id)
		if err == nil && v.Size != size {
			err = fmt.Errorf("%s has %d bytes, want %d", id, v.Size, size)
		}
		return err
	}
}

func isGone(id backend.ID) func(context.Context, *synology.Backend) error {
	return func(c context.Context, p *synology.Backend) error {
		if _, err := p.Get(c, id); !errs.Is(err, errs.NotFound) {
			return fmt.Errorf("%s is there still: %w", id, err)
		}
		return nil
	}
}

func deletes(name string, id backend.ID) operation {
	return operation{name, func(c context.Context, p *synology.Backend) error { return p.Delete(c, id) }, isGone(id)}
}

func expands(name string, id backend.ID) operation {
	return operation{name, func(c context.Context, p *synology.Backend) error { _, err := p.Expand(c, id, 8<<20); return err }, hasSize(id, 8<<20)}
}

// attaches is about whether another node may have the volume afterwards.
func attaches(name string, id backend.ID) operation {
	return operation{name, func(c context.Context, p *synology.Backend) error { _, err := p.Attach(c, id, node); return err },
		func(c context.Context, p *synology.Backend) error {
			if _, err := p.Attach(c, id, other); !errs.Is(err, errs.InUse) {
				return fmt.Errorf("another node may have %s: %w", id, err)
			}
			return nil
		}}
}

// attachesRaw is about whether anybody might format what a node had as a block device.
func attachesRaw(name string, id backend.ID) operation {
	device := node
	device.Block = true
	return operation{name, func(c context.Context, p *synology.Backend) error { _, err := p.Attach(c, id, device); return err },
		func(c context.Context, p *synology.Backend) error {
			if err := p.Detach(c, id, device.Node); err != nil {
				return err
			}
			a, err := p.Attach(c, id, node)
			if err == nil && !a.ISCSI.Raw {
				err = fmt.Errorf("%s was a block device, and is not raw", id)
			}
			return errors.Join(err, p.Detach(c, id, node.Node))
		}}
}

func detaches(name string, id backend.ID, from string) operation {
	return operation{name, func(c context.Context, p *synology.Backend) error { return p.Detach(c, id, from) },
		func(c context.Context, p *synology.Backend) error {
			if _, err := p.Attach(c, id, other); err != nil {
				return fmt.Errorf("another node may not have %s: %w", id, err)
			}
			return p.Detach(c, id, other.Node)
		}}
}

var other = backend.AttachRequest{Node: "n2", Addresses: []string{"10.0.0.2", "fd00::2"}}

func imports(name string, change ...func(*backend.Request)) operation {
	return operation{name, func(c context.Context, p *synology.Backend) error {
		_, err := p.Import(c, "old", request("n", change...))
		return err
	}, hasSize("n", 4<<20)}
}

func changingLUNs() []operation {
	return []operation{
		makes("Create LUN", 4<<20),
		makes("Create LUN of snapshot", 4<<20, of(backend.Source{Snapshot: "s"})),
		makes("Create larger LUN of snapshot", 8<<20, of(backend.Source{Snapshot: "s"})),
		makes("Clone LUN", 4<<20, of(backend.Source{Volume: "a"})),
		makes("Clone LUN larger", 8<<20, of(backend.Source{Volume: "a"})),
		deletes("Delete LUN", "d"),
		deletes("Delete absent", "absent"),
		expands("Expand LUN", "a"),
		{"CreateSnapshot", func(c context.Context, p *synology.Backend) error {
			_, err := p.CreateSnapshot(c, backend.SnapshotRequest{ID: "t", Name: "t", Source: "a"})
			return err
		}, func(c context.Context, p *synology.Backend) error { _, err := p.GetSnapshot(c, "t"); return err }},
		{"DeleteSnapshot", func(c context.Context, p *synology.Backend) error { return p.DeleteSnapshot(c, "s") },
			func(c context.Context, p *synology.Backend) error { return counted(p.ListSnapshots(c), 0) }},
		attaches("Attach LUN", "a"),
		attachesRaw("Attach LUN as a block device", "a"),
		detaches("Detach LUN", "m", "n1"),
		detaches("Detach LUN of all", "m", ""),
		imports("Import LUN"),
	}
}

func changingShares() []operation {
	return []operation{
		makes("Create share", 4<<20, shared),
		makes("Clone share", 8<<20, shared, of(backend.Source{Volume: "f"})),
		deletes("Delete share", "f"),
		expands("Expand share", "f"),
		attaches("Attach share", "f"),
		detaches("Detach share", "g", "n1"),
		imports("Import share", shared),
		makes("Create SMB share", 4<<20, bySMB),
		makes("Clone SMB share", 8<<20, bySMB, of(backend.Source{Volume: "h"})),
		attaches("Attach SMB share", "h"),
		detaches("Detach SMB share", "i", "n1"),
		detaches("Detach SMB share of all", "i", ""),
	}
}

// furnished is a NAS as operations need it. How it works is as real: locks, deletes that take a while, quotas that are forgotten.
func furnished(t testing.TB) (*bed, *synology.Backend) {
	t.Helper()
	return furnishedWith(t, dsmsim.Config{CreateLock: time.Millisecond, CloneLock: time.Millisecond, DeleteLag: time.Millisecond, ForgetQuota: true})
}

func furnishedWith(t testing.TB, cfg dsmsim.Config) (*bed, *synology.Backend) {
	t.Helper()
	b := newBed(t, cfg)
	p := b.open(nil)
	ctx := t.Context()
	for _, id := range []string{"a", "m", "d"} {
		b.create(p, id)
	}
	b.create(p, "f", shared)
	b.create(p, "g", shared)
	b.create(p, "h", bySMB)
	b.create(p, "i", bySMB)
	_, err := p.CreateSnapshot(ctx, backend.SnapshotRequest{ID: "s", Name: "s", Source: "a"})
	fine(t, err)
	for _, id := range []backend.ID{"m", "g", "i"} {
		_, err := p.Attach(ctx, id, node)
		fine(t, err)
	}
	_, err = b.nas.CreateLUN(ctx, dsm.NewLUN{Name: "old", Location: "/volume1", Type: dsm.TypeThin, Size: 4 << 20, Description: "by hand"})
	fine(t, err)
	for l, err := b.nas.LUN(ctx, "old"); bool(l.IsActionLocked); l, err = b.nas.LUN(ctx, "old") {
		fine(t, err)
	}
	fine(t, b.nas.CreateShare(ctx, dsm.NewShare{Name: "old", VolumePath: "/volume1", QuotaMB: 4, Description: "by hand"}))
	fine(t, b.nas.CreateShare(ctx, dsm.NewShare{Name: "homes", VolumePath: "/volume1"}))
	fine(t, b.nas.CreateShare(ctx, dsm.NewShare{Name: "films", VolumePath: "/volume1", Description: `{"dozo":1,"pool":"nas","id":"e"}`}))
	fine(t, b.nas.SetNFSRules(ctx, b.share(p, "g"), append([]dsm.NFSRule{byHand}, b.rulesOf(p, "g")...)))
	return b, p
}

// TestNFSSettings are the administrator's: nothing sets them, whether a DSM would take one of them or all only.
func TestNFSSettings(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		for _, op := range changingShares() {
			b, p := furnishedWith(t, dsmsim.Config{WholeNFS: whole, ForgetQuota: true})
			fine(t, op.do(t.Context(), p))
			fine(t, op.done(t.Context(), p))
			if calls := b.sim.Calls(); calls["SYNO.Core.FileServ.NFS.set"] > 0 || calls["SYNO.Core.Share.create"] == 0 {
				t.Errorf("%s: %v", op.name, calls)
			}
			b.empty(p, op.name)
		}
	}
}

// byHand is a rule of an administrator's.
var byHand = dsm.NFSRule{Client: "10.9.9.9", Privilege: "ro", RootSquash: dsm.SquashRootGuest, Insecure: true}

func (b *bed) share(p *synology.Backend, id backend.ID) string {
	b.t.Helper()
	v, err := p.Get(b.t.Context(), id)
	fine(b.t, err)
	return v.Access.Mount.Source[strings.LastIndexByte(v.Access.Mount.Source, '/')+1:]
}

func (b *bed) rulesOf(p *synology.Backend, id backend.ID) []dsm.NFSRule {
	b.t.Helper()
	rules, err := b.nas.NFSRules(b.t.Context(), b.share(p, id))
	fine(b.t, err)
	return rules
}

// empty detaches and deletes all of ours, and checks that just what is not ours is left.
func (b *bed) empty(p *synology.Backend, what string) {
	b.t.Helper()
	ctx := b.t.Context()
	if name := b.share(p, "g"); name != "" {
		if rules := b.rulesOf(p, "g"); !slices.Contains(rules, byHand) {
			b.t.Errorf("%s: the rule of somebody else's is gone: %+v", what, rules)
		}
	}
	for range 5 {
		for s := range p.ListSnapshots(ctx) {
			fine(b.t, p.DeleteSnapshot(ctx, s.ID))
		}
		for v := range p.List(ctx) {
			for _, n := range []string{"n1", "n2"} {
				fine(b.t, p.Detach(ctx, v.ID, n))
			}
			fine(b.t, p.Delete(ctx, v.ID))
		}
	}
	var rest []string
	for _, l := range b.left() {
		if l != "LUN old" && l != "share old" && l != "share homes" && l != "share films" && l != "1 images" {
			rest = append(rest, l)
		}
	}
	if len(rest) > 0 {
		b.t.Errorf("%s: left when all was deleted: %v", what, rest)
	}
}
