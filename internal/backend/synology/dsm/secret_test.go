package dsm

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestSecretIsNeverPrinted tries all the ways in which something that holds one might print it.
func TestSecretIsNeverPrinted(t *testing.T) {
	const hidden = "hunter2"
	s := NewSecret(hidden)
	creds := Credentials{Account: "a", Password: s, Device: s}
	client, err := New(Config{URL: "https://nas:5001", Credentials: creds})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, value := range []any{s, &s, creds, &creds, Config{Credentials: creds}, CHAP{Password: s}, []Secret{s}, map[Secret]Secret{s: s},
		*client, client, client.sessions, &session{id: s, token: s}, params{"passwd": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	text, err := json.Marshal([]any{s, creds, &s})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "creds", creds)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "creds", creds)
	for _, leak := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprintf("%X", hidden)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed as %q", leak)
		}
	}
	if !strings.Contains(out.String(), redacted) || s.Reveal() != hidden || !s.Equal(NewSecret(hidden)) || (Secret{}).Reveal() != "" {
		t.Error("a secret is not what it was")
	}
}
