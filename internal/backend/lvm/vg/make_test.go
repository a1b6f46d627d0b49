package vg

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// machine is one with a disk "sdb" that has the content of a fixture and these attributes in sysfs.
func machine(t *testing.T, attributes map[string]string) (g *Group, device string) {
	t.Helper()
	h, dir := host.New(), t.TempDir()
	h.Roots.Sys, h.Roots.Dev = filepath.Join(dir, "sys"), filepath.Join(dir, "dev")
	device = h.Dev("sdb")
	for _, d := range []string{h.Dev(), h.Sys("class", "block", "sdb", "holders"), h.Sys("class", "block", "sdb", "dm")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range attributes {
		if err := os.WriteFile(h.Sys("class", "block", "sdb", name), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	disk(t, device, "full-pv0")
	return New(h).Get("vg"), device
}

// TestGroupOn: what cannot be told is an error, unless it shows elsewhere.
func TestGroupOn(t *testing.T) {
	damage := func(at int64) func(t *testing.T, device string) {
		return func(t *testing.T, device string) {
			f, err := os.OpenFile(device, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte{1, 2, 3}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	gone := func(t *testing.T, device string) {
		if err := os.Remove(device); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		attributes map[string]string
		change     func(t *testing.T, device string)
		group      string
		fails      bool
	}{
		"as it is":               {group: "vg"},
		"no label":               {change: damage(512)},
		"header damaged":         {change: damage(4096), fails: true},
		"does not answer":        {change: gone, fails: true},
		"shows on another":       {attributes: map[string]string{"holders/dm-0": ""}, change: gone},
		"read and on another":    {attributes: map[string]string{"holders/dm-0": ""}, group: "vg"},
		"logical volume":         {attributes: map[string]string{"dm/uuid": "LVM-x"}},
		"of the device mapper":   {attributes: map[string]string{"dm/uuid": "CRYPT-x"}, group: "vg"},
		"no medium":              {attributes: map[string]string{"size": "0"}, change: gone},
		"removable":              {attributes: map[string]string{"removable": "1"}, change: gone},
		"hidden path of an NVMe": {attributes: map[string]string{"hidden": "1"}, change: gone},
	} {
		g, device := machine(t, c.attributes)
		if c.change != nil {
			c.change(t, device)
		}
		if got, err := g.groupOn(t.Context(), "sdb"); got != c.group || (err != nil) != c.fails {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

// TestPrepared: what was made by others, is in a group or was in one is not ours to use.
func TestPrepared(t *testing.T) {
	const id = "dozoPV-abcd-abcd-abcd-abcd-abcd-abcdef"
	for p, want := range map[PV]bool{
		{UUID: id}:               true,
		{UUID: id, Group: "vg"}:  false,
		{UUID: id, Used: "used"}: false,
		{UUID: uuid}:             false,
		{UUID: id, Group: "[unknown]", Used: "used"}: false,
		{}: false,
	} {
		if p.Prepared() != want {
			t.Errorf("%+v: %v", p, !want)
		}
		if want := p.Used != "" && p.Group != "vg"; p.Lost() != want {
			t.Errorf("%+v: lost %v", p, !want)
		}
	}
}

// TestPrepare: each has another UUID, of the form that LVM takes, and LVM is not told to go on whatever it finds.
func TestPrepare(t *testing.T) {
	h, script, seen := host.New(), &hosttest.Script{Answers: map[string]hosttest.Answer{"open.pvcreate": {}}}, map[string]bool{}
	h.Runner = script
	g := New(h).Get("vg")
	for range 20 {
		if err := g.Prepare(t.Context(), "open", "/dev/none"); err != nil {
			t.Fatal(err)
		}
	}
	form := regexp.MustCompile(`^dozoPV(-[A-Z2-7]{4}){5}-[A-Z2-7]{6}$`)
	for _, c := range script.Commands() {
		at := slices.Index(c.Args, "--uuid") + 1
		if u := c.Args[at]; at == 0 || !form.MatchString(u) || seen[u] {
			t.Fatalf("%q", c.Args)
		} else {
			seen[u] = true
		}
		for _, forced := range []string{"--yes", "-y", "--force", "-f", "-ff"} {
			if slices.Contains(c.Args, forced) {
				t.Errorf("%q", c.Args)
			}
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d UUIDs", len(seen))
	}
}
