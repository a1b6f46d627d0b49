package knfsd

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func testServer() *Server {
	only := func(text string) func(netip.Addr) bool { return netip.MustParsePrefix(text).Contains }
	return &Server{exports: map[string]Export{
		"/volume1/a":      {Path: "/volume1/a", FSID: 7, Rules: []Rule{{Clients: only("10.0.0.5/32"), SquashRoot: true, UID: 1024, GID: 100}, {Clients: only("10.0.0.0/24"), ReadOnly: true}}},
		"/volume1/b c\\d": {Path: "/volume1/b c\\d", FSID: 8, Rules: []Rule{{Clients: only("fd00::/8"), Insecure: true, Async: true, SquashAll: true}}},
		"/volume1/none":   {Path: "/volume1/none", FSID: 9},
	}}
}

func numberOf(id uint32) string {
	var raw [4]byte
	binary.NativeEndian.PutUint32(raw[:], id)
	return `\x` + hex.EncodeToString(raw[:])
}

// TestAnswers is what the kernel asks and is told, in its own form. Without what comes after the expiry the answer is no.
func TestAnswers(t *testing.T) {
	s := testServer()
	ask := map[string]func([]string, string) []string{"address": s.address, "export": s.export, "handle": s.handle}
	for _, c := range []struct{ of, question, answer string }{
		{"address", "nfsd 10.0.0.5", "nfsd 10.0.0.5 9 10.0.0.5"},
		{"address", "nfsd 10.0.1.5", "nfsd 10.0.1.5 9"},
		{"address", "nfsd fd00:0000:0000:0000:0000:0000:0000:0001", "nfsd fd00:0000:0000:0000:0000:0000:0000:0001 9 fd00:0000:0000:0000:0000:0000:0000:0001"},
		{"export", "10.0.0.5 /volume1/a", "10.0.0.5 /volume1/a 9 9220 1024 100 7"},
		{"export", "10.0.0.6 /volume1/a", "10.0.0.6 /volume1/a 9 9217 0 0 7"},
		{"export", "10.0.1.6 /volume1/a", "10.0.1.6 /volume1/a 9"},
		{"export", `fd00::1 /volume1/b\040c\134d`, `fd00::1 /volume1/b\040c\134d 9 9242 0 0 8`},
		{"export", "10.0.0.5 /", "10.0.0.5 / 9 74759 65534 65534 0"},
		{"export", "10.0.0.5 /volume1/none", "10.0.0.5 /volume1/none 9"},
		{"export", "10.0.0.5 /etc", "10.0.0.5 /etc 9"},
		{"export", "10.0.1.5 /", "10.0.1.5 / 9"},
		{"handle", "10.0.0.5 1 " + numberOf(0), "10.0.0.5 1 " + numberOf(0) + " 9 /"},
		{"handle", "10.0.0.5 1 " + numberOf(7), "10.0.0.5 1 " + numberOf(7) + " 9 /volume1/a"},
		{"handle", "10.0.0.5 1 " + numberOf(pathID("/volume1")), "10.0.0.5 1 " + numberOf(pathID("/volume1")) + " 9 /volume1"},
		{"handle", "10.0.0.5 1 " + numberOf(8), "10.0.0.5 1 " + numberOf(8) + " 9"},
		{"handle", "10.0.0.5 1 " + numberOf(9), "10.0.0.5 1 " + numberOf(9) + " 9"},
		{"handle", "10.0.0.5 6 " + numberOf(7), "10.0.0.5 6 " + numberOf(7) + " 9"},
	} {
		got := strings.TrimSpace(quote(ask[c.of](unquote(c.question+"\n"), "9")))
		if got != c.answer {
			t.Errorf("%s %q: %q, want %q", c.of, c.question, got, c.answer)
		}
	}
}

// FuzzQuote: words come back from a line as they went into it.
func FuzzQuote(f *testing.F) {
	f.Add("/volume1/a", `b c\d`)
	f.Add("0", "\u0085")
	f.Add("\t\x7f", `\x00zz`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == "" || b == "" || strings.HasPrefix(a, `\x`) || strings.HasPrefix(b, `\x`) {
			return
		}
		if back := unquote(quote([]string{a, b})); !slices.Equal(back, []string{a, b}) {
			t.Errorf("%q and %q came back as %q", a, b, back)
		}
	})
}
