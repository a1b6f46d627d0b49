package cluster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Lab is one cluster: where its files are and what it is called.
type Lab struct {
	// Name tells labs that share a cache directory apart.
	Name string
	// Cache holds what several labs share and what takes long to make:
	// binaries and images.
	Cache string
	// Progress receives one line per step.
	Progress *Progress
}

// New finds the cache directory: DOZO_LAB_CACHE, or dozo-lab in the user's
// cache directory; in it, "cluster" is this package's. DOZO_LAB_NAME names the
// lab.
func New(progress *Progress) (*Lab, error) {
	cache := os.Getenv("DOZO_LAB_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no cache directory; set DOZO_LAB_CACHE to one: %w", err)
		}
		cache = filepath.Join(user, "dozo-lab")
	}
	cache, err := filepath.Abs(filepath.Join(cache, "cluster"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	name := cmp.Or(os.Getenv("DOZO_LAB_NAME"), "default")
	if strings.ContainsAny(name, "/ ") || strings.HasPrefix(name, ".") {
		return nil, fmt.Errorf("DOZO_LAB_NAME %q: give a plain word", name)
	}
	return &Lab{Name: name, Cache: cache, Progress: progress}, nil
}

// findSource finds the Go module that names the binaries and their versions.
// It looks upwards from the working directory, so that the lab's verbs work
// anywhere in the repository and its tests in their package directory.
func findSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		source := filepath.Join(dir, "test", "lab", "tools")
		if _, err := os.Stat(filepath.Join(source, "go.mod")); err == nil {
			return source, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("test/lab/tools/go.mod not found: run this inside the Dozo repository")
		}
		dir = parent
	}
}

// Run is the directory of the running lab; down removes it.
func (l *Lab) Run() string { return filepath.Join(l.Cache, "run", l.Name) }

// spec reads what the running lab is.
func (l *Lab) spec() (*spec, error) {
	s, err := readSpec(l.Run())
	if err != nil {
		return nil, fmt.Errorf("lab %q is not up: %w", l.Name, err)
	}
	return s, nil
}

// Kubeconfig is the administrator's, usable outside the lab's namespaces.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.Run(), "admin.kubeconfig") }

func (l *Lab) eventsFile() string   { return filepath.Join(l.Run(), "events.jsonl") }
func (l *Lab) logDir() string       { return filepath.Join(l.Run(), "log") }
func (l *Lab) nodesDir() string     { return filepath.Join(l.Run(), "nodes") }
func (l *Lab) pidFile() string      { return filepath.Join(l.Run(), "init.pid") }
func (l *Lab) node(n string) string { return filepath.Join(l.nodesDir(), n) }

// cgroup names the lab's cgroup below each hierarchy's root. The hash of the
// run directory keeps labs of different users and checkouts apart.
func (l *Lab) cgroup() string {
	sum := sha256.Sum256([]byte(l.Run()))
	return "dozo-lab-" + hex.EncodeToString(sum[:4])
}
