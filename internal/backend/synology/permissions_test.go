package synology_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// may is what each user may do with a share that is there: "rw", "ro", "no" or, if nothing was said, "-".
func (b *bed) may(p *synology.Backend, id backend.ID) map[string]string {
	b.t.Helper()
	all, err := b.nas.Permissions(b.t.Context(), b.share(p, id), dsm.LocalUsers)
	fine(b.t, err)
	words := map[string]string{}
	for _, u := range all {
		switch {
		case bool(u.Deny):
			words[u.Name] = "no"
		case bool(u.Writable):
			words[u.Name] = "rw"
		case bool(u.ReadOnly):
			words[u.Name] = "ro"
		default:
			words[u.Name] = "-"
		}
	}
	return words
}

// TestAttachSMBShare: its users have permission as long as a node has it, to write if one of them writes. Others' stays.
func TestAttachSMBShare(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(map[string]string{"server": "[fd00::7]"}), t.Context()
	v := b.create(p, "a", bySMB)
	if want := "//fd00::7/" + b.share(p, v.ID); v.Access.Mount.Type != backend.CIFS || v.Access.Mount.Source != want {
		t.Errorf("access %+v, want %s", v.Access.Mount, want)
	}
	f, ok := b.plane.Folder(b.share(p, v.ID))
	if !ok || !f.Hidden || len(f.Users) > 0 {
		t.Errorf("a new share is served as %+v", f)
	}
	fine(t, b.nas.SetPermissions(ctx, b.share(p, v.ID), dsm.LocalUsers, []dsm.Permission{{Name: "dozo", ReadOnly: true}}))
	expect := func(when, users string) {
		t.Helper()
		if got := b.may(p, v.ID); got["k8s"] != users || got["K9 s"] != users || got["dozo"] != "ro" {
			t.Errorf("%s: users may %v, want %s", when, got, users)
		}
	}
	expect("new", "-")
	reader, writer := shareable("n1"), shareable("n2")
	reader.ReadOnly = true
	steps := []struct {
		when string
		do   func() error
		want string
	}{
		{"a reader", func() error { _, err := p.Attach(ctx, v.ID, reader); return err }, "ro"},
		{"and a writer", func() error { _, err := p.Attach(ctx, v.ID, writer); return err }, "rw"},
		{"the reader is gone", func() error { return p.Detach(ctx, v.ID, "n1") }, "rw"},
		{"both", func() error { _, err := p.Attach(ctx, v.ID, reader); return err }, "rw"},
		{"the writer is gone", func() error { return p.Detach(ctx, v.ID, "n2") }, "ro"},
		{"nobody", func() error { return p.Detach(ctx, v.ID, "n1") }, "no"},
	}
	for _, s := range steps {
		fine(t, s.do())
		expect(s.when, s.want)
		fine(t, s.do())
		expect(s.when+", again", s.want)
	}
	b.attach(p, v.ID, reader)
	_, err := p.Attach(ctx, v.ID, backend.AttachRequest{Node: "n3"})
	is(t, err, errs.InUse)
	is(t, p.Delete(ctx, v.ID), errs.InUse)
	fine(t, p.Detach(ctx, v.ID, ""))
	expect("taken from all", "no")
	_, err = p.Expand(ctx, v.ID, 8<<20)
	fine(t, err)
	if f, _ := b.plane.Folder(b.share(p, v.ID)); !f.Hidden || f.QuotaMB != 8 {
		t.Errorf("an expanded share is served as %+v", f)
	}
}

// TestUsersOfSMBShares: they have to be named, and to be there; a share is by one protocol only.
func TestUsersOfSMBShares(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(map[string]string{"protocol": "smb"}), t.Context()
	_, err := p.Create(ctx, request("a"))
	is(t, err, errs.Invalid)
	if err == nil || !strings.Contains(err.Error(), `options["users"]`) {
		t.Errorf("without users: %v", err)
	}
	b.create(p, "a", with("users", "nobody"))
	_, err = p.Attach(ctx, "a", node)
	is(t, err, errs.Invalid)
	if err == nil || !strings.Contains(err.Error(), "has no user nobody") {
		t.Errorf("of an absent user: %v", err)
	}
	fine(t, p.Detach(ctx, "a", "n1"))
	fine(t, p.Delete(ctx, "a"))
	b.create(p, "b", with("users", "k8s"))
	_, err = p.Create(ctx, request("b", shared))
	is(t, err, errs.Exists)
	// A copy is by the protocol that was asked for, with the permissions of its own.
	b.attach(p, "b", node)
	v := b.create(p, "c", shared, of(backend.Source{Volume: "b"}))
	if v.Access.Mount.Type != backend.NFS {
		t.Errorf("the copy is reached by %+v", v.Access.Mount)
	}
	b.attach(p, "c", node)
	if rules := b.rulesOf(p, "c"); !slices.ContainsFunc(rules, func(r dsm.NFSRule) bool { return r.Client == "10.0.0.1" }) {
		t.Errorf("rules of the copy: %+v", rules)
	}
}
