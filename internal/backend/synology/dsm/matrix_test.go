package dsm_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// operation is one method of the client, on a NAS that has LUN "a" with snapshot "s" in target 1, and
// share "f" with a snapshot.
type operation struct {
	name   string // API.method below SYNO.
	reads  bool
	do     func(context.Context, *fixture) error
	isDone func(context.Context, *fixture) (bool, error) // by looking; nil for what reads
}

type fixture struct {
	*bed
	lun, snapshot, taken string
	target               int64
}

func newFixture(t *testing.T) *fixture { return fixtureOn(t, newBed(t, dsmsim.Config{})) }

func fixtureOn(t *testing.T, b *bed) *fixture {
	t.Helper()
	ctx := t.Context()
	f := &fixture{bed: b, lun: b.lun("a")}
	var err error
	f.snapshot, err = b.TakeSnapshot(ctx, dsm.NewSnapshot{LUN: f.lun, Name: "s"})
	fine(t, err)
	f.target, err = b.CreateTarget(ctx, dsm.NewTarget{Name: "t", IQN: "iqn.t"})
	fine(t, err)
	fine(t, b.CreateShare(ctx, dsm.NewShare{Name: "f", VolumePath: "/volume1"}))
	f.taken, err = b.TakeShareSnapshot(ctx, "f", "d", false)
	fine(t, err)
	return f
}

// gone turns a lookup into an answer to "is it gone?".
func gone(err error) (bool, error) {
	if errs.Is(err, errs.NotFound) {
		return true, nil
	}
	return false, err
}

// there turns one into an answer to "is it there?".
func there(err error) (bool, error) {
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

var operations = slices.Concat(reading, changingLUNs, changingTargets, changingShares)

func read(name string, do func(context.Context, *fixture) error) operation {
	return operation{name: name, reads: true, do: do}
}

var reading = []operation{
	read("Core.System.info", func(c context.Context, f *fixture) error { _, err := f.System(c); return err }),
	read("Core.Network.Interface.list", func(c context.Context, f *fixture) error { _, err := f.Interfaces(c); return err }),
	read("Core.ISCSI.Node.list", func(c context.Context, f *fixture) error { _, err := f.NodeUUIDs(c); return err }),
	read("Core.Storage.Volume.list", func(c context.Context, f *fixture) error { _, err := f.Volumes(c); return err }),
	read("Core.Storage.Volume.get", func(c context.Context, f *fixture) error { _, err := f.Volume(c, "/volume1"); return err }),
	read("Core.ISCSI.LUN.get", func(c context.Context, f *fixture) error { _, err := f.LUN(c, "a"); return err }),
	read("Core.ISCSI.LUN.list", func(c context.Context, f *fixture) error { _, err := f.LUNs(c); return err }),
	read("Core.ISCSI.LUN.list", func(c context.Context, f *fixture) error {
		_, err := f.LUNsWithSnapshots(c, func(dsm.Snapshot) bool { return true })
		return err
	}),
	read("Core.ISCSI.LUN.list_snapshot", func(c context.Context, f *fixture) error { _, err := f.Snapshots(c, f.lun); return err }),
	read("Core.ISCSI.LUN.get_snapshot", func(c context.Context, f *fixture) error { _, err := f.Snapshot(c, f.snapshot); return err }),
	read("Core.ISCSI.Target.get", func(c context.Context, f *fixture) error { _, err := f.Target(c, "t"); return err }),
	read("Core.ISCSI.Target.list", func(c context.Context, f *fixture) error { _, err := f.Targets(c); return err }),
	read("Core.Share.get", func(c context.Context, f *fixture) error { _, err := f.Share(c, "f"); return err }),
	read("Core.Share.list", func(c context.Context, f *fixture) error { _, err := f.Shares(c); return err }),
	read("Core.Share.Snapshot.list", func(c context.Context, f *fixture) error { _, err := f.ShareSnapshots(c, "f"); return err }),
	read("Core.Share.Permission.list", func(c context.Context, f *fixture) error { _, err := f.Permissions(c, "f", dsm.LocalUsers); return err }),
	read("Core.FileServ.NFS.get", func(c context.Context, f *fixture) error { _, err := f.NFS(c); return err }),
	read("Core.FileServ.SMB.get", func(c context.Context, f *fixture) error { _, err := f.SMB(c); return err }),
	read("Core.FileServ.NFS.SharePrivilege.load", func(c context.Context, f *fixture) error { _, err := f.NFSRules(c, "f"); return err }),
}

var changingLUNs = []operation{
	{"Core.ISCSI.LUN.create", false, func(c context.Context, f *fixture) error { _, err := f.CreateLUN(c, thin("b")); return err },
		func(c context.Context, f *fixture) (bool, error) { _, err := f.LUN(c, "b"); return there(err) }},
	{"Core.ISCSI.LUN.set", false, func(c context.Context, f *fixture) error { return f.ResizeLUN(c, f.lun, 2<<30) },
		func(c context.Context, f *fixture) (bool, error) {
			l, err := f.LUN(c, "a")
			return l.Size == 2<<30, err
		}},
	{"Core.ISCSI.LUN.delete", false, func(c context.Context, f *fixture) error { return f.DeleteLUN(c, f.lun) },
		func(c context.Context, f *fixture) (bool, error) { _, err := f.LUN(c, f.lun); return gone(err) }},
	{"Core.ISCSI.LUN.clone", false, func(c context.Context, f *fixture) error {
		_, err := f.CloneLUN(c, f.lun, "b", "/volume1")
		return err
	}, func(c context.Context, f *fixture) (bool, error) { _, err := f.LUN(c, "b"); return there(err) }},
	{"Core.ISCSI.LUN.clone_snapshot", false, func(c context.Context, f *fixture) error {
		_, err := f.CloneSnapshot(c, f.lun, f.snapshot, "b", "")
		return err
	}, func(c context.Context, f *fixture) (bool, error) { _, err := f.LUN(c, "b"); return there(err) }},
	{"Core.ISCSI.LUN.take_snapshot", false, func(c context.Context, f *fixture) error {
		_, err := f.TakeSnapshot(c, dsm.NewSnapshot{LUN: f.lun, Name: "s2"})
		return err
	}, func(c context.Context, f *fixture) (bool, error) {
		all, err := f.Snapshots(c, f.lun)
		return len(all) == 2, err
	}},
	{"Core.ISCSI.LUN.delete_snapshot", false, func(c context.Context, f *fixture) error { return f.DeleteSnapshot(c, f.snapshot, "dozo") },
		func(c context.Context, f *fixture) (bool, error) {
			_, err := f.Snapshot(c, f.snapshot)
			return gone(err)
		}},
	{"Core.ISCSI.LUN.map_target", false, func(c context.Context, f *fixture) error { return f.MapLUN(c, f.lun, f.target) },
		func(c context.Context, f *fixture) (bool, error) {
			g, err := f.Target(c, "t")
			return len(g.Mapped) == 1, err
		}},
}

var changingTargets = []operation{
	{"Core.ISCSI.Target.create", false, func(c context.Context, f *fixture) error {
		_, err := f.CreateTarget(c, dsm.NewTarget{Name: "u", IQN: "iqn.u"})
		return err
	}, func(c context.Context, f *fixture) (bool, error) { _, err := f.Target(c, "u"); return there(err) }},
	{"Core.ISCSI.Target.set", false, func(c context.Context, f *fixture) error { return f.SetTarget(c, f.target, 5, dsm.CHAP{}) },
		func(c context.Context, f *fixture) (bool, error) {
			g, err := f.Target(c, "t")
			return g.MaxSessions == 5, err
		}},
	{"Core.ISCSI.Target.set", false, func(c context.Context, f *fixture) error { return f.RenameTarget(c, f.target, "renamed") },
		func(c context.Context, f *fixture) (bool, error) { _, err := f.Target(c, "renamed"); return there(err) }},
	{"Core.ISCSI.Target.delete", false, func(c context.Context, f *fixture) error { return f.DeleteTarget(c, f.target) },
		func(c context.Context, f *fixture) (bool, error) { _, err := f.Target(c, "t"); return gone(err) }},
}

var changingShares = []operation{
	{"Core.Share.create", false, func(c context.Context, f *fixture) error {
		return f.CreateShare(c, dsm.NewShare{Name: "g", VolumePath: "/volume1"})
	}, func(c context.Context, f *fixture) (bool, error) { _, err := f.Share(c, "g"); return there(err) }},
	{"Core.Share.set", false, func(c context.Context, f *fixture) error {
		return f.SetShare(c, "f", dsm.Share{Name: "f", VolumePath: "/volume1", QuotaMB: 7})
	},
		func(c context.Context, f *fixture) (bool, error) {
			s, err := f.Share(c, "f")
			return s.QuotaMB == 7, err
		}},
	{"Core.Share.clone", false, func(c context.Context, f *fixture) error {
		return f.CloneShare(c, "f", f.taken, dsm.NewShare{Name: "g", VolumePath: "/volume1"})
	}, func(c context.Context, f *fixture) (bool, error) { _, err := f.Share(c, "g"); return there(err) }},
	{"Core.Share.delete", false, func(c context.Context, f *fixture) error { return f.DeleteShare(c, "f") },
		func(c context.Context, f *fixture) (bool, error) { _, err := f.Share(c, "f"); return gone(err) }},
	{"Core.Share.Snapshot.create", false, func(c context.Context, f *fixture) error {
		_, err := f.TakeShareSnapshot(c, "f", "e", false)
		return err
	},
		func(c context.Context, f *fixture) (bool, error) {
			all, err := f.ShareSnapshots(c, "f")
			return slices.ContainsFunc(all, func(s dsm.ShareSnapshot) bool { return s.Description == "e" }), err
		}},
	{"Core.Share.Snapshot.delete", false, func(c context.Context, f *fixture) error { return f.DeleteShareSnapshot(c, "f", f.taken) },
		func(c context.Context, f *fixture) (bool, error) {
			all, err := f.ShareSnapshots(c, "f")
			return len(all) == 0, err
		}},
	{"Core.Share.Permission.set", false, func(c context.Context, f *fixture) error {
		return f.SetPermissions(c, "f", dsm.LocalUsers, []dsm.Permission{{Name: "u", Writable: true}})
	}, func(c context.Context, f *fixture) (bool, error) {
		all, err := f.Permissions(c, "f", dsm.LocalUsers)
		return slices.ContainsFunc(all, func(p dsm.Listed) bool { return p.Name == "u" && bool(p.Writable) }), err
	}},
	{"Core.FileServ.NFS.SharePrivilege.save", false, func(c context.Context, f *fixture) error {
		return f.SetNFSRules(c, "f", []dsm.NFSRule{{Client: "*", Privilege: "rw", RootSquash: dsm.SquashNone}})
	}, func(c context.Context, f *fixture) (bool, error) {
		all, err := f.NFSRules(c, "f")
		return len(all) == 1, err
	}},
}

// TestEveryFaultOfEveryOperation: an operation that meets a fault succeeds or says why not, never "not there"; a look then tells
// whether it was done, which the NAS decides and not the client; what was not done is done when it is called again.
func TestEveryFaultOfEveryOperation(t *testing.T) {
	m := matrix{outcomes: map[dsmsim.Action]map[string]int{}}
	var late sync.WaitGroup
	for _, op := range operations {
		f := newFixture(t)
		f.SetTimeout(2 * time.Second) // for which all wait at once, beside what follows
		late.Go(func() { m.try(t, f, op, dsmsim.TrickleDone, longer) })
	}
	for _, op := range operations {
		f := newFixture(t)
		for i, action := range dsmsim.Actions() {
			if !op.reads && i > 0 {
				f = newFixture(t) // what changed something is not the same again
			}
			if action != dsmsim.TrickleDone {
				m.try(t, f, op, action, time.Millisecond)
			}
		}
	}
	late.Wait()
	for _, action := range dsmsim.Actions() {
		t.Logf("matrix: %-17s %v", action, m.outcomes[action])
	}
}

// longer is a delay that no call waits for.
const longer = 30 * time.Second

// matrix counts what became of operations.
type matrix struct {
	mu       sync.Mutex
	outcomes map[dsmsim.Action]map[string]int
}

func (m *matrix) try(t *testing.T, f *fixture, op operation, action dsmsim.Action, delay time.Duration) {
	what := fmt.Sprintf("%s, %s", op.name, action)
	api, method := "SYNO."+op.name[:strings.LastIndex(op.name, ".")], op.name[strings.LastIndex(op.name, ".")+1:]
	f.faults(dsmsim.Fault{API: api, Method: method, Action: action, Code: codeOf(action), Delay: delay, Times: 1})
	start := time.Now()
	err := op.do(t.Context(), f)
	if took := time.Since(start); took >= longer {
		t.Errorf("%s: %v: waited for the rest of the answer, %v", what, err, took)
	}
	if err != nil && errs.Is(err, errs.NotFound) {
		t.Errorf("%s: %v: there was no answer that says so", what, err)
	}
	f.SetTimeout(time.Minute)
	f.recover(t, what, op, action, err)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.outcomes[action] == nil {
		m.outcomes[action] = map[string]int{}
	}
	kind := map[bool]string{true: "read", false: "change"}[op.reads]
	if err == nil {
		m.outcomes[action][kind+" succeeded"]++
	} else {
		m.outcomes[action][fmt.Sprintf("%s %v", kind, errs.KindOf(err))]++
	}
}

// TestEveryFaultOfTheLogin: the first call fails and says why not, or succeeds; the next succeeds. Neither a fault of the network nor
// one of DSM may be taken for wrong credentials.
func TestEveryFaultOfTheLogin(t *testing.T) {
	for _, method := range []string{"SYNO.API.Info.query", "SYNO.API.Auth.login"} {
		for _, action := range dsmsim.Actions() {
			b := newBed(t, dsmsim.Config{})
			api, name := method[:strings.LastIndex(method, ".")], method[strings.LastIndex(method, ".")+1:]
			b.faults(dsmsim.Fault{API: api, Method: name, Action: action, Code: codeOf(action), Delay: time.Millisecond, Times: 1})
			if _, err := b.LUN(t.Context(), "a"); err != nil && errs.Is(err, errs.NotFound) != strings.Contains(err.Error(), "18990531") {
				t.Errorf("%s, %s: %v", method, action, err)
			}
			if _, err := b.CreateLUN(t.Context(), thin("a")); err != nil {
				t.Errorf("%s, %s: called again: %v", method, action, err)
			}
			if n := b.logins(); n > 2 {
				t.Errorf("%s, %s: %d logins", method, action, n)
			}
		}
	}
}

func codeOf(a dsmsim.Action) int {
	if a == dsmsim.Expire {
		return 119
	}
	return 18990327
}

// recover looks whether an operation was done, and does it if not.
func (f *fixture) recover(t *testing.T, what string, op operation, action dsmsim.Action, err error) {
	t.Helper()
	if op.reads {
		if again := op.do(t.Context(), f); again != nil {
			t.Errorf("%s: asked again: %v", what, again)
		}
		return
	}
	done, look := op.isDone(t.Context(), f)
	want := action.Done() || err == nil
	if look != nil || done != want {
		t.Errorf("%s: error %v; the look says done=%v, %v, want %v", what, err, done, look, want)
	}
	if done {
		return
	}
	if again := op.do(t.Context(), f); again != nil {
		t.Errorf("%s: called again: %v", what, again)
	}
	if done, look := op.isDone(t.Context(), f); !done {
		t.Errorf("%s: called again, and still not done: %v", what, look)
	}
}
