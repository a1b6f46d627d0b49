package crypt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// What takes a kernel with device-mapper is tested by test/crypt.

func TestKey(t *testing.T) {
	for name, c := range map[string]struct {
		secrets map[string]string
		says    string // "": it is a key
	}{
		"one":            {map[string]string{"passphrase": "a"}, ""},
		"two":            {map[string]string{"passphrase": "a", "previous-passphrase": "b"}, ""},
		"none":           {nil, "node-stage-secret-name"},
		"empty":          {map[string]string{"passphrase": ""}, "missing"},
		"only the other": {map[string]string{"previous-passphrase": "b"}, "missing"},
		"too long":       {map[string]string{"passphrase": strings.Repeat("sesame", 1000)}, "4096"},
		"zero byte":      {map[string]string{"passphrase": "sesame\x00"}, "zero byte"},
	} {
		k, err := KeyFrom(c.secrets)
		if (err == nil) != (c.says == "") || err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: the error has the passphrase", name)
		}
		if shown := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Contains(shown, "97") || strings.Contains(shown, "a a") {
			t.Errorf("%s: shown as %s", name, shown)
		}
	}
	if k, _ := KeyFrom(map[string]string{"passphrase": "a", "previous-passphrase": "a"}); k.previous != nil {
		t.Error("a passphrase is its own predecessor: it would be removed")
	}
}

func TestNameFitsDeviceMapper(t *testing.T) {
	long := strings.Repeat("p", 63) + ":" + strings.Repeat("v", 63)
	if n := Name(long); len(n) > 127 || strings.ContainsAny(n, ":/ ") {
		t.Errorf("%q", n)
	}
	if Name("p:v") == Name("p:w") || Name("p:v-w") == Name("p-v:w") {
		t.Error("two volumes have one name")
	}
}

// marks is the mark of one volume.
type marks struct {
	m       backend.Mark
	unknown bool
}

func (m *marks) Mark(context.Context) (backend.Mark, bool, error) { return m.m, !m.unknown, nil }
func (m *marks) SetMark(_ context.Context, v backend.Mark) error  { m.m = v; return nil }

// TestInside goes through the life of a mark as package fs sees it.
func TestInside(t *testing.T) {
	for _, c := range []struct{ outside, inside backend.Mark }{
		{backend.Mark{FS: "luks2", Done: true}, backend.Mark{FS: "xfs"}},
		{backend.Mark{FS: "luks2", Done: true, Copied: true}, backend.Mark{FS: "xfs", Copied: true}},
		{backend.Mark{FS: "luks2/ext4"}, backend.Mark{FS: "ext4"}},
		{backend.Mark{FS: "luks2/ext4", Done: true, Copied: true}, backend.Mark{FS: "ext4", Done: true, Copied: true}},
		{backend.Mark{}, backend.Mark{}},
		{backend.Mark{FS: "raw", Done: true}, backend.Mark{FS: "raw", Done: true}},
	} {
		got, known, err := Inside(&marks{m: c.outside}, "xfs").Mark(t.Context())
		if err != nil || !known || got != c.inside {
			t.Errorf("%+v became %+v, %v, %v, want %+v", c.outside, got, known, err, c.inside)
		}
	}
	var m marks
	if err := Inside(&m, "").SetMark(t.Context(), backend.Mark{FS: "ext4", Done: true}); err != nil || m.m != (backend.Mark{FS: "luks2/ext4", Done: true}) {
		t.Errorf("stored as %+v, %v", m.m, err)
	}
	for _, wrong := range []string{"ext4", "luks2", "raw"} {
		if _, _, err := Inside(&marks{m: backend.Mark{FS: wrong}}, "").Mark(t.Context()); err == nil {
			t.Errorf("%q, not done, is taken for the mark of an open volume", wrong)
		}
	}
	if _, known, _ := Inside(&marks{unknown: true}, "").Mark(t.Context()); known {
		t.Error("a mark that nobody keeps is known")
	}
}

// TestClose gives cryptsetup's answers their kinds.
func TestClose(t *testing.T) {
	for code, want := range map[int]error{
		0: nil, exitNoDevice: nil, exitBusy: errs.E(errs.InUse, ""), 1: errs.E(errs.Internal, ""), exitNoKey: errs.E(errs.Internal, ""),
	} {
		h := host.New()
		h.Runner = &hosttest.Script{Answers: map[string]hosttest.Answer{"unstage.luks.close": {Code: code}}}
		err := Close(t.Context(), h, "dozo-v")
		if (err == nil) != (want == nil) || err != nil && errs.KindOf(err) != errs.KindOf(want) {
			t.Errorf("status %d: %v, want %v", code, err, want)
		}
	}
}

// answers is a runner that gives cryptsetup's answers in turn, and remembers what it was told.
type answers struct {
	codes []int
	told  []host.Cmd
}

func (a *answers) Run(_ context.Context, c host.Cmd) (host.Output, error) {
	if len(a.told) == len(a.codes) {
		return host.Output{}, errors.New("one call too many")
	}
	code := a.codes[len(a.told)]
	a.told = append(a.told, c)
	if code == 0 {
		return host.Output{}, nil
	}
	return host.Output{}, &host.ExitError{Name: c.Name, Code: code}
}

// TestUnlock: in which order passphrases are tried, given and taken away.
func TestUnlock(t *testing.T) {
	old := Key{passphrase: []byte("new"), previous: []byte("old")}
	one := Key{passphrase: []byte("new")}
	for name, c := range map[string]struct {
		key      Key
		readOnly bool
		codes    []int
		ops      string
		kind     errs.Kind // Internal: it goes well
	}{
		"opens":                    {one, false, []int{0}, "open:new", 0},
		"does not":                 {one, false, []int{2}, "open:new", errs.Invalid},
		"replaced":                 {old, false, []int{2, 0, 0, 0}, "open:new addkey:oldnew open:new removekey:old", 0},
		"killed before the last":   {old, false, []int{0, 0}, "open:new removekey:old", 0},
		"was replaced":             {old, false, []int{0, 2}, "open:new removekey:old", 0},
		"neither":                  {old, false, []int{2, 2}, "open:new addkey:oldnew", errs.Invalid},
		"read-only, not replaced":  {old, true, []int{2, 0}, "open:new open:old", 0},
		"read-only, nothing taken": {old, true, []int{0}, "open:new", 0},
		"read-only, neither":       {old, true, []int{2, 2}, "open:new open:old", errs.Invalid},
	} {
		r := &answers{codes: c.codes}
		h := host.New()
		h.Runner = r
		err := unlock(t.Context(), h, Volume{Device: "/dev/x", Name: "dozo-v", ReadOnly: c.readOnly}, c.key)
		if (err == nil) != (c.kind == 0) || err != nil && errs.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %v", name, err, c.kind)
		}
		var ops []string
		for _, cmd := range r.told {
			ops = append(ops, strings.TrimPrefix(cmd.Op, "stage.luks.")+":"+string(cmd.Stdin))
			if all := strings.Join(cmd.Args, " "); strings.Contains(all, "new ") || strings.Contains(all, "old") {
				t.Errorf("%s: a passphrase is in the arguments: %s", name, all)
			}
		}
		if got := strings.Join(ops, " "); got != c.ops {
			t.Errorf("%s: %s, want %s", name, got, c.ops)
		}
	}
}

// TestCheapKeys: it knows the options that it replaces.
func TestCheapKeys(t *testing.T) {
	r := &answers{codes: []int{0}}
	_, err := hosttest.CheapKeys{Runner: r}.Run(t.Context(), host.Cmd{Name: "cryptsetup", Args: append(append([]string{"luksFormat"}, derivation()...), "--", "/dev/x")})
	if got := strings.Join(r.told[0].Args, " "); err != nil || got != "luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 -- /dev/x" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestNoMarksNoEncryption(t *testing.T) {
	h := host.New()
	h.Runner = &answers{}
	if err := ensure(t.Context(), h, Volume{Device: "/dev/x"}, Key{}, &marks{unknown: true}); !errs.Is(err, errs.Unsupported) {
		t.Errorf("%v", err)
	}
}
