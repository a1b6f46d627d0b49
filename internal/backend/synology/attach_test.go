package synology_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

func (b *bed) attach(p *synology.Backend, id backend.ID, r backend.AttachRequest) backend.Access {
	b.t.Helper()
	a, err := p.Attach(b.t.Context(), id, r)
	fine(b.t, err)
	fine(b.t, a.Check())
	return a
}

func shareable(node string) backend.AttachRequest {
	return backend.AttachRequest{Node: node, Addresses: []string{"10.0.0.7"}, Shared: true}
}

// TestAttachLUN: one target for each node, with all that its volumes are; the last one that goes takes it along.
func TestAttachLUN(t *testing.T) {
	t.Parallel()
	for _, targets := range []string{"node", "volume"} {
		b := newBed(t, dsmsim.Config{Hostname: "nas"})
		p := b.open(map[string]string{"targets": targets, "portals": "10.1.0.1,[fd00::1]:3261"})
		ctx := t.Context()
		v, w := b.create(p, "a"), b.create(p, "b")
		first := b.attach(p, v.ID, node)
		if again := b.attach(p, v.ID, node); first.ISCSI.WWID != v.Access.ISCSI.WWID || again.ISCSI.Target.LUN != first.ISCSI.Target.LUN || again.ISCSI.Target.IQN != first.ISCSI.Target.IQN {
			t.Errorf("attached as %+v, then as %+v; the volume is %+v", first.ISCSI, again.ISCSI, v.Access.ISCSI)
		}
		second := b.attach(p, w.ID, node)
		if got := second.ISCSI.Target.Portals; !slices.Equal(got, []string{"10.1.0.1:3260", "[fd00::1]:3261"}) {
			t.Errorf("portals %v", got)
		}
		if same := first.ISCSI.Target.IQN == second.ISCSI.Target.IQN; same != (targets == "node") {
			t.Errorf("targets: %s, and the IQNs are %s and %s", targets, first.ISCSI.Target.IQN, second.ISCSI.Target.IQN)
		}
		e, ok := b.plane.Export(first.ISCSI.Target.IQN)
		if !ok || e.MaxSessions != 0 || !e.Enabled || e.User != "" {
			t.Errorf("served: %+v", e)
		}
		_, err := p.Attach(ctx, v.ID, other)
		is(t, err, errs.InUse)
		if err == nil || !strings.Contains(err.Error(), "node n1") {
			t.Errorf("who has it is not said: %v", err)
		}
		is(t, p.Delete(ctx, v.ID), errs.InUse)
		b.attach(p, v.ID, backend.AttachRequest{Node: "n3", Shared: true})
		fine(t, p.Detach(ctx, v.ID, "n1"))
		fine(t, p.Detach(ctx, v.ID, "n1"))
		is(t, p.Delete(ctx, v.ID), errs.InUse)
		if e, _ := b.plane.Export(first.ISCSI.Target.IQN); targets == "node" && (len(e.LUNs) != 1 || e.LUNs[0].Index != second.ISCSI.Target.LUN) {
			t.Errorf("after the first was detached the node's target has %+v", e.LUNs)
		}
		fine(t, p.Detach(ctx, v.ID, ""))
		fine(t, p.Detach(ctx, w.ID, ""))
		fine(t, p.Detach(ctx, "absent", "n1"))
		_, err = p.Attach(ctx, "absent", node)
		is(t, err, errs.NotFound)
		fine(t, p.Delete(ctx, v.ID))
		fine(t, p.Delete(ctx, w.ID))
		if left := b.left(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestNumbersAreNotReused: of what a node still writes to a LUN that was taken from it, nothing arrives at the next LUN
// that the node gets: that one has another number or another IQN, also where all of its targets were gone meanwhile.
func TestNumbersAreNotReused(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{Model: dsmsim.Model{Name: "x", LUNs: 50, Targets: 4, SnapshotsPerLUN: 1, Shares: 1}})
	p, ctx := b.open(nil), t.Context()
	type place struct {
		iqn string
		lun int
	}
	had := map[place]backend.ID{}
	attach := func(id backend.ID) {
		t.Helper()
		at := b.attach(p, id, node).ISCSI.Target
		if before := had[place{at.IQN, at.LUN}]; before != "" && before != id {
			t.Errorf("%s is number %d of %s, as %s was", id, at.LUN, at.IQN, before)
		}
		had[place{at.IQN, at.LUN}] = id
	}
	ids := []backend.ID{"a", "b", "c", "d"}
	for _, id := range ids {
		b.create(p, string(id))
	}
	for round := range 3 {
		attach("a")
		attach("b")
		fine(t, p.Detach(ctx, "a", "n1"))
		attach("c") // not where a was
		attach("b") // stays where it is
		fine(t, p.Detach(ctx, "c", "n1"))
		attach("d")
		fine(t, p.Detach(ctx, "b", ""))
		fine(t, p.Detach(ctx, "d", "n1"))
		if targets, err := b.nas.Targets(ctx); err != nil || len(targets) != 0 {
			t.Errorf("round %d: %d targets are left, %v", round, len(targets), err)
		}
	}
}

// TestTargetStaysUnderItsSessions: whoever is logged in to a target that goes away tries to log in again for ever.
func TestTargetStaysUnderItsSessions(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{Model: dsmsim.Model{Name: "x", LUNs: 10, Targets: 2, SnapshotsPerLUN: 1, Shares: 1}})
	p, ctx := b.open(nil), t.Context()
	v := b.create(p, "a")
	iqn := b.attach(p, v.ID, node).ISCSI.Target.IQN
	fine(t, b.plane.Login(iqn, dsmsim.Session{IQN: "iqn.x", IP: "10.0.0.1"}))
	fine(t, p.Detach(ctx, v.ID, "n1"))
	if e, ok := b.plane.Export(iqn); !ok || len(e.LUNs) > 0 {
		t.Errorf("the target is there: %v, with %+v", ok, e.LUNs)
	}
	b.attach(p, v.ID, other)
	_, err := p.Attach(ctx, v.ID, shareable("n3"))
	is(t, err, errs.NoSpace)
	if err == nil || !strings.Contains(err.Error(), "has 2 iSCSI targets (max_iscsitrgs)") {
		t.Errorf("the ceiling is not named: %v", err)
	}
	// Once nobody is logged in, the target makes room for another.
	fine(t, b.plane.RemoveTarget(iqn))
	b.attach(p, v.ID, shareable("n3"))
}

// TestTargetIsWhatItHasToBe: also one that somebody changed, and with another password than before.
func TestTargetIsWhatItHasToBe(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	ctx := t.Context()
	plain := b.open(nil)
	v := b.create(plain, "a")
	iqn := b.attach(plain, v.ID, node).ISCSI.Target.IQN
	chap := func(password string) *synology.Backend {
		c := b.config(nil)
		for key, value := range map[string]string{"username": "node", "password": password, "username_in": "nas", "password_in": "another secret"} {
			c.Secrets["node.session.auth."+key] = []byte(value)
		}
		return b.openAs(c)
	}
	for _, password := range []string{"first password", "other password"} {
		a := b.attach(chap(password), v.ID, node)
		e, _ := b.plane.Export(iqn)
		if !a.ISCSI.Target.CHAP || e.User != "node" || e.Password != password || e.MutualUser != "nas" || e.MutualPassword != "another secret" {
			t.Errorf("CHAP %v, served %+v", a.ISCSI.Target.CHAP, e)
		}
	}
	g, err := b.nas.Target(ctx, "dozo.nas.n1")
	fine(t, err)
	fine(t, b.nas.SetTarget(ctx, int64(g.ID), 1, dsm.CHAP{}))
	p := chap("other password")
	b.attach(p, v.ID, node)
	if e, _ := b.plane.Export(iqn); e.MaxSessions != 0 || e.Password != "other password" {
		t.Errorf("served %+v", e)
	}
	b.sim.ResetCalls()
	b.attach(p, v.ID, node)
	if n := b.sim.Calls()["SYNO.Core.ISCSI.Target.set"]; n != 0 {
		t.Errorf("%d more changes of the target", n)
	}
}

// TestAttachOfTwoClusters: their nodes may have one name, and never share a target.
func TestAttachOfTwoClusters(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	one, two := b.open(map[string]string{"clusterID": "one"}), b.open(map[string]string{"clusterID": "two"})
	long := backend.AttachRequest{Node: strings.Repeat("n", 200) + ".example.org"}
	seen := map[string]bool{}
	for i, p := range []*synology.Backend{one, two} {
		id := backend.ID([]string{"a", "b"}[i])
		b.create(p, string(id))
		for _, r := range []backend.AttachRequest{node, {Node: long.Node, Shared: true}} {
			r.Shared = true
			seen[b.attach(p, id, r).ISCSI.Target.IQN] = true
		}
		_, err := p.Attach(t.Context(), id, other)
		is(t, err, errs.InUse)
	}
	if len(seen) != 4 {
		t.Errorf("targets %v, want 4", seen)
	}
	_, err := two.Create(t.Context(), request("a"))
	is(t, err, errs.Exists)
	_, err = two.Get(t.Context(), "a")
	is(t, err, errs.NotFound)
	fine(t, two.Delete(t.Context(), "a"))
	if _, err := one.Get(t.Context(), "a"); err != nil {
		t.Errorf("the other cluster's volume: %v", err)
	}
}

// TestRaw: a LUN that was a block device is raw from then on, and its copies are.
func TestRaw(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(nil), t.Context()
	attach := func(id backend.ID, block, readOnly, raw bool) {
		t.Helper()
		r := node
		r.Block, r.ReadOnly = block, readOnly
		for range 2 {
			if a := b.attach(p, id, r); a.ISCSI.Raw != raw {
				t.Errorf("%s: raw %v, and it was to be %v", id, a.ISCSI.Raw, raw)
			}
		}
		fine(t, p.Detach(ctx, id, r.Node))
	}
	copied := func(id, from backend.ID) backend.ID {
		t.Helper()
		return b.create(p, string(id), func(r *backend.Request) { r.Source = backend.Source{Volume: from} }).ID
	}
	v := b.create(p, "v").ID
	attach(v, false, false, false)
	attach(v, false, true, false)
	attach(copied("before", v), false, false, false)
	s, err := p.CreateSnapshot(ctx, backend.SnapshotRequest{ID: "s", Name: "s", Source: v})
	fine(t, err)
	attach(v, true, false, true)
	attach(v, false, false, true)
	attach(copied("after", v), false, false, true)
	// What was in it before it was attached nobody can tell: the snapshot may be of any instant.
	restored := b.create(p, "restored", func(r *backend.Request) { r.Source = backend.Source{Snapshot: s.ID} }).ID
	attach(restored, false, false, true)
	attach(copied("again", restored), false, false, true)
	before, err := b.nas.LUN(ctx, "dozo.nas.v")
	fine(t, err)
	fine(t, b.nas.DescribeLUN(ctx, before.UUID, "edited"))
	attach(b.create(p, "edited", func(r *backend.Request) { r.Source = backend.Source{Snapshot: s.ID} }).ID, false, false, true)
}

// TestCutOff: a NAS that keeps only the beginning of a description says so when a node is to be admitted, and the volume stays what it was.
func TestCutOff(t *testing.T) {
	t.Parallel()
	const short = len(`{"dozo":1,"pool":"nas","id":"v"}`)
	b := newBed(t, dsmsim.Config{ShortText: short})
	p, ctx := b.open(nil), t.Context()
	v := b.create(p, "v").ID
	for _, change := range []func(*backend.AttachRequest){
		func(r *backend.AttachRequest) { r.Block = true },
		func(r *backend.AttachRequest) { r.ReadOnly = true },
	} {
		r := node
		change(&r)
		if _, err := p.Attach(ctx, v, r); !errs.Is(err, errs.Internal) || !strings.Contains(err.Error(), "did not take its description") {
			t.Errorf("attach as %+v: %v", r, err)
		}
		if l, err := b.nas.LUN(ctx, "dozo.nas.v"); err != nil || len(l.Description) != short {
			t.Errorf("the LUN is described as %q, %v", l.Description, err)
		}
	}
	if a := b.attach(p, v, node); a.ISCSI.Raw {
		t.Error("it was to be a block device, was refused, and is raw")
	}
	fine(t, p.Detach(ctx, v, node.Node))
	fine(t, p.Delete(ctx, v))
}

// TestAttachShare: a node's addresses are admitted, others' rules stay, and a node that goes takes only its own along.
func TestAttachShare(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(map[string]string{"protocol": "nfs", "server": "fd00::1"}), t.Context()
	v := b.create(p, "a", with("sync", "true"))
	fine(t, b.nas.SetNFSRules(ctx, b.share(p, v.ID), []dsm.NFSRule{byHand}))
	two := backend.AttachRequest{Node: "n1", Addresses: []string{"10.0.0.1", "fd00::9", "fe80::1", "127.0.0.1", "10.9.9.9", "no address"}, Shared: true}
	a := b.attach(p, v.ID, two)
	if a.Mount == nil || a.Mount.Source != "[fd00::1]:/volume1/"+b.share(p, v.ID) || a.Mount.Source != v.Access.Mount.Source {
		t.Errorf("access %+v", a.Mount)
	}
	b.attach(p, v.ID, backend.AttachRequest{Node: "n2", Addresses: []string{"10.0.0.2"}, Shared: true, ReadOnly: true})
	_, err := p.Attach(ctx, v.ID, backend.AttachRequest{Node: "n3", Addresses: []string{"10.0.0.3"}})
	is(t, err, errs.InUse)
	rule := func(client, privilege string) dsm.NFSRule {
		return dsm.NFSRule{Client: client, Privilege: privilege, RootSquash: "root", Security: dsm.SecurityFlavor{Sys: true}}
	}
	served := func(want ...dsm.NFSRule) {
		t.Helper()
		if got := b.rulesOf(p, v.ID); !slices.Equal(got, want) {
			t.Errorf("rules\n got %+v\nwant %+v", got, want)
		}
	}
	served(byHand, rule("10.0.0.1", "rw"), rule("fd00::9", "rw"), rule("10.0.0.2", "ro"))
	is(t, p.Delete(ctx, v.ID), errs.InUse)
	next := b.open(map[string]string{"protocol": "nfs"}) // whose addresses are whose is on the NAS
	fine(t, next.Detach(ctx, v.ID, "n1"))
	fine(t, next.Detach(ctx, v.ID, "n1"))
	served(byHand, rule("10.0.0.2", "ro"))
	_, err = p.Attach(ctx, v.ID, backend.AttachRequest{Node: "n2", Addresses: []string{"10.0.0.22"}})
	is(t, err, errs.Exists)
	served(byHand, rule("10.0.0.2", "ro"))
	b.attach(p, v.ID, backend.AttachRequest{Node: "n2", Addresses: []string{"10.0.0.22"}, ReadOnly: true})
	served(byHand, rule("10.0.0.22", "ro"))
	fine(t, next.Detach(ctx, v.ID, ""))
	served(byHand)
	_, err = p.Attach(ctx, v.ID, backend.AttachRequest{Node: "n4"})
	is(t, err, errs.Unavailable)
	fine(t, p.Delete(ctx, v.ID))
}

// TestAttachShareToNetworks: they are admitted as long as some node has it, which who has it decides as ever.
func TestAttachShareToNetworks(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(map[string]string{"protocol": "nfs", "allow": "10.0.0.0/24, fd00::/64"}), t.Context()
	v := b.create(p, "a")
	b.attach(p, v.ID, backend.AttachRequest{Node: "n1"})
	rules := b.rulesOf(p, v.ID)
	for _, r := range rules {
		if netip.MustParsePrefix(r.Client).Bits() == 0 || r.Privilege != "rw" || !bool(r.Insecure) || bool(r.Async) {
			t.Errorf("rule %+v", r)
		}
	}
	_, err := p.Attach(ctx, v.ID, backend.AttachRequest{Node: "n2"})
	is(t, err, errs.InUse)
	b.attach(p, v.ID, shareable("n2"))
	fine(t, p.Detach(ctx, v.ID, "n1"))
	if got := b.rulesOf(p, v.ID); len(rules) != 2 || !slices.Equal(got, rules) {
		t.Errorf("with one of two nodes left the rules are %+v, and were %+v", got, rules)
	}
	is(t, p.Delete(ctx, v.ID), errs.InUse)
	fine(t, p.Detach(ctx, v.ID, "n2"))
	if got := b.rulesOf(p, v.ID); len(got) != 0 {
		t.Errorf("without a node the rules are %+v", got)
	}
	fine(t, p.Delete(ctx, v.ID))
}
