package backend

import (
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
)

func TestParseID(t *testing.T) {
	long := strings.Repeat("x", MaxIDLength)
	for _, good := range []string{"a", "0", "pvc-4f1c", "a--b", long} {
		if id, err := ParseID(good); err != nil || string(id) != good {
			t.Errorf("%q: %q, %v", good, id, err)
		}
	}
	for _, bad := range []string{
		"", "-a", "a-", "-", "A", "a_b", "a.b", "a/b", "..", ".", "a b", "ä", "a\n", "a\x00", "a:b", long + "x",
	} {
		if id, err := ParseID(bad); !errs.Is(err, errs.Invalid) || id != "" {
			t.Errorf("%q: %q, %v; want errs.Invalid", bad, id, err)
		}
	}
}

// TestIDForIsForEver: these IDs are on disks. If one changes, volumes are lost to their owners.
func TestIDForIsForEver(t *testing.T) {
	for name, want := range map[string]ID{
		"pvc-2f6a4f6e-8c0e-4c5e-9d2f-1f1f6a7b8c9d": "pvc-2f6a4f6e-8c0e-4c5e-9d2f-1f1f6a7b8c9d",
		"a":                              "a",
		"Nightly Backup #1":              "nightly-backup-1-h12f5ae0318d7bf7d",
		"a/b":                            "a-b-hc14cddc033f64b9d",
		"":                               "x-he3b0c44298fc1c14",
		"乾酪":                             "x-h70b6c2075829f656",
		"-a-":                            "a-ha75a468f2ce51903",
		"a-h0123456789abcdef":            "a-h0123456789abcdef-h2c5825fb5c9b001e",
		strings.Repeat("x", 63):          ID(strings.Repeat("x", 63)),
		strings.Repeat("x", 64):          ID(strings.Repeat("x", 45)) + "-h7ce100971f64e700",
		strings.Repeat("x", 44) + " - y": ID(strings.Repeat("x", 44)) + "-h29d5fb756fd1a123",
	} {
		if got := IDFor(name); got != want {
			t.Errorf("IDFor(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestIDForTellsNamesApart(t *testing.T) {
	long := strings.Repeat("n", 128)
	names := []string{
		"a", "A", "a ", " a", "a-", "-a", "a/b", "a-b", "a b", "a_b", "a.b", "ä", "a\u0308", "", "-", "--", "x",
		long, long[1:], long + "x", strings.ToUpper(long),
		// Names chosen to be taken for the ID of another one.
		string(IDFor("A")), string(IDFor("a/b")), string(IDFor("")), string(IDFor(long)), string(IDFor(string(IDFor("A")))),
	}
	seen := map[ID]string{}
	for _, n := range names {
		id := IDFor(n)
		if _, err := ParseID(string(id)); err != nil {
			t.Errorf("IDFor(%q): %v", n, err)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q have the ID %s", n, other, id)
		}
		seen[id] = n
	}
}

func FuzzIDFor(f *testing.F) {
	for _, s := range []string{"", "a", "A b", "-h0123456789abcdef", "a-h0123456789abcdef", "\xff", strings.Repeat("é", 100)} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		id := IDFor(a)
		if _, err := ParseID(string(id)); err != nil {
			t.Errorf("IDFor(%q): %v", a, err)
		}
		if id != IDFor(a) {
			t.Errorf("IDFor(%q) is not always the same", a)
		}
		if a != b && id == IDFor(b) {
			t.Errorf("%q and %q have the ID %s", a, b, id)
		}
		if string(id) != a && !hashed(string(id)) {
			t.Errorf("IDFor(%q) = %s, which somebody else may have as a name", a, id)
		}
	})
}
