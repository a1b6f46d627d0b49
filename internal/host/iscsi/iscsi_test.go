package iscsi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// page is what a LUN of Linux's target answers, as read in a guest.
const page = "008300b80103001060014050513a3cd1edf296d4d4bdb712020100344c494f2d4f5247 49424c4f434b3a30353133613363642d316564662d323936642d346434622d646237313264613030303030005194000400000001"

func identification(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseIdentification(t *testing.T) {
	for text, want := range map[string]string{
		page:                                 "360014050513a3cd1edf296d4d4bdb712",
		"":                                   "",
		"0083000c 01030008 5001405000000001": "35001405000000001",
		"00830020 01030008 5001405000000001 01030010 60014050513a3cd1edf296d4d4bdb712": "360014050513a3cd1edf296d4d4bdb712", // the longer one
		"00830020 01030010 60014050513a3cd1edf296d4d4bdb712 01030008 5001405000000001": "360014050513a3cd1edf296d4d4bdb712",
		"0083000c 01130008 5001405000000001":                                           "", // of the port
		"0083000c 02010008 4142434445464748":                                           "", // a name, not an NAA identifier
		"0080000c 01030008 5001405000000001":                                           "", // another page
		"0083000c 01030010 5001405000000001":                                           "", // longer than the page
		"00830004 01030000":                                                            "",
		"ffffffff":                                                                     "",
	} {
		if got := parseIdentification(identification(t, text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestRefuses: only what is not there is taken for that.
func TestRefuses(t *testing.T) {
	for text, want := range map[string]bool{
		"70000500 0000000a 00000000 25000000": true,  // no such LUN, as Linux's target says it
		"72052500":                            true,  // the same, with descriptors
		"f1000500":                            true,  // a deferred error, with an information field
		"70000200 0000000a 00000000 04010000": false, // becoming ready
		"70000600 0000000a 00000000 29000000": false, // was reset
		"70000b00":                            false, // aborted
		"72020401":                            false,
		"":                                    false,
		"7000":                                false,
		"00000500":                            false,
	} {
		if got := refuses(identification(t, text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func FuzzParseIdentification(f *testing.F) {
	f.Add(identification(f, page))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := parseIdentification(b); got != "" && (got[0] != '3' || len(got) > 2*255+1) {
			t.Errorf("%q", got)
		}
	})
}

func TestAmendARecord(t *testing.T) {
	const made = "# BEGIN RECORD 2.1.8\nnode.name = iqn.2000-01.com.synology:a\nnode.startup = automatic\nnode.session.auth.authmethod = None\nnode.session.auth.chap_algs = MD5\n# END RECORD\n"
	chap, err := CHAPFrom(map[string]string{SecretUser: "u", SecretPassword: "secret-of-u"})
	if err != nil {
		t.Fatal(err)
	}
	with := amend(made, settings(chap))
	for _, line := range []string{"node.name = iqn.2000-01.com.synology:a", "node.startup = manual", "node.session.scan = manual",
		"node.session.auth.authmethod = CHAP", "node.session.auth.username = u", "node.session.auth.password = secret-of-u", "node.session.auth.chap_algs = MD5"} {
		if strings.Count(with, line+"\n") != 1 {
			t.Errorf("%q is not there once:\n%s", line, with)
		}
	}
	if strings.Contains(with, "automatic") || strings.Contains(with, "_in") || amend(with, settings(chap)) != with {
		t.Errorf("not right, or not the same a second time:\n%s", with)
	}
	without := amend(with, settings(nil))
	if strings.Contains(without, "secret-of-u") || !strings.Contains(without, "authmethod = None\n") {
		t.Errorf("with a password still:\n%s", without)
	}
}

// admin acts as iscsiadm, which writes records with an end and does not know those without.
type admin struct{ nodes string }

func (a admin) Run(_ context.Context, c host.Cmd) (host.Output, error) {
	files, err := filepath.Glob(filepath.Join(a.nodes, "*", "*"))
	switch c.Op {
	case "iscsi.record.new":
		err = os.MkdirAll(filepath.Join(a.nodes, "iqn.x"), 0o700)
		if err != nil {
			return host.Output{}, err
		}
		err = os.WriteFile(filepath.Join(a.nodes, "iqn.x", "10.0.0.1,3260"), []byte("# BEGIN RECORD 2.1\nnode.name = iqn.x\n# END RECORD\n"), 0o600)
	case "iscsi.record.delete":
		for _, f := range files {
			if text, _ := os.ReadFile(f); strings.HasSuffix(string(text), "# END RECORD\n") {
				err = errors.Join(err, os.Remove(f))
			}
		}
	}
	return host.Output{}, err
}

// TestRecordsOfTheNode: they are where the node's open-iscsi has them.
func TestRecordsOfTheNode(t *testing.T) {
	for _, dir := range []string{"etc/iscsi/nodes", "var/lib/iscsi/nodes"} {
		h := host.New()
		h.Node = t.TempDir()
		h.Runner = admin{filepath.Join(h.Node, dir)}
		i := New(h)
		for range 2 {
			if err := i.Record(t.Context(), "iqn.x", "10.0.0.1:3260", nil); err != nil {
				t.Fatal(err)
			}
		}
		if text, err := os.ReadFile(filepath.Join(h.Node, dir, "iqn.x", "10.0.0.1,3260")); err != nil || !strings.Contains(string(text), "node.startup = manual\n") {
			t.Errorf("%s: %q, %v", dir, text, err)
		}
		if got := i.Portals("iqn.x"); !slices.Equal(got, []string{"10.0.0.1:3260"}) {
			t.Errorf("%s: portals %v", dir, got)
		}
		if err := i.Forget(t.Context(), "iqn.x"); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(filepath.Join(h.Node, dir)); len(left) > 0 || err != nil {
			t.Errorf("%s: left: %v, %v", dir, left, err)
		}
	}
}

// TestCutShort: a record that an iscsiadm had begun when it was killed is made anew, or removed.
func TestCutShort(t *testing.T) {
	const iqn = "iqn.x"
	h := host.New()
	h.Node = t.TempDir()
	nodes := h.OfNode("/etc/iscsi/nodes")
	h.Runner = admin{nodes}
	i := New(h)
	at := filepath.Join(nodes, iqn, "10.0.0.1,3260")
	for _, left := range []string{"", "# BEGIN RECORD 2.1\nnode.na"} {
		for _, file := range []string{at, at + ".tmp"} {
			if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(file, []byte(left), 0o600)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := i.Record(t.Context(), iqn, "10.0.0.1:3260", nil); err != nil {
					t.Fatal(err)
				}
			}
			if text, err := os.ReadFile(at); err != nil || !strings.Contains(string(text), "node.name = iqn.x\n") || !strings.Contains(string(text), "node.startup = manual\n") {
				t.Errorf("after %q: %q, %v", left, text, err)
			}
			if err := os.WriteFile(file, []byte(left), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := i.Forget(t.Context(), iqn); err != nil {
					t.Errorf("forget %q: %v", left, err)
				}
			}
			if _, err := os.Lstat(filepath.Dir(at)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after %q: %v", left, err)
			}
		}
	}
}

func TestCHAPFrom(t *testing.T) {
	right := map[string]string{SecretUser: "u", SecretPassword: "p", SecretUserIn: "i", SecretPasswordIn: "q"}
	chap, err := CHAPFrom(right)
	if err != nil || chap.userIn != "i" || strings.Contains(fmt.Sprintf("%v %+v %#v", chap, *chap, *chap), "q") {
		t.Errorf("%v, %v", chap, err)
	}
	for key, value := range map[string]string{SecretUser: "", SecretPassword: "", SecretUserIn: "", SecretPasswordIn: ""} {
		bad := map[string]string{}
		for k, v := range right {
			bad[k] = v
		}
		bad[key] = value
		if _, err := CHAPFrom(bad); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), key) {
			t.Errorf("without %s: %v", key, err)
		}
	}
	for _, value := range []string{"with space", "line\nbreak", "node.startup = automatic", "ü", strings.Repeat("x", 256), "<empty>"} {
		_, err := CHAPFrom(map[string]string{SecretUser: "u", SecretPassword: value})
		if !errs.Is(err, errs.Invalid) || strings.Contains(err.Error(), value) {
			t.Errorf("%.20q: %v", value, err)
		}
	}
}

func TestPortals(t *testing.T) {
	s := Session{portals: []portal{{"fd00::1", "3260"}, {"nas.example.org", "3260"}}}
	for p, want := range map[string]bool{"[fd00:0::1]:3260": true, "[fd00::1]:3261": false, "nas.example.org:3260": true, "10.0.0.1:3260": false} {
		if s.By(p) != want {
			t.Errorf("%s: %v", p, !want)
		}
	}
}
