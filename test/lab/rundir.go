package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// runDir makes a directory for one test, and removes those of killed ones. An
// owner that lives holds a lock.
func runDir(cache string) (dir string, release func(), err error) {
	parent := filepath.Join(cache, "run")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", nil, err
	}
	old, err := filepath.Glob(filepath.Join(parent, "*.lock"))
	if err != nil {
		return "", nil, err
	}
	for _, path := range old {
		sweep(path)
	}
	lock, err := os.CreateTemp(parent, "*.lock")
	if err != nil {
		return "", nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	dir = strings.TrimSuffix(lock.Name(), ".lock")
	release = func() {
		os.RemoveAll(dir)
		os.Remove(lock.Name())
		lock.Close()
	}
	return dir, release, os.Mkdir(dir, 0o755)
}

// sweep removes a directory whose owner is gone. Whatever goes wrong is left to
// the next test.
func sweep(lockPath string) {
	info, err := os.Stat(lockPath)
	if err != nil || time.Since(info.ModTime()) < time.Minute {
		return // perhaps made just now and not locked yet
	}
	lock, err := os.Open(lockPath)
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	os.RemoveAll(strings.TrimSuffix(lockPath, ".lock"))
	os.Remove(lockPath)
}
