package v1alpha1_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGenerated makes what is generated anew and compares: a type that was changed without it would
// be one thing in Go and another in a cluster.
func TestGenerated(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "controller-gen", "object", "crd:maxDescLen=400", "paths=.",
		"output:object:dir="+dir, "output:crd:dir="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(made) != 5 {
		t.Fatalf("generated %v (%v), want the deep copies and four definitions", made, err)
	}
	for _, file := range made {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		old := filepath.Join("../../deploy/chart/dozo/crds", filepath.Base(file))
		if filepath.Ext(file) == ".go" {
			old = filepath.Base(file)
		}
		if have, err := os.ReadFile(old); err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what the types say (%v): go generate ./api/...", old, err)
		}
	}
}
