package synology_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// TestDetachOfAChangedLUN: somebody edited the description or the name of an attached LUN, so that it is no volume of ours any
// more. The node still has it, and a detach that says nothing of that would say that it is shut out.
func TestDetachOfAChangedLUN(t *testing.T) {
	t.Parallel()
	for what, edit := range map[string]func(b *bed, l dsm.LUN) error{
		"description": func(b *bed, l dsm.LUN) error { return b.nas.DescribeLUN(b.t.Context(), l.UUID, "mysql of the shop") },
		"name":        func(b *bed, l dsm.LUN) error { return b.nas.RenameLUN(b.t.Context(), l.UUID, "mysql") },
	} {
		for _, node := range []string{"n1", ""} {
			b := newBed(t, dsmsim.Config{})
			p, ctx := b.open(nil), t.Context()
			v := b.create(p, "a")
			b.attach(p, v.ID, backend.AttachRequest{Node: "n1"})
			l, err := b.nas.LUN(ctx, "dozo.nas."+string(v.ID))
			fine(t, err)
			fine(t, edit(b, l))
			fine(t, p.Detach(ctx, v.ID, node))
			if l, err = b.nas.LUN(ctx, l.UUID); err != nil || bool(*l.IsMapped) {
				t.Errorf("after its %s was edited and it was detached from %q, the LUN is mapped still, %v", what, node, err)
			}
		}
	}
}

// TestDetachOfAChangedShare: whom a share is served to is known by its description only. Where that is gone a detach
// cannot be done, and says so as long as somebody is served.
func TestDetachOfAChangedShare(t *testing.T) {
	t.Parallel()
	for what, edit := range map[string]func(s *dsm.Share){
		"description": func(s *dsm.Share) { s.Description = "films" },
		"name":        func(s *dsm.Share) { s.Name = "films" },
	} {
		b := newBed(t, dsmsim.Config{})
		p, ctx := b.open(map[string]string{"protocol": "nfs"}), t.Context()
		v := b.create(p, "a")
		b.attach(p, v.ID, node)
		s, err := b.nas.Share(ctx, b.share(p, v.ID))
		fine(t, err)
		name := s.Name
		edit(&s)
		fine(t, b.nas.SetShare(ctx, name, s))
		err = p.Detach(ctx, v.ID, node.Node)
		is(t, err, errs.Unavailable)
		if err == nil || !strings.Contains(err.Error(), s.Name) || !strings.Contains(err.Error(), "NFS rules") {
			t.Errorf("%s edited: it is not said what to do: %v", what, err)
		}
		fine(t, b.nas.SetNFSRules(ctx, s.Name, nil))
		fine(t, p.Detach(ctx, v.ID, node.Node))
	}
}

// TestDetachOfAChangedSMBShare: it has no rules, and the users that were given permission may go on writing. Who they are is not
// known from its description any more.
func TestDetachOfAChangedSMBShare(t *testing.T) {
	t.Parallel()
	for what, edit := range map[string]func(s *dsm.Share){
		"description": func(s *dsm.Share) { s.Description = "films" },
		"name":        func(s *dsm.Share) { s.Name = "films" },
	} {
		for _, readOnly := range []bool{false, true} {
			b := newBed(t, dsmsim.Config{})
			p, ctx := b.open(nil), t.Context()
			v := b.create(p, "a", bySMB)
			b.attach(p, v.ID, backend.AttachRequest{Node: "n1", ReadOnly: readOnly})
			was, err := b.nas.Share(ctx, b.share(p, v.ID))
			fine(t, err)
			b.permitted(was.Name, dsm.Permission{Name: "dozo", Writable: true}) // an administrator, who may anyway
			now := was
			edit(&now)
			fine(t, b.nas.SetShare(ctx, was.Name, now))
			err = p.Detach(ctx, v.ID, "n1")
			is(t, err, errs.Unavailable)
			if err == nil || !strings.Contains(err.Error(), "share "+now.Name) || !strings.Contains(err.Error(), "k8s, K9 s, who") || !strings.Contains(err.Error(), "put that back") {
				t.Errorf("%s edited: it is not said what to do: %v", what, err)
			}
			for n := range 5 {
				b.faults(dsmsim.Fault{Action: dsmsim.Refuse, Code: 18990327, Skip: n})
				if err := p.Detach(ctx, v.ID, "n1"); err == nil {
					t.Errorf("%s edited: call %d failed, and the node is said to be out", what, n+1)
				}
			}
			b.faults()
			b.permitted(now.Name, dsm.Permission{Name: "k8s", Deny: true}, dsm.Permission{Name: "K9 s"})
			fine(t, p.Detach(ctx, v.ID, "n1"))
			b.permitted(now.Name, dsm.Permission{Name: "k8s", Writable: true})
			fine(t, b.nas.SetShare(ctx, now.Name, was))
			fine(t, p.Detach(ctx, v.ID, "n1"))
			if may := b.may(p, v.ID); may["k8s"] != "no" {
				t.Errorf("%s put back: users may %v", what, may)
			}
			b.attach(p, v.ID, other)
		}
	}
}

// TestDetachSaysWhoGroupsLetIn: a user of a group that may use the share may, unless that is denied them; where DSM does not say
// who is an administrator, nobody is taken for one.
func TestDetachSaysWhoGroupsLetIn(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(nil), t.Context()
	v := b.create(p, "a", bySMB)
	s, err := b.nas.Share(ctx, b.share(p, v.ID))
	fine(t, err)
	was := s.Name
	s.Name = "films"
	fine(t, b.nas.SetShare(ctx, was, s))
	fine(t, p.Detach(ctx, v.ID, "n1"))
	b.leaveOut("is_admin") // of dozo, whom the simulator lets inherit
	err = p.Detach(ctx, v.ID, "n1")
	is(t, err, errs.Unavailable)
	if err == nil || !strings.Contains(err.Error(), "use it as dozo, who") {
		t.Errorf("a group lets a user in: %v", err)
	}
	b.permitted("films", dsm.Permission{Name: "dozo", Deny: true})
	fine(t, p.Detach(ctx, v.ID, "n1"))
}

// permitted is what an administrator sets of a share.
func (b *bed) permitted(share string, users ...dsm.Permission) {
	b.t.Helper()
	fine(b.t, b.nas.SetPermissions(b.t.Context(), share, dsm.LocalUsers, users))
}

// TestNumbersAreNotReusedByTwo: a process detaches a LUN while another one attaches the next to the same node. That one
// must not stay in the target, where it has the number of the first.
func TestNumbersAreNotReusedByTwo(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	one, two, ctx := b.open(nil), b.open(nil), t.Context()
	for _, name := range []string{"a", "b", "c"} {
		b.create(one, name)
	}
	a := b.attach(one, "a", node).ISCSI.Target
	b.attach(one, "b", node)
	var once sync.Once
	b.intercept(func(_, method string) bool {
		if method == "map_target" {
			once.Do(func() { fine(t, one.Detach(context.WithoutCancel(ctx), "a", "n1")) })
		}
		return false
	})
	_, err := two.Attach(ctx, "c", node)
	is(t, err, errs.Aborted)
	c := b.attach(two, "c", node).ISCSI.Target
	if c.IQN == a.IQN {
		t.Errorf("c is number %d of the target in which a was number %d", c.LUN, a.LUN)
	}
	if e, _ := b.plane.Export(a.IQN); slices.ContainsFunc(e.LUNs, func(l dsmsim.ExportedLUN) bool { return l.Index == a.LUN }) {
		t.Errorf("what is written to a would go to %+v", e.LUNs)
	}
}

// TestBusyLUNHoldsUpNoOther: the NAS may work on one LUN for hours. That is no reason for others of the same node to wait.
func TestBusyLUNHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Now()
	b := newBed(t, dsmsim.Config{CloneLock: time.Hour, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	p, ctx := b.open(nil), t.Context()
	source := b.create(p, "source")
	begun, cancel := context.WithCancel(ctx)
	created := make(chan error, 1)
	go func() {
		_, err := p.Create(begun, request("copy", of(backend.Source{Volume: source.ID}))) // is being copied for an hour
		created <- err
	}()
	for { // until it is there
		if _, err := b.nas.LUN(ctx, "dozo.nas.copy"); err == nil {
			break
		} else if !errs.Is(err, errs.NotFound) {
			t.Fatal(err)
		}
	}
	cancel()
	is(t, <-created, errs.Aborted)
	b.create(p, "other")
	attached := make(chan error, 1)
	go func() {
		_, err := p.Attach(ctx, backend.IDFor("copy"), node)
		attached <- err
	}()
	locked := make(chan struct{})
	var once sync.Once
	var looks atomic.Int64
	b.intercept(func(api, method string) bool {
		if api == "SYNO.Core.ISCSI.LUN" && method == "get" && looks.Add(1) > 3 { // it is waiting
			once.Do(func() { close(locked) })
		}
		return false
	})
	select {
	case <-locked:
	case err := <-attached:
		t.Fatalf("a LUN that the NAS works on was attached, or not: %v", err)
	}
	soon, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if _, err := p.Attach(soon, "other", node); err != nil {
		t.Errorf("another volume of the node, meanwhile: %v", err)
	}
	fine(t, p.Detach(soon, "other", node.Node))
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	fine(t, <-attached)
}

// TestWhatIsNotSaid: a DSM that leaves out which LUNs a target has, who is logged in to it or whether a LUN is mapped does not
// say that there are none. What is in use is neither deleted nor said to be shut out.
func TestWhatIsNotSaid(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(nil), t.Context()
	v := b.create(p, "a")
	iqn := b.attach(p, v.ID, node).ISCSI.Target.IQN
	fine(t, b.plane.Login(iqn, dsmsim.Session{IQN: "iqn.x", IP: "10.0.0.1"}))
	served := func(luns int) {
		t.Helper()
		if e, ok := b.plane.Export(iqn); !ok || len(e.LUNs) != luns {
			t.Errorf("target there: %v, with %d LUNs; want %d", ok, len(e.LUNs), luns)
		}
	}
	b.leaveOut("mapped_luns")
	is(t, p.Detach(ctx, v.ID, node.Node), errs.Internal)
	_, err := p.Attach(ctx, v.ID, other)
	is(t, err, errs.Internal)
	served(1)
	b.leaveOut("is_mapped")
	is(t, p.Delete(ctx, v.ID), errs.InUse)
	served(1)
	b.leaveOut("connected_sessions")
	fine(t, p.Detach(ctx, v.ID, node.Node))
	served(0)
	b.leaveOut("is_mapped")
	fine(t, p.Delete(ctx, v.ID))
}

// TestAnEmptyTargetIsNotUsedAgain, which a detach left that did not get to its end: a node that was cut off may know its
// numbers still.
func TestAnEmptyTargetIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	for _, loggedIn := range []bool{false, true} {
		b := newBed(t, dsmsim.Config{})
		p, ctx := b.open(nil), t.Context()
		b.create(p, "a")
		b.create(p, "b")
		a := b.attach(p, "a", node).ISCSI.Target
		b.faults(dsmsim.Fault{API: "SYNO.Core.ISCSI.Target", Method: "delete", Action: dsmsim.DropBefore})
		is(t, p.Detach(ctx, "a", node.Node), errs.Unavailable)
		b.faults()
		if loggedIn { // the node was cut off, and is back
			fine(t, b.plane.Login(a.IQN, dsmsim.Session{IQN: "iqn.x", IP: "10.0.0.1"}))
		}
		if got := b.attach(p, "b", node).ISCSI.Target; got.IQN == a.IQN {
			t.Errorf("logged in: %v: b is number %d of the target in which a was number %d", loggedIn, got.LUN, a.LUN)
		}
		fine(t, p.Detach(ctx, "b", node.Node))
	}
}

// TestAnAddressThatANodeHadIsShutOut: also if the node has another one by now, and the NAS went away between the change of
// the share's description and that of its rules.
func TestAnAddressThatANodeHadIsShutOut(t *testing.T) {
	t.Parallel()
	for _, fault := range []dsmsim.Fault{
		{API: "SYNO.Core.FileServ.NFS.SharePrivilege", Method: "save", Action: dsmsim.DropBefore},
		{API: "SYNO.Core.FileServ.NFS.SharePrivilege", Method: "save", Skip: 1, Action: dsmsim.DropBefore},
		{API: "SYNO.Core.Share", Method: "set", Action: dsmsim.DropBefore},
		{API: "SYNO.Core.Share", Method: "set", Action: dsmsim.DropDone},
		{Action: dsmsim.DropBefore, Skip: 1000},
	} {
		b := newBed(t, dsmsim.Config{})
		p, ctx := b.open(map[string]string{"protocol": "nfs"}), t.Context()
		v := b.create(p, "a")
		b.attach(p, v.ID, node)
		b.faults(fault)
		_, _ = p.Attach(ctx, v.ID, backend.AttachRequest{Node: node.Node, Addresses: []string{"10.0.0.22"}})
		b.faults()
		fine(t, p.Detach(ctx, v.ID, node.Node))
		if left := b.rulesOf(p, v.ID); len(left) > 0 {
			t.Errorf("%s %s: served still: %+v", fault.Action, fault.Method, left)
		}
	}
}

// TestCHAPStaysUnderSessions: a session logs in again with the password that it began with, after a restart of the NAS for one. If
// the target has another one by then, the node is refused for good, with what it has mounted.
func TestCHAPStaysUnderSessions(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	plain := b.open(nil)
	for _, id := range []string{"a", "b", "c", "d"} {
		b.create(plain, id)
	}
	chap := func(password string) *synology.Backend {
		c := b.config(nil)
		c.Secrets["node.session.auth.username"], c.Secrets["node.session.auth.password"] = []byte("node"), []byte(password)
		return b.openAs(c)
	}
	password := func(iqn string) string {
		e, ok := b.plane.Export(iqn)
		if !ok {
			t.Errorf("target %s is gone", iqn)
		}
		return e.Password
	}
	without := b.attach(plain, "a", node).ISCSI.Target.IQN
	fine(t, b.plane.Login(without, dsmsim.Session{IQN: "iqn.x", IP: "10.0.0.1"}))
	first := b.attach(chap("first password"), "b", node).ISCSI.Target.IQN
	if password(without) != "" || password(first) != "first password" || first == without {
		t.Errorf("CHAP was switched on: the target in use wants %q, the next one wants %q", password(without), password(first))
	}
	fine(t, b.plane.Login(first, dsmsim.Session{IQN: "iqn.x", IP: "10.0.0.1"}))
	next := chap("other password")
	if iqn := b.attach(next, "c", node).ISCSI.Target.IQN; password(first) != "first password" || iqn != first {
		t.Errorf("the password was changed: the target in use wants %q", password(first))
	}
	fine(t, b.plane.RemoveTarget(first)) // with its sessions; the NAS makes it again
	last := b.attach(next, "d", node).ISCSI.Target.IQN
	if password(last) != "other password" || last == first || password(first) != "first password" {
		t.Errorf("with all sessions broken the password was changed: the target with volumes wants %q, that of the next one %q", password(first), password(last))
	}
	if iqn := b.attach(next, "c", node).ISCSI.Target.IQN; password(iqn) != "first password" || iqn != first {
		t.Errorf("a volume in the old target, attached once more, is in one that wants %q", password(iqn))
	}
	for _, id := range []backend.ID{"b", "c"} { // as when the node is drained
		fine(t, next.Detach(t.Context(), id, node.Node))
		if iqn := b.attach(next, id, node).ISCSI.Target.IQN; iqn != last {
			t.Errorf("%s, attached anew, is in a target that wants %q", id, password(iqn))
		}
	}
	if _, ok := b.plane.Export(first); ok {
		t.Error("the old target is there still, empty")
	}
}
