package pool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

func TestAttach(t *testing.T) {
	b := newBed(fake.Options{Outside: true})
	v := b.create(t, "v")
	b.observations()
	a, err := b.Attach(t.Context(), v.ID, backend.AttachRequest{Node: "n1"})
	if err != nil || a.ISCSI == nil || a.ISCSI.Target == nil || a.ISCSI.WWID != v.Access.ISCSI.WWID {
		t.Fatalf("%+v, %v", a, err)
	}
	_, err = b.Attach(t.Context(), v.ID, backend.AttachRequest{Node: "n2"})
	refused(t, err, errs.InUse, "n1")
	_, err = b.Attach(t.Context(), v.ID, backend.AttachRequest{})
	refused(t, err, errs.Invalid, "node_id")
	refused(t, b.Delete(t.Context(), v.ID), errs.InUse, "n1")
	if err := b.Detach(t.Context(), v.ID, "n1"); err != nil {
		t.Error(err)
	}
	var ops []string
	for _, o := range b.observations() {
		ops = append(ops, fmt.Sprint(o.Op, " ", o.Err == nil))
	}
	if got := strings.Join(ops, ", "); got != "attach true, attach false, delete false, detach true" {
		t.Errorf("observed %s", got)
	}
}

// TestAttachHasTheLock: nothing else happens to a volume meanwhile, and who waits is told.
func TestAttachHasTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(fake.Options{Outside: true})
		v := b.create(t, "v")
		b.fake.Arm(func(e *fake.Errors) { e.Attach.Hold = pause(time.Minute) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := b.Attach(ctx, v.ID, backend.AttachRequest{Node: "n1"})
		refused(t, err, errs.Aborted, "attach v", "call again")
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		refused(t, b.Detach(ctx, v.ID, "n1"), errs.Aborted, "waiting for attach v")
		if err := b.Detach(t.Context(), v.ID, "n1"); err != nil {
			t.Error(err)
		}
		if nodes := b.fake.Attached(v.ID); len(nodes) > 0 {
			t.Errorf("attached to %v when all was done", nodes)
		}
	})
}

func TestAttachIsNotForAll(t *testing.T) {
	b := newMaskedBed(fake.Plain, fake.Options{})
	v := b.create(t, "v")
	_, err := b.Attach(t.Context(), v.ID, backend.AttachRequest{Node: "n1"})
	refused(t, err, errs.Unsupported, "fake volumes are not attached")
	refused(t, b.Detach(t.Context(), v.ID, "n1"), errs.Unsupported)
}

// TestWrongAccessIsNotHandedOut: it would end up on a node.
func TestWrongAccessIsNotHandedOut(t *testing.T) {
	b := newMaskedBed(func(f *fake.Backend) backend.Backend { return misled{f} }, fake.Options{Outside: true})
	v := b.create(t, "v")
	_, err := b.Attach(t.Context(), v.ID, backend.AttachRequest{Node: "n1"})
	refused(t, err, errs.Internal, "access")
}

type misled struct{ *fake.Backend }

func (misled) Attach(context.Context, backend.ID, backend.AttachRequest) (backend.Access, error) {
	return backend.Access{Version: 3}, nil
}

// TestShares: parameters decide, and what is a file system on a server is not encrypted by a node.
func TestShares(t *testing.T) {
	b := newBed(fake.Options{Outside: true})
	nfs := map[string]string{"protocol": "nfs", "colour": "red"}
	if !b.Shares(nfs) || b.Shares(map[string]string{"protocol": "iscsi"}) || newBed(fake.Options{}).Shares(nfs) {
		t.Error("what is shared")
	}
	_, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: mib, Parameters: map[string]string{"protocol": "nfs", "encryption": "luks2"}})
	refused(t, err, errs.Invalid, "encryption", "server")
	v, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: mib, Parameters: map[string]string{"encryption": "luks2"}})
	if err != nil || v.Access.Encryption == nil || v.Access.Version != 3 {
		t.Errorf("%+v, %v", v.Access, err)
	}
}

// TestSecrets: they come to the kind, their change opens the pool anew, and nothing that prints a spec shows them.
func TestSecrets(t *testing.T) {
	kind := fake.Kind(fake.Options{Outside: true})
	open := kind.Open
	var given []string
	kind.Open = func(ctx context.Context, c backend.Config) (backend.Backend, error) {
		given = append(given, string(c.Secrets["password"]))
		return open(ctx, c)
	}
	s := pool.EmptySet([]backend.Kind{kind}, pool.Options{Log: slog.New(slog.DiscardHandler)})
	spec := pool.Spec{Name: "p", Kind: "fake"}
	for _, password := range []string{"first\n", "first\r\n", "first", "second", " second"} {
		spec.Secrets = pool.NewSecrets(map[string][]byte{"password": []byte(password)})
		if err := s.Use(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(given, "|"); got != "first|second| second" {
		t.Errorf("opened with %q", got)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "spec", spec, "secrets", spec.Secrets)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "spec", spec, "secrets", spec.Secrets)
	for _, text := range []string{string(data), log.String(), fmt.Sprint(spec, &spec), fmt.Sprintf("%v %+v %#v %s %q", spec, spec, spec, spec.Secrets, spec.Secrets)} {
		if strings.Contains(text, "second") || strings.Contains(text, "115 101 99") {
			t.Errorf("a secret is in %s", text)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSharesByOption: a kind decides by the pool's options too, which are complete and its own only.
func TestSharesByOption(t *testing.T) {
	kind := fake.Kind(fake.Options{Outside: true})
	kind.Options = []backend.Parameter{{Name: "protocol", Default: "iscsi"}}
	kind.Shares = func(options, _ map[string]string) bool { return len(options) == 1 && options["protocol"] == "nfs" }
	for value, want := range map[string]bool{"": false, "iscsi": false, "nfs": true} {
		s := pool.Spec{Name: "p", Kind: "fake", Options: map[string]string{"protocol": value}}
		if value == "" {
			s.Options = nil
		}
		p, err := pool.Open(t.Context(), kind, s, pool.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil || p.Shares(nil) != want {
			t.Errorf("protocol %q: %v, %v", value, p.Shares(nil), err)
		}
	}
}
