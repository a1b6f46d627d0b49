package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/pool"
)

const (
	// secretsEvery is how often the directories with secrets are read. The kubelet takes up to a minute anyway until a
	// mounted Secret has changed.
	secretsEvery = 10 * time.Second
	maxSecret    = 64 << 10 // bytes of one file
	maxSecrets   = 64       // files
)

// readSecrets reads a directory with one file for each key, as a mounted Secret has it; none for "". What begins with
// "..", in which the kubelet keeps the versions, is left out, and so is what is no file.
func readSecrets(dir string) (pool.Secrets, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); strings.HasPrefix(e.Name(), "..") || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if len(files) == maxSecrets {
			return nil, fmt.Errorf("%s has more than %d files", dir, maxSecrets)
		}
		if files[e.Name()], err = readSecret(path); err != nil {
			return nil, err
		}
	}
	return pool.NewSecrets(files), nil
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxSecret)
	}
	return data, err
}

// followSecrets opens the pools anew whose secrets changed, until ctx is done.
func followSecrets(ctx context.Context, pools *pool.Set, specs []pool.Spec, log *slog.Logger) {
	tick := time.NewTicker(secretsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			useSecrets(ctx, pools, specs, log)
		}
	}
}

func useSecrets(ctx context.Context, pools *pool.Set, specs []pool.Spec, log *slog.Logger) {
	for i := range specs {
		now, err := readSecrets(specs[i].SecretDir)
		if err != nil { // half of them would be worse than the old ones
			log.Warn("secrets", "pool", specs[i].Name, "error", err)
			continue
		}
		if now.Equal(specs[i].Secrets) {
			continue
		}
		specs[i].Secrets = now
		log.Info("the secrets changed: opening the pool anew", "pool", specs[i].Name)
		if err := pools.Use(ctx, specs[i]); err != nil {
			log.Warn("pool", "pool", specs[i].Name, "error", err)
		}
	}
}
