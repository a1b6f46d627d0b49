package csi

import (
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func TestParseHandle(t *testing.T) {
	long := strings.Repeat("a", 63)
	for text, good := range map[string]Handle{
		"main:pvc-1":      {"main", "pvc-1"},
		"a:b":             {"a", "b"},
		"0:0":             {"0", "0"},
		long + ":" + long: {long, backend.ID(long)},
	} {
		h, err := ParseHandle(text)
		wantOK(t, err)
		want(t, h, good)
		want(t, h.String(), text)
	}
}

func TestParseHandleRefuses(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, bad := range []string{
		"", ":", "main", "main:", ":id", "main:id:more", "main/id", "../x:id", "main:..", "main:../../etc",
		"main:a/b", "main:a..b", "Main:id", "main:ID", "main:-a", "main:a-", "main:a b", "main:a\n", "main:a\x00",
		" main:id", "main:ï", long + ":id", "main:" + long, "fake-vol-id", "non-existing-snapshot-id",
	} {
		if h, err := ParseHandle(bad); !errs.Is(err, errs.Invalid) || h != (Handle{}) {
			t.Errorf("ParseHandle(%q) = %v, %v; want errs.Invalid", bad, h, err)
		}
	}
}

func FuzzParseHandle(f *testing.F) {
	for _, s := range []string{"main:pvc-1", "a:b", "../..:x", "main:..", "a::b", ":", "", "é:a", "main:a/b", strings.Repeat("a", 63) + ":" + strings.Repeat("b", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHandle(s)
		if err != nil {
			if !errs.Is(err, errs.Invalid) || len(err.Error()) > 1000 {
				t.Fatalf("ParseHandle(%q): %v", s, err)
			}
			return
		}
		if h.String() != s {
			t.Fatalf("ParseHandle(%q).String() = %q", s, h)
		}
		if len(s) > MaxHandleLength || strings.Contains(s, "..") || strings.ContainsAny(s, "/\\\x00 \n") || h.Pool == "" || h.ID == "" {
			t.Fatalf("ParseHandle accepts %q", s)
		}
	})
}
