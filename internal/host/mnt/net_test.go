package mnt

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// mountNFS is a mount.nfs that says no, and what it was asked.
type mountNFS struct {
	text string
	args []string
}

func (m *mountNFS) Run(_ context.Context, c host.Cmd) (host.Output, error) {
	m.args = c.Args
	return host.Output{}, &host.ExitError{Name: c.Name, Code: 32, Stderr: m.text}
}

// TestMountNFSVersion: version 4 is asked for, and not 3 where the server has no other, unless it is said which.
func TestMountNFSVersion(t *testing.T) {
	h := host.New()
	p, err := Open(h, "staging_target_path", "", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	const versionless, older, twice = "mount.nfs: Protocol not supported", "mount.nfs: requested NFS version or transport protocol is not supported", "mount.nfs: multiple version options not permitted"
	for _, c := range []struct {
		words, asked, text string
		want               errs.Kind
		explained          bool
	}{
		{"", "retry=0,vers=4", versionless, errs.Unavailable, true},
		{"noatime versatile=1", "retry=0,vers=4,noatime,versatile=1", older, errs.Unavailable, true},
		{"", "retry=0,vers=4", "mount.nfs: Connection refused", errs.Unavailable, false},
		{"vers=3 nolock", "retry=0,vers=3,nolock", versionless, errs.Unavailable, false},
		{"nfsvers=4.1", "retry=0,nfsvers=4.1", older, errs.Unavailable, false},
		{"noatime v4.2", "retry=0,noatime,v4.2", versionless, errs.Unavailable, false},
		{"vers=4.1 nfsvers=4.2", "retry=0,vers=4.1,nfsvers=4.2", twice, errs.Invalid, false},
		{"verse", "retry=0,vers=4,verse", "mount.nfs: an incorrect mount option was specified", errs.Invalid, false},
	} {
		program := &mountNFS{text: c.text}
		h.Runner = program
		_, err := MountNFS(t.Context(), h, "stage.mount", p, NetFS{Source: "nas:/volume1/s", Words: strings.Fields(c.words)})
		if want := []string{"nas:/volume1/s", p.path, "-o", c.asked}; !slices.Equal(program.args, want) {
			t.Errorf("%q: mount.nfs %q, want %q", c.words, program.args, want)
		}
		if !errs.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: %v (%v), want %v", c.words, err, errs.KindOf(err), c.want)
		}
		if strings.Contains(err.Error(), "let the server serve version 4.1") != c.explained {
			t.Errorf("%q: %v, which is to say what to do: %v", c.words, err, c.explained)
		}
	}
}
