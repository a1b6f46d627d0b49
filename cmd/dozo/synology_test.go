package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/test/dsmsim"
)

// nasFor serves a simulated NAS and returns the flags for it.
func nasFor(t *testing.T, a dsmsim.Account) []string {
	t.Helper()
	dir := t.TempDir()
	sim, err := dsmsim.New(dsmsim.Config{Accounts: []dsmsim.Account{a}})
	if err != nil {
		t.Fatal(err)
	}
	server, err := dsmsim.Serve("127.0.0.1:0", sim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	for name, text := range map[string]string{"ca.pem": string(server.CA()), "secret/username": a.Name, "secret/password": "right\n", "secret/..data": ""} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--url", server.URL, "--ca", filepath.Join(dir, "ca.pem"), "--secret-dir", filepath.Join(dir, "secret")}
}

func runSynology(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := root()
	cmd.SetArgs(append([]string{"synology"}, args...))
	cmd.SetIn(strings.NewReader(in))
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestSynologyCheck(t *testing.T) {
	flags := nasFor(t, dsmsim.Account{Name: "dozo", Password: "right"})
	out, err := runSynology(t, "", append([]string{"check"}, flags...)...)
	if err != nil || !strings.Contains(out, "login        ok") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Log("\n" + out)
	out, err = runSynology(t, "", append([]string{"check", "-o", "location=/volume7"}, flags...)...)
	if err == nil || !strings.Contains(out, "wrong") || strings.Contains(out, "right\n") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, bad := range [][]string{{"check"}, append([]string{"check", "-o", "colour=red"}, flags...), append(flags, "check", "--secret-dir", "/nowhere")} {
		if _, err := runSynology(t, "", bad...); err == nil || !strings.Contains(err.Error(), "--") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestSynologyEnroll: with a token that was got by a code, no code is needed any more.
func TestSynologyEnroll(t *testing.T) {
	flags := nasFor(t, dsmsim.Account{Name: "dozo", Password: "right", OTP: "123456"})
	if out, err := runSynology(t, "", append([]string{"check"}, flags...)...); err == nil || !strings.Contains(out, "dozo synology enroll") {
		t.Errorf("%v\n%s", err, out)
	}
	token, err := runSynology(t, "123456\n", append([]string{"enroll"}, flags...)...)
	if err != nil || strings.TrimSpace(token) == "" {
		t.Fatalf("%q, %v", token, err)
	}
	if err := os.WriteFile(filepath.Join(flags[len(flags)-1], "deviceToken"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := runSynology(t, "", append([]string{"check"}, flags...)...); err != nil {
		t.Errorf("with a token: %v\n%s", err, out)
	}
	if _, err := runSynology(t, "\n", append([]string{"enroll"}, flags...)...); err == nil {
		t.Error("enrolled without a code")
	}
}
