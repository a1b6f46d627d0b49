package csi

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

	"github.com/dozo-dev/dozo/internal/errs"
)

// listen makes the unix socket of an endpoint, which only this user can connect to. What a process
// that died left in its place is replaced; anything else there is not touched.
func listen(endpoint string) (net.Listener, error) {
	path, err := socketPath(endpoint)
	if err != nil {
		return nil, err
	}
	if err := replaceable(path); err != nil {
		return nil, err
	}
	// The socket is made in a directory that nobody else can enter and moved when its mode is right:
	// between bind and chmod everyone could have connected.
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, errs.E(errs.Unavailable, "socket %s: %w", path, err)
	}
	defer os.RemoveAll(private)
	hidden := filepath.Join(private, "s")
	l, err := net.Listen("unix", hidden)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it would remove hidden, which is not where it is then
	made, err := publish(hidden, path)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "socket %s: %w", path, errors.Join(err, l.Close()))
	}
	return &socket{Listener: l, path: path, made: made}, nil
}

// socketPath returns the path of "unix:///path", "unix:/path" or "/path".
func socketPath(endpoint string) (string, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(endpoint, "unix:"), "//")
	if !filepath.IsAbs(path) {
		return "", errs.E(errs.Invalid, "endpoint: %.200q is not unix:///path or an absolute path; there is no other sort, since a socket's mode is all that guards it", endpoint)
	}
	return filepath.Clean(path), nil
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

func publish(hidden, path string) (fs.FileInfo, error) {
	if err := os.Chmod(hidden, 0o600); err != nil {
		return nil, err
	}
	made, err := os.Lstat(hidden)
	if err != nil {
		return nil, err
	}
	return made, os.Rename(hidden, path)
}

// socket is a listener that removes its socket when it closes, unless another has taken its place.
type socket struct {
	net.Listener
	path string
	made fs.FileInfo
	once sync.Once
}

// Addr returns the path to connect to.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close stops listening.
func (s *socket) Close() error {
	s.once.Do(func() {
		if there, err := os.Lstat(s.path); err == nil && os.SameFile(there, s.made) {
			_ = os.Remove(s.path) // a stale one is replaced by the next process
		}
	})
	return s.Listener.Close()
}
