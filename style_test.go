package dozo_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The bounds of CONTRIBUTING.md.
const (
	maxFileLines     = 500
	maxFunctionP90   = 40
	maxInterfaceSize = 8
)

// generated is the line that Go's tools know generated files by.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// TestSizes holds files, functions and interfaces to their bounds, and prints where we are.
func TestSizes(t *testing.T) {
	var lengths []int
	code, tests, longest := 0, 0, ""
	most := 0
	for _, f := range sources(t) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if generated.Match(text) {
			continue // its source is held to be read instead
		}
		lines := bytes.Count(text, []byte("\n"))
		if lines > maxFileLines {
			t.Errorf("%s has %d lines, at most %d are allowed: split it by idea", f, lines, maxFileLines)
		}
		if lines > most {
			most, longest = lines, f
		}
		if strings.HasSuffix(f, "_test.go") {
			tests += lines
			continue
		}
		code += lines
		lengths = append(lengths, inspect(t, f)...)
	}
	slices.Sort(lengths)
	p90 := lengths[len(lengths)*9/10]
	if p90 > maxFunctionP90 {
		t.Errorf("9 in 10 functions are within %d lines, more than the %d allowed", p90, maxFunctionP90)
	}
	fmt.Printf("sizes: %d lines of code, %d of tests; functions: median %d, p90 %d, longest %d lines; longest file: %s, %d lines\n",
		code, tests, lengths[len(lengths)/2], p90, lengths[len(lengths)-1], longest, most)
}

// inspect returns the lengths of a file's functions in lines, and complains about init functions and
// wide interfaces.
func inspect(t *testing.T, file string) (lengths []int) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				t.Errorf("%s: has an init function: wire things where they are used", set.Position(n.Pos()))
			}
			lengths = append(lengths, set.Position(n.End()).Line-set.Position(n.Pos()).Line+1)
		case *ast.InterfaceType:
			if n.Methods.NumFields() > maxInterfaceSize {
				t.Errorf("%s: an interface of %d methods, at most %d are allowed: make the rest optional ones",
					set.Position(n.Pos()), n.Methods.NumFields(), maxInterfaceSize)
			}
		}
		return true
	})
	return lengths
}

// TestPackageNames refuses the names that say nothing.
func TestPackageNames(t *testing.T) {
	for _, f := range sources(t) {
		for _, bad := range []string{"util", "utils", "common", "helpers", "misc"} {
			if strings.Contains("/"+f, "/"+bad+"/") {
				t.Errorf("%s: a package called %s is about nothing: name it for what it does", f, bad)
			}
		}
	}
}
