package wire

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	"github.com/dozo-dev/dozo/internal/backend/loopfile"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

const mib = 1 << 20

// TestLaw holds the contract to be kept over the wire: real files, loop devices, and a process for
// each pool that is opened.
func TestLaw(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			backendtest.Run(t, lawOn(hosttest.FileSystem(t, fstype, 1<<30)))
		})
	}
}

func lawOn(dir string) backendtest.Harness {
	open := func(t testing.TB) backend.Backend { return start(t, dir).connect() }
	return backendtest.Harness{
		Kind: loopfile.Kind(host.New()), Node: "n1",
		Open:        open,
		Reopen:      func(t testing.TB, _ backend.Backend) backend.Backend { return open(t) },
		Unreachable: hideMark(dir),
		Strangers:   strangers(dir),
		Leaks: func(t testing.TB, _ backend.Backend) (left []string) {
			return leaks(t, dir)
		},
		Size:  4 * mib,
		Slack: 8 * mib, // the file system's own metadata grows with use
	}
}

// leaks are what a pool without volumes has not.
func leaks(t testing.TB, dir string) (left []string) {
	for _, what := range hosttest.Left(t, dir) {
		switch what {
		case "file dozo-pool.json", "file lock", "empty directory volumes", "empty directory snapshots", "empty directory groups":
		default:
			left = append(left, what)
		}
	}
	return left
}

// hideMark makes the pool look as it does when its disk is not mounted.
func hideMark(dir string) func(testing.TB, backend.Backend) func() {
	return func(t testing.TB, _ backend.Backend) func() {
		from, to := filepath.Join(dir, "dozo-pool.json"), filepath.Join(dir, "hidden")
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.Rename(to, from); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// strangers puts a file where volumes are that Dozo did not make.
func strangers(dir string) func(testing.TB, backend.Backend) func() error {
	return func(t testing.TB, _ backend.Backend) func() error {
		theirs := filepath.Join(dir, "volumes", "mine")
		if err := os.MkdirAll(theirs, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(theirs, "image"), []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		return func() error { return errors.Join(os.Remove(filepath.Join(theirs, "image")), os.Remove(theirs)) }
	}
}
