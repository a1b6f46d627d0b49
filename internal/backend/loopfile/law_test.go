package loopfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// TestLaw holds the backend to the contract: on real file systems, with real loop devices.
func TestLaw(t *testing.T) {
	for _, c := range []struct{ fstype, allocation string }{
		{"ext4", "sparse"}, {"xfs", "sparse"}, {"btrfs", "sparse"}, {"ext4", "full"},
	} {
		t.Run(c.fstype+" "+c.allocation, func(t *testing.T) {
			dir := hosttest.FileSystem(t, c.fstype, 1<<30)
			backendtest.Run(t, lawOn(dir, c.allocation))
		})
	}
}

func lawOn(dir, allocation string) backendtest.Harness {
	open := func(t testing.TB) backend.Backend {
		t.Helper()
		b, err := openPool(t, host.New(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return backendtest.Harness{
		Kind: Kind(host.New()), Node: "n1", Parameters: map[string]string{"allocation": allocation},
		Open:        open,
		Reopen:      func(t testing.TB, _ backend.Backend) backend.Backend { return open(t) },
		Unreachable: hideMarker(dir),
		Strangers:   strangers(dir),
		Leaks: func(t testing.TB, _ backend.Backend) (left []string) {
			for _, what := range hosttest.Left(t, dir) {
				switch what {
				case "file " + markerFile, "file lock", "empty directory volumes", "empty directory snapshots", "empty directory groups":
				default:
					left = append(left, what)
				}
			}
			return left
		},
		Size:  4 * mib,
		Slack: 8 * mib, // the file system's own metadata grows with use
	}
}

// hideMarker makes the pool look as it does when its disk is not mounted.
func hideMarker(dir string) func(testing.TB, backend.Backend) func() {
	return func(t testing.TB, _ backend.Backend) func() {
		from, to := filepath.Join(dir, markerFile), filepath.Join(dir, "hidden")
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

// strangers puts files where volumes are that Dozo did not make.
func strangers(dir string) func(testing.TB, backend.Backend) func() error {
	return func(t testing.TB, _ backend.Backend) func() error {
		theirs := []string{
			filepath.Join(dir, volumes, "notes.txt"),
			filepath.Join(dir, volumes, "UPPER", "image"),
			filepath.Join(dir, volumes, "mine", "image"),
		}
		for _, f := range theirs {
			if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, []byte("theirs"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return func() error {
			var all []error
			for _, f := range theirs {
				all = append(all, os.Remove(f))
				if d := filepath.Dir(f); d != filepath.Join(dir, volumes) {
					all = append(all, os.Remove(d))
				}
			}
			return errors.Join(all...)
		}
	}
}
