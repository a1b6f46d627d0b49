package synology_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// cramped is a NAS that keeps the marks of volume "a", of its snapshot "s" and of the snapshot that it is cloned to "n" by, and none
// that is longer. It works on new and deleted LUNs for a while.
func cramped(t *testing.T, lag time.Duration) (*bed, *synology.Backend) {
	t.Helper()
	b := newBed(t, dsmsim.Config{ShortText: len(`{"dozo":1,"pool":"nas","id":"s","volume":"a"}`), CreateLock: lag, CloneLock: lag, DeleteLag: lag})
	p := b.open(nil)
	b.create(p, "a")
	fine(t, snapshotOf(t, p, "s"))
	return b, p
}

func snapshotOf(t *testing.T, p *synology.Backend, name string) error {
	t.Helper()
	_, err := p.CreateSnapshot(t.Context(), backend.SnapshotRequest{ID: backend.IDFor(name), Name: name, Source: "a"})
	return err
}

func creates(t *testing.T, p *synology.Backend, name string, change ...func(*backend.Request)) error {
	t.Helper()
	_, err := p.Create(t.Context(), request(name, change...))
	return err
}

const long = "a-name-of-which-there-is-no-room"

// TestCutOffAtCreate: what was created and did not keep its mark is deleted again, and the sentence says why, each time.
func TestCutOffAtCreate(t *testing.T) {
	t.Parallel()
	b, p := cramped(t, time.Millisecond)
	before := b.left()
	for what, do := range map[string]func() error{
		"LUN":                             func() error { return creates(t, p, long) },
		"LUN with a character cut in two": func() error { return creates(t, p, "u", func(r *backend.Request) { r.Name = "😀😀" }) },
		"LUN of a snapshot":               func() error { return creates(t, p, "n", of(backend.Source{Snapshot: "s"})) },
		"clone":                           func() error { return creates(t, p, "n", of(backend.Source{Volume: "a"})) },
		"snapshot":                        func() error { return snapshotOf(t, p, long) },
		"snapshot for a clone":            func() error { return creates(t, p, long, of(backend.Source{Volume: "a"})) },
	} {
		for range 2 {
			err := do()
			if !errs.Is(err, errs.Internal) || !strings.Contains(err.Error(), "and DSM kept 4") || !strings.Contains(err.Error(), "it was deleted again") {
				t.Errorf("%s: %v", what, err)
			}
			if left := b.left(); !slices.Equal(left, before) {
				t.Errorf("%s: on the NAS is %v, and was %v", what, left, before)
			}
		}
	}
	fine(t, p.DeleteSnapshot(t.Context(), "s"))
	fine(t, p.Delete(t.Context(), "a"))
	b.faults(dsmsim.Fault{API: "SYNO.Core.ISCSI.LUN", Method: "delete", Action: dsmsim.Refuse, Code: 18990327})
	if err := creates(t, p, long); !errs.Is(err, errs.Internal) || !strings.Contains(err.Error(), "delete it in SAN Manager") || !strings.Contains(err.Error(), "18990327") {
		t.Errorf("a LUN that cannot be deleted again: %v", err)
	}
}

// TestCutOffShare: the answer to the create of a share does not say which one it made, so it stays.
func TestCutOffShare(t *testing.T) {
	t.Parallel()
	b, p := cramped(t, 0)
	err := creates(t, p, long, shared)
	if !errs.Is(err, errs.Internal) || !strings.Contains(err.Error(), "and DSM kept 45") || !strings.Contains(err.Error(), "delete the share") {
		t.Error(err)
	}
	is(t, creates(t, p, long, shared), errs.Exists)
	if left := b.left(); !slices.ContainsFunc(left, func(s string) bool { return strings.HasPrefix(s, "share dz-") }) {
		t.Errorf("on the NAS is %v", left)
	}
}

// TestCutOffInDoubt: what has the name of a volume or a snapshot, and the beginning of its mark, stays where the answer to the create
// did not say that it is the one that was made.
func TestCutOffInDoubt(t *testing.T) {
	t.Parallel()
	for method, do := range map[string]func(*synology.Backend) error{
		"create":         func(p *synology.Backend) error { return creates(t, p, long) },
		"clone_snapshot": func(p *synology.Backend) error { return creates(t, p, "n", of(backend.Source{Snapshot: "s"})) },
		"take_snapshot":  func(p *synology.Backend) error { return snapshotOf(t, p, long) },
	} {
		b, p := cramped(t, 0)
		before := len(b.left())
		b.faults(dsmsim.Fault{API: "SYNO.Core.ISCSI.LUN", Method: method, Action: dsmsim.DropDone, Times: 1})
		is(t, do(p), errs.Unavailable)
		for range 2 {
			if err := do(p); !errs.Is(err, errs.Exists) || !strings.Contains(err.Error(), "its description does not say") {
				t.Errorf("%s, without an answer: %v", method, err)
			}
		}
		if left := b.left(); len(left) != before+1 {
			t.Errorf("%s, without an answer: on the NAS is %v", method, left)
		}
	}
	// The same snapshot in the way of a clone.
	b, p := cramped(t, 0)
	b.faults(dsmsim.Fault{API: "SYNO.Core.ISCSI.LUN", Method: "take_snapshot", Action: dsmsim.DropDone, Times: 1})
	is(t, creates(t, p, long, of(backend.Source{Volume: "a"})), errs.Unavailable)
	if err := creates(t, p, long, of(backend.Source{Volume: "a"})); !errs.Is(err, errs.Exists) || !strings.Contains(err.Error(), "snapshot dozo.nas:copy."+long) {
		t.Errorf("a clone: %v", err)
	}
}

// TestChangedBetween: somebody edits or replaces a LUN between the answer that it was made and the look at it.
func TestChangedBetween(t *testing.T) {
	t.Parallel()
	name := "dozo.nas." + long
	for what, change := range map[string]func(*bed) error{
		"edited": func(b *bed) error { return b.nas.DescribeLUN(t.Context(), name, "mysql of the shop") },
		"replaced": func(b *bed) error {
			deleted := b.nas.DeleteLUN(t.Context(), name)
			_, err := b.nas.CreateLUN(t.Context(), dsm.NewLUN{Name: name, Location: "/volume1", Type: dsm.TypeThin, Size: 4 << 20, Description: `{"dozo":1,"pool":"nas"`})
			return errors.Join(deleted, err)
		},
	} {
		b, p := cramped(t, 0)
		var made, meddled atomic.Bool
		b.intercept(func(_, method string) bool {
			if method == "create" {
				made.Store(true)
			}
			if method == "get" && made.Load() && !meddled.Swap(true) {
				if err := change(b); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			return false
		})
		err := creates(t, p, long)
		b.intercept(nil)
		if !errs.Is(err, errs.Aborted) || !meddled.Load() {
			t.Errorf("%s: %v", what, err)
		}
		if l, err := b.nas.LUN(t.Context(), name); err != nil {
			t.Errorf("%s: the LUN is %+v, %v", what, l, err)
		}
		is(t, creates(t, p, long), errs.Exists)
	}
}
