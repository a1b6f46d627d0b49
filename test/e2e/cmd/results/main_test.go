package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSuite(t *testing.T) {
	dir := t.TempDir()
	list, report := filepath.Join(dir, "skip"), filepath.Join(dir, "report.json")
	write(t, list, "# remark\nFeature:Windows   # other system\n\\(ext4\\).*grow # kernel\n")
	write(t, report, `[{"SpecReports": [
		{"LeafNodeType": "It", "LeafNodeText": "a", "State": "passed"},
		{"LeafNodeType": "BeforeSuite", "State": "passed"},
		{"LeafNodeType": "It", "LeafNodeText": "b", "State": "failed"},
		{"LeafNodeType": "It", "ContainerHierarchyTexts": ["fs (ext4)"], "LeafNodeText": "can grow", "State": "skipped"},
		{"LeafNodeType": "It", "LeafNodeText": "c", "State": "skipped"},
		{"LeafNodeType": "It", "LeafNodeText": "d", "State": "skipped", "Failure": {"Message": "Driver does not do it -- skipping"}},
		{"LeafNodeType": "It", "LeafNodeText": "e", "State": "skipped", "Failure": {"Message": "Driver does not do it -- skipping"}}]}]`)
	var out strings.Builder
	if err := run([]string{"suite", list, report}, &out); err != nil {
		t.Fatal(err)
	}
	want := `    2 skipped: the suite: Driver does not do it
    1 skipped: our list: kernel
    1 skipped: outside the focus
      no test: Feature:Windows  # other system; take it off our list
1 passed, 1 failed, 4 skipped
`
	if out.String() != want {
		t.Errorf("got\n%s\nnot\n%s", out.String(), want)
	}
	out.Reset()
	if err := run([]string{"skip", list}, &out); err != nil || out.String() != "Feature:Windows|\\(ext4\\).*grow\n" {
		t.Errorf("skip: %q, %v", out.String(), err)
	}
}

func TestSkipNeedsReason(t *testing.T) {
	list := filepath.Join(t.TempDir(), "skip")
	for _, text := range []string{"Feature:Windows\n", "Feature:Windows # \n", "( # unbalanced\n"} {
		write(t, list, text)
		if _, err := readSkips(list); err == nil {
			t.Errorf("%q was taken for a line of a skip list", text)
		}
	}
}

// TestOurList holds the list that is checked in to its form.
func TestOurList(t *testing.T) {
	list, err := readSkips("../../upstream/loopfile.skip")
	if err != nil || len(list) == 0 {
		t.Fatalf("%d patterns, %v", len(list), err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
