// Package socket makes the unix sockets that Dozo serves on: guarded by their mode, taken over from a
// process that died and from nobody else.
package socket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Listen makes the unix socket of an endpoint, "unix:///path" or a path, with mode 0600 and owned by
// uid. What a process that died left in its place is replaced; anything else there is not touched.
// errs.Invalid if the endpoint is no path, errs.Exists if something else is there, errs.InUse if
// somebody serves it.
func Listen(endpoint string, uid int) (net.Listener, error) {
	path, err := pathOf(endpoint)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "socket %s: %w", path, err)
	}
	defer unlock()
	if err := replaceable(path); err != nil {
		return nil, err
	}
	// The socket is made in a directory that nobody else can enter and moved when its mode is right:
	// between bind and chmod everyone could have connected.
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, errs.E(errs.Unavailable, "socket %s: %w", path, err)
	}
	hidden := filepath.Join(private, "s")
	defer func() {
		_ = os.Remove(hidden) // it is there only if it could not be moved
		_ = os.Remove(private)
	}()
	l, err := net.Listen("unix", hidden)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it would remove hidden, which is not where it is then
	made, err := publish(hidden, path, uid)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "socket %s: %w", path, errors.Join(err, l.Close()))
	}
	return &listener{Listener: l, path: path, made: made}, nil
}

// pathOf returns the path of "unix:///path", "unix:/path" or "/path".
func pathOf(endpoint string) (string, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(endpoint, "unix:"), "//")
	if !filepath.IsAbs(path) {
		return "", errs.E(errs.Invalid, "endpoint: %.200q is not unix:///path or an absolute path; there is no other sort, since a socket's mode is all that guards it", endpoint)
	}
	return filepath.Clean(path), nil
}

// lockWait is how long another process may hold the lock, which takes it a second at most.
const lockWait = 5 * time.Second

// lock keeps another process from taking over a socket of the directory between the look at it and
// the rename: both would believe that nobody serves it.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "%w", err)
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockWait / 100) { // flock cannot wait with a deadline
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { d.Close() }, nil
		}
		if time.Now().After(end) {
			return nil, errors.Join(errs.E(errs.InUse, "directory %s is locked by another process: %w", dir, err), d.Close())
		}
	}
}

// replaceable refuses a path at which there is something other than a socket that nobody serves.
func replaceable(path string) error {
	switch there, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return errs.E(errs.Unavailable, "socket %s: %w", path, err)
	case there.Mode().Type() != fs.ModeSocket:
		return errs.E(errs.Exists, "socket %s: there is something else, %s; it is left alone", path, there.Mode())
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil // nobody is behind it
	case err != nil:
		return errs.E(errs.Unavailable, "socket %s: whether somebody serves it cannot be told: %w", path, err)
	}
	_ = c.Close() // it was opened to see that it can be
	return errs.E(errs.InUse, "socket %s: another process serves it", path)
}

func publish(hidden, path string, uid int) (fs.FileInfo, error) {
	if err := os.Chmod(hidden, 0o600); err != nil {
		return nil, err
	}
	if err := os.Lchown(hidden, uid, -1); err != nil {
		return nil, err
	}
	made, err := os.Lstat(hidden)
	if err != nil {
		return nil, err
	}
	return made, os.Rename(hidden, path)
}

// listener removes its socket when it closes, unless another has taken its place.
type listener struct {
	net.Listener
	path string
	made fs.FileInfo
	once sync.Once
}

// Addr returns the path to connect to.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening.
func (l *listener) Close() error {
	l.once.Do(func() {
		if there, err := os.Lstat(l.path); err == nil && os.SameFile(there, l.made) {
			_ = os.Remove(l.path) // a stale one is replaced by the next process
		}
	})
	return l.Listener.Close()
}
