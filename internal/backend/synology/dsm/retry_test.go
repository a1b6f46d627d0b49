package dsm_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// silences are the ways of a call to get no answer of DSM's.
var silences = []dsmsim.Action{dsmsim.DropBefore, dsmsim.DropDone, dsmsim.BadGateway, dsmsim.BadGatewayDone, dsmsim.Page, dsmsim.Redirect,
	dsmsim.TruncateDone, dsmsim.BrokenDone, dsmsim.EmptyDone, dsmsim.FloodDone}

// TestReadsAreAskedAgain, three times in all, and changes are sent once.
func TestReadsAreAskedAgain(t *testing.T) {
	b, ctx := newBed(t, dsmsim.Config{}), t.Context()
	uuid := b.lun("a")
	for _, action := range silences {
		b.faults(dsmsim.Fault{Method: "get", Action: action, Times: 2}, dsmsim.Fault{Method: "set", Action: action})
		b.sim.ResetCalls()
		if _, err := b.LUN(ctx, uuid); err != nil {
			t.Errorf("%s: a read that fails twice: %v", action, err)
		}
		is(t, b.DescribeLUN(ctx, uuid, "x"), errs.Unavailable)
		b.faults(dsmsim.Fault{Method: "get", Action: action})
		_, err := b.LUN(ctx, uuid)
		is(t, err, errs.Unavailable)
		calls := b.sim.Calls()
		if gets, sets := calls["SYNO.Core.ISCSI.LUN.get"], calls["SYNO.Core.ISCSI.LUN.set"]; gets != 6 || sets != 1 {
			t.Errorf("%s: %d reads of two lookups, %d changes; want 3 each, and 1", action, gets, sets)
		}
	}
}

// TestWords are what people are told of an answer that is none.
func TestWords(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	_, err := b.LUNs(t.Context())
	fine(t, err)
	for action, words := range map[dsmsim.Action]string{dsmsim.FloodDone: "more than 8388608 bytes", dsmsim.Page: "a page instead of JSON",
		dsmsim.BadGateway: "HTTP 502", dsmsim.BrokenDone: "broke off", dsmsim.TruncateDone: "cannot be read", dsmsim.EmptyDone: "empty", dsmsim.Redirect: "HTTP 302"} {
		b.faults(dsmsim.Fault{Method: "list", Action: action})
		_, whole := b.LUNs(t.Context())
		_, streamed := b.LUNsWithSnapshots(t.Context(), func(dsm.Snapshot) bool { return true })
		for _, err := range []error{whole, streamed} {
			if err == nil || !strings.Contains(err.Error(), words) || !strings.HasPrefix(err.Error(), "SYNO.Core.ISCSI.LUN.list: 127.0.0.1") {
				t.Errorf("%s: %v does not say %q", action, err, words)
			}
		}
	}
}

// TestBusyIsAskedAgain is DSM itself asking for patience.
func TestBusyIsAskedAgain(t *testing.T) {
	b, ctx := newBed(t, dsmsim.Config{}), t.Context()
	uuid := b.lun("a")
	for _, code := range []int{109, 110, 111, 117, 118} {
		b.faults(dsmsim.Fault{Method: "get", Action: dsmsim.Refuse, Code: code, Times: 2}, dsmsim.Fault{Method: "set", Action: dsmsim.Refuse, Code: code})
		b.sim.ResetCalls()
		_, err := b.LUN(ctx, uuid)
		fine(t, err)
		is(t, b.DescribeLUN(ctx, uuid, "x"), errs.Unavailable)
		if calls := b.sim.Calls(); calls["SYNO.Core.ISCSI.LUN.get"] != 3 || calls["SYNO.Core.ISCSI.LUN.set"] != 1 {
			t.Errorf("%d: %v", code, calls)
		}
	}
	// What looks like "busy" for a volume is "there is none", unless the list has it.
	b.faults(dsmsim.Fault{Method: "get", Action: dsmsim.Refuse, Code: 117})
	_, err := b.Volume(ctx, "/volume1")
	fine(t, err)
}

// TestDoubtfulCodes: what DSM says of absent and of malformed alike is looked up in the list.
func TestDoubtfulCodes(t *testing.T) {
	b, ctx := newBed(t, dsmsim.Config{}), t.Context()
	uuid := b.lun("a")
	id, err := b.CreateTarget(ctx, dsm.NewTarget{Name: "t", IQN: "iqn.t"})
	fine(t, err)
	for _, code := range []int{18990505, 18990004, 18990710} {
		b.faults(dsmsim.Fault{Method: "get", Action: dsmsim.Refuse, Code: code})
		if code != 18990710 {
			l, err := b.LUN(ctx, uuid)
			if err != nil || l.Name != "a" {
				t.Errorf("%d: %+v, %v", code, l, err)
			}
			_, err = b.LUN(ctx, "b")
			is(t, err, errs.NotFound)
		}
		if code != 18990505 {
			g, err := b.Target(ctx, "t")
			if err != nil || int64(g.ID) != id {
				t.Errorf("%d: %+v, %v", code, g, err)
			}
			_, err = b.Target(ctx, "99")
			is(t, err, errs.NotFound)
		}
		b.faults(dsmsim.Fault{Method: "get", Action: dsmsim.Refuse, Code: code}, dsmsim.Fault{Method: "list", Action: dsmsim.BadGateway})
		_, err = b.LUN(ctx, "b")
		if errs.Is(err, errs.NotFound) {
			t.Errorf("%d: not found, though the list could not be asked for", code)
		}
	}
}

// TestDeadline: a call that gets no answer, or never the rest of it, ends by its own limit or the caller's, and says what is known.
func TestDeadline(t *testing.T) {
	for _, action := range []dsmsim.Action{dsmsim.HangDone, dsmsim.TrickleDone} {
		t.Run(string(action), func(t *testing.T) { deadlines(t, action) })
	}
}

func deadlines(t *testing.T, action dsmsim.Action) {
	b := newBed(t, dsmsim.Config{})
	_, err := b.LUNs(t.Context())
	fine(t, err)
	b.SetTimeout(50 * time.Millisecond)
	b.faults(dsmsim.Fault{API: "SYNO.Core.ISCSI.LUN", Action: action, Delay: longer})
	b.sim.ResetCalls()
	_, err = b.CreateLUN(t.Context(), thin("a"))
	is(t, err, errs.Unavailable)
	_, err = b.LUNs(t.Context())
	is(t, err, errs.Unavailable)
	// On a slow machine the time may be over before the NAS sees a call, so these are upper bounds.
	if calls := b.sim.Calls(); calls["SYNO.Core.ISCSI.LUN.create"] > 1 || calls["SYNO.Core.ISCSI.LUN.list"] > 3 {
		t.Errorf("calls: %v, want at most 1 create and 3 lists", calls)
	}
	b.SetTimeout(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = b.LUNs(ctx)
	is(t, err, errs.Aborted)
	gone, leave := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, leave)
	_, err = b.CreateLUN(gone, thin("b"))
	is(t, err, errs.Aborted)
}

// TestLookAfterFailedCreate: a create that failed, in whatever way, is found by its name if it was done.
func TestLookAfterFailedCreate(t *testing.T) {
	for _, action := range append(silences, dsmsim.RefuseDone, dsmsim.NoDataDone) {
		b, ctx := newBed(t, dsmsim.Config{}), t.Context()
		b.faults(dsmsim.Fault{Method: "create", Action: action, Code: 18990068, Times: 2}, dsmsim.Fault{Method: "take_snapshot", Action: action, Code: 100, Times: 1})
		if uuid, err := b.CreateLUN(ctx, thin("a")); err == nil {
			t.Fatalf("%s: created %s", action, uuid)
		}
		l, err := b.LUN(ctx, "a")
		if action.Done() {
			if err != nil || l.Name != "a" {
				t.Errorf("%s: it was created, and the lookup says %+v, %v", action, l, err)
			}
		} else {
			is(t, err, errs.NotFound)
		}
		if _, err := b.CreateTarget(ctx, dsm.NewTarget{Name: "t", IQN: "iqn.t"}); err == nil {
			t.Errorf("%s: a target without an answer", action)
		}
		if _, err := b.Target(ctx, "t"); (err == nil) != action.Done() {
			t.Errorf("%s: lookup of the target: %v", action, err)
		}
	}
}
