package pool_test

import (
	"context"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// TestEncryption: what the class asks for is in the access, and the backend hears nothing of it.
func TestEncryption(t *testing.T) {
	b := newBed(fake.Options{})
	for name, c := range map[string]struct {
		parameters map[string]string
		want       *backend.Encryption
	}{
		"not-said": {nil, nil},
		"none":     {map[string]string{"encryption": "none"}, nil},
		"luks2":    {map[string]string{"encryption": "luks2"}, &backend.Encryption{Type: "luks2"}},
		"discard":  {map[string]string{"encryption": "luks2", "encryptionDiscard": "true"}, &backend.Encryption{Type: "luks2", Discard: true}},
	} {
		for range 2 { // made, and found
			v, err := b.Create(t.Context(), pool.VolumeRequest{Name: name, Required: mib, Parameters: c.parameters})
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Access.Check(); err != nil {
				t.Error(err)
			}
			if got := v.Access.Encryption; (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
				t.Errorf("%s: %+v, want %+v", name, got, c.want)
			}
			if least := int64(32 * mib); c.want != nil && v.Size != least || c.want == nil && v.Size != mib {
				t.Errorf("%s: %d bytes", name, v.Size)
			}
		}
	}
	_, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: mib, Parameters: map[string]string{"encryption": "rot13"}})
	refused(t, err, errs.Invalid, `parameters["encryption"]`, "rot13", "luks2")
	_, err = b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: mib, Limit: 2 * mib, Parameters: map[string]string{"encryption": "luks2"}})
	refused(t, err, errs.OutOfRange, "limit")
}

// TestEncryptionIsAboutDevices: a kind whose volumes are none has no such parameter.
func TestEncryptionIsAboutDevices(t *testing.T) {
	for _, mask := range []func(*fake.Backend) backend.Backend{fake.Basic, fake.Shared} {
		b := newMaskedBed(mask, fake.Options{})
		_, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: mib, Parameters: map[string]string{"encryption": "luks2"}})
		refused(t, err, errs.Invalid, "encryption", "unknown")
	}
	b := newMaskedBed(fake.Plain, fake.Options{})
	if _, err := b.Create(t.Context(), pool.VolumeRequest{Name: "v", Required: mib, Parameters: map[string]string{"encryption": "luks2"}}); err != nil {
		t.Error(err)
	}
}

// far is a proxy: it has all methods, and a mask.
type far struct {
	*fake.Backend
	mask backend.Mask
}

func (f far) Mask() backend.Mask { return f.mask }

func TestProxyIsMasked(t *testing.T) {
	b := newMaskedBed(func(f *fake.Backend) backend.Backend { return far{f, backend.Mask{Marker: true}} }, fake.Options{})
	if got := b.Capabilities().Mask(); got != (backend.Mask{Marker: true}) {
		t.Errorf("%+v", got)
	}
	_, err := b.Expand(t.Context(), "v", mib, 0)
	refused(t, err, errs.Unsupported)
}

// TestRemote: a spec with a socket is opened by whoever knows how.
func TestRemote(t *testing.T) {
	kind := fake.Kind(fake.Options{})
	asked := ""
	o := pool.Options{Remote: func(_ context.Context, s pool.Spec) (backend.Kind, error) {
		asked = s.Socket
		if s.Name == "gone" {
			return backend.Kind{}, errs.E(errs.Unavailable, "nobody there")
		}
		return kind, nil
	}}
	spec := pool.Spec{Name: "p", Kind: "fake", Socket: "/s"}
	if _, err := pool.OpenSet(t.Context(), nil, []pool.Spec{spec}, o); err != nil || asked != "/s" {
		t.Errorf("%v, asked %q", err, asked)
	}
	for name, c := range map[string]struct {
		change func(*pool.Spec, *pool.Options)
		kind   errs.Kind
		word   string
	}{
		"kind":    {func(s *pool.Spec, _ *pool.Options) { s.Kind = "other" }, errs.Invalid, `kind: "other"`},
		"options": {func(s *pool.Spec, _ *pool.Options) { s.Options = map[string]string{"path": "/x"} }, errs.Invalid, "remove them here"},
		"nobody":  {func(_ *pool.Spec, o *pool.Options) { o.Remote = nil }, errs.Invalid, "socket"},
	} {
		t.Run(name, func(t *testing.T) {
			s, o := spec, o
			c.change(&s, &o)
			_, err := pool.OpenSet(t.Context(), nil, []pool.Spec{s}, o)
			refused(t, err, c.kind, c.word)
		})
	}
	// One that does not answer is a pool that is not open yet.
	gone := spec
	gone.Name = "gone"
	set, err := pool.OpenSet(t.Context(), nil, []pool.Spec{gone}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close(t.Context())
	_, err = set.Get("gone")
	refused(t, err, errs.Unavailable, "nobody there")
}
