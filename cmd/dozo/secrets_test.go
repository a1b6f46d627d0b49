package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// mounted writes keys as the kubelet mounts a Secret: files that are links into a directory which is exchanged as a whole.
func mounted(t *testing.T, dir, version string, keys map[string]string) {
	t.Helper()
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	try(os.MkdirAll(filepath.Join(dir, version), 0o700))
	for k, v := range keys {
		try(os.WriteFile(filepath.Join(dir, version, k), []byte(v), 0o600))
		_ = os.Remove(filepath.Join(dir, k))
		try(os.Symlink(filepath.Join("..data", k), filepath.Join(dir, k)))
	}
	_ = os.Remove(filepath.Join(dir, "..data"))
	try(os.Symlink(version, filepath.Join(dir, "..data")))
}

func TestReadSecrets(t *testing.T) {
	dir := t.TempDir()
	mounted(t, dir, "..2026", map[string]string{"username": "dozo\n", "password": "a b\r\n", "node.session.auth.password": ""})
	got, err := readSecrets(dir)
	want := pool.Secrets{"username": []byte("dozo"), "password": []byte("a b"), "node.session.auth.password": {}}
	if err != nil || !got.Equal(want) {
		t.Errorf("read %q %v", map[string][]byte(got), err)
	}
	if s, err := readSecrets(""); s != nil || err != nil {
		t.Error(s, err)
	}
	if _, err := readSecrets(dir + "/absent"); err == nil {
		t.Error("a directory that is not there")
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, maxSecret+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecrets(dir); err == nil || !strings.Contains(err.Error(), "large has more than") {
		t.Error(err)
	}
}

// TestSecretDir: from the file of --pool-config to the kind, and again when the Secret changed.
func TestSecretDir(t *testing.T) {
	dir := t.TempDir()
	mounted(t, dir, "..1", map[string]string{"password": "old"})
	file := filepath.Join(t.TempDir(), "pools.yaml")
	config := func(secrets string) (poolConfig, error) {
		if err := os.WriteFile(file, []byte("pools:\n- {name: p, kind: fake, secretDir: "+secrets+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return parsePoolConfig(file)
	}
	if _, err := config(dir + "/absent"); err == nil || !strings.Contains(err.Error(), `pool "p": secretDir`) {
		t.Error(err)
	}
	c, err := config(dir)
	if err != nil {
		t.Fatal(err)
	}
	kind := fake.Kind(fake.Options{Outside: true})
	open, given := kind.Open, ""
	kind.Open = func(ctx context.Context, c backend.Config) (backend.Backend, error) {
		given += string(c.Secrets["password"]) + " "
		return open(ctx, c)
	}
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	pools, err := pool.OpenSet(t.Context(), []backend.Kind{kind}, c.Pools, pool.Options{Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	useSecrets(t.Context(), pools, c.Pools, logger)
	mounted(t, dir, "..2", map[string]string{"password": "new"})
	useSecrets(t.Context(), pools, c.Pools, logger)
	if err := os.Remove(filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	useSecrets(t.Context(), pools, c.Pools, logger) // what cannot be read changes nothing
	if given != "old new " || !strings.Contains(log.String(), "secrets") || strings.Contains(log.String(), "new ") {
		t.Errorf("opened with %q, and said %s", given, log.String())
	}
	if err := pools.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOnlyNode(t *testing.T) {
	nodes := onlyNode("n1")
	if _, err := nodes(t.Context(), "n2"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	addresses, err := nodes(t.Context(), "n1")
	if err != nil || strings.Contains(strings.Join(addresses, " "), "127.0.0.1") {
		t.Error(addresses, err)
	}
}
