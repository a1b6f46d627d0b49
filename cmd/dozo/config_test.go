package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPoolConfig(t *testing.T) {
	const two = "pools:\n- {name: a, kind: loopfile, options: {path: /a}}\n- {name: b, kind: other, options: {}}\n"
	for _, c := range []struct {
		name, text, kind string
		pools            int
		says             string
	}{
		{"one", "pools:\n- name: a\n  kind: loopfile\n  options: {path: /a}\n", "", 1, ""},
		{"two kinds, one chosen", two, "other", 1, ""},
		{"two kinds", two, "", 0, "--kind"},
		{"a kind that is not there", two, "third", 0, "of the kind third"},
		{"empty", "", "", 0, "there are none"},
		{"a misspelt field", "pools:\n- nmae: a\n", "", 0, "nmae"},
		{"not YAML", "{", "", 0, "--pool-config"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pools.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			specs, err := readPoolConfig(file, c.kind)
			if len(specs) != c.pools || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %d pools, %v, want %d and an error naming %q", len(specs), err, c.pools, c.says)
			}
		})
	}
	if _, err := readPoolConfig("/nonexistent", ""); err == nil || !strings.Contains(err.Error(), "--pool-config") {
		t.Errorf("absent file: %v", err)
	}
}

// dozo runs the command in this process and returns what it wrote.
func dozo(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestFlagsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		args, says string
	}{
		{"demo --fs ntfs", "--fs"},
		{"demo --size 1Mi", "--size"},
		{"demo --size much", "--size"},
		{"demo --kind floppy", "--kind"},
		{"demo extra", "extra"},
		{"serve", "pool-config"},
		{"serve --pool-config /nonexistent", "--pool-config"},
		{"controller --pool-config x --state-dir y", "state-dir"},
		{"nonsense", "nonsense"},
	} {
		if _, err := dozo(t, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("dozo %s: %v, want an error naming %s", c.args, err, c.says)
		}
	}
}

func TestKindsShowsWhatCanBeSet(t *testing.T) {
	out, err := dozo(t, "kinds")
	for _, want := range []string{"loopfile.dozo.dev", "POOL OPTION", "maxFreeze", "CLASS PARAMETER", "allocation", "(required)"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("no %q in the output (%v)", want, err)
		}
	}
}
