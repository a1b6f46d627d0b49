package pool_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// listed returns the snapshots of a pool as "source@group".
func (b *bed) listed(t *testing.T) (all []string) {
	t.Helper()
	for s, err := range b.ListSnapshots(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s@%s", s.Source, s.Group))
	}
	return all
}

func TestSnapshot(t *testing.T) {
	b, ctx := newBed(fake.Options{}), t.Context()
	b.create(t, "v")
	b.create(t, "w")
	first, err := b.Snapshot(ctx, "Nightly 1", "v")
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Snapshot(ctx, "Nightly 1", "v")
	if diff := cmp.Diff(first, again); err != nil || diff != "" {
		t.Errorf("the second call: %v\n%s", err, diff)
	}
	_, err = b.Snapshot(ctx, "Nightly 1", "w")
	refused(t, err, errs.Exists, "Nightly 1")
	got, err := b.GetSnapshot(ctx, backend.IDFor("Nightly 1"))
	if diff := cmp.Diff(first, got); err != nil || diff != "" {
		t.Errorf("get: %v\n%s", err, diff)
	}
	for range 2 {
		if err := b.DeleteSnapshot(ctx, first.ID); err != nil {
			t.Error(err)
		}
	}
	if left := b.listed(t); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestDeleteSnapshotThatCannotBeAsked(t *testing.T) {
	b := newBed(fake.Options{})
	b.fake.Arm(func(e *fake.Errors) { e.GetSnapshot.Before = errs.E(errs.Unavailable, "no answer") })
	refused(t, b.DeleteSnapshot(t.Context(), "s"), errs.Unavailable, "no answer")
	if b.fake.Calls("DeleteSnapshot") != 0 {
		t.Error("a snapshot was deleted that may belong to a group")
	}
}

func TestGroups(t *testing.T) {
	b, ctx := newBed(fake.Options{}), t.Context()
	for _, name := range []string{"a", "b", "c"} {
		b.create(t, name)
	}
	made, err := b.SnapshotGroup(ctx, "g", []backend.ID{"b", "a", "b"})
	if err != nil || len(made) != 2 {
		t.Fatalf("a group of two volumes, one of them twice: %+v, %v", made, err)
	}
	again, err := b.SnapshotGroup(ctx, "g", []backend.ID{"a", "b"})
	if diff := cmp.Diff(made, again); err != nil || diff != "" {
		t.Errorf("the second call: %v\n%s", err, diff)
	}
	if err := b.mayGroup(ctx, "other", "a"); err != nil {
		t.Error(err)
	}
	for what, sources := range map[string][]backend.ID{
		"one more": {"a", "b", "c"}, "one less": {"a"}, "others": {"c"}, "one other": {"a", "c"},
	} {
		t.Run(what, func(t *testing.T) { refused(t, b.mayGroup(ctx, "g", sources...), errs.Exists, "group g exists") })
	}
	refused(t, b.mayGroup(ctx, "none"), errs.Invalid, "source_volume_ids")
	refused(t, b.DeleteSnapshot(ctx, made[0].ID), errs.Invalid, "belongs to the group g")
	if diff := cmp.Diff([]string{"a@g", "a@other", "b@g"}, slices.Sorted(slices.Values(b.listed(t)))); diff != "" {
		t.Error(diff)
	}
	members, err := b.GetGroup(ctx, "g")
	if diff := cmp.Diff(made, members); err != nil || diff != "" {
		t.Errorf("get group: %v\n%s", err, diff)
	}
	for range 2 {
		if err := b.DeleteGroup(ctx, "g"); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"a@other"}, b.listed(t)); diff != "" {
		t.Error(diff)
	}
}

// TestGroupHalfDeleted: what is left of a group is not made whole with data of another instant.
func TestGroupHalfDeleted(t *testing.T) {
	b, ctx := newBed(fake.Options{}), t.Context()
	b.create(t, "a")
	b.create(t, "b")
	if err := b.mayGroup(ctx, "g", "a", "b"); err != nil {
		t.Fatal(err)
	}
	b.fake.Arm(func(e *fake.Errors) { e.DeleteSnapshot.After = errs.E(errs.Unavailable, "the line is cut") })
	refused(t, b.DeleteGroup(ctx, "g"), errs.Unavailable)
	refused(t, b.mayGroup(ctx, "g", "a", "b"), errs.Exists, "1 of the 2", "delete it")
	if err := b.DeleteGroup(ctx, "g"); err != nil {
		t.Error(err)
	}
	if err := b.mayGroup(ctx, "g", "a", "b"); err != nil {
		t.Error(err)
	}
}

// TestGroupOfAPartialList: half a list is not taken for the group.
func TestGroupOfAPartialList(t *testing.T) {
	b, ctx := newBed(fake.Options{}), t.Context()
	b.create(t, "a")
	b.create(t, "b")
	if err := b.mayGroup(ctx, "g", "a", "b"); err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"get":    func() error { _, err := b.GetGroup(ctx, "g"); return err },
		"delete": func() error { return b.DeleteGroup(ctx, "g") },
		"create": func() error { return b.mayGroup(ctx, "g", "a", "b") },
	} {
		b.fake.Arm(func(e *fake.Errors) { e.ListSnapshots.After = errs.E(errs.Unavailable, "the line is cut") })
		t.Run(what, func(t *testing.T) { refused(t, call(), errs.Unavailable, "cut") })
	}
	if got := b.listed(t); len(got) != 2 {
		t.Errorf("left: %v", got)
	}
}

// TestGroupMadeAnew: a group that appears while its predecessor is being deleted is not locked.
func TestGroupMadeAnew(t *testing.T) {
	b, ctx := newBed(fake.Options{}), t.Context()
	b.create(t, "a")
	lists := 0
	b.fake.Arm(func(e *fake.Errors) {
		e.ListSnapshots.Hold = func(context.Context) error {
			if lists++; lists != 2 {
				return nil
			}
			_, err := b.fake.CreateSnapshot(ctx, backend.SnapshotRequest{ID: "new", Name: "new", Source: "a", Group: "g"})
			return err
		}
	})
	refused(t, b.DeleteGroup(ctx, "g"), errs.Aborted, "anew", "call again")
	if err := b.DeleteGroup(ctx, "g"); err != nil {
		t.Error(err)
	}
	if left := b.listed(t); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestLocal(t *testing.T) {
	b, ctx := newBed(fake.Options{}), t.Context()
	b.create(t, "v")
	device, err := b.Activate(ctx, "v")
	if err != nil || device != fake.DevicePath("v") || !b.fake.Active("v") {
		t.Errorf("activated as %q, %v", device, err)
	}
	if err := b.Deactivate(ctx, "v"); err != nil || b.fake.Active("v") {
		t.Errorf("deactivate: %v", err)
	}
	want := backend.Mark{FS: "ext4", Done: true}
	if err := b.SetMark(ctx, "v", want); err != nil {
		t.Error(err)
	}
	if m, known, err := b.Mark(ctx, "v"); m != want || !known || err != nil {
		t.Errorf("mark: %+v %v %v", m, known, err)
	}
	_, known, err := b.Mark(ctx, "absent")
	refused(t, err, errs.NotFound)
	if !known {
		t.Error("an error says that the pool keeps no marks, which would let a device be formatted again")
	}
	ill := backend.Problem{Severity: backend.Degraded, Reason: "DiskGone", Message: "replace it"}
	b.fake.SetProblems("v", ill)
	problems, err := b.Check(ctx, "v")
	if diff := cmp.Diff([]backend.Problem{ill}, problems); err != nil || diff != "" {
		t.Errorf("check: %v\n%s", err, diff)
	}
	if p, err := b.fake.Open("v"); err != nil {
		t.Error(err)
	} else {
		refused(t, b.Deactivate(ctx, "v"), errs.InUse)
		p.Close()
	}
}
