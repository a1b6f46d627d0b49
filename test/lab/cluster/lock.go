package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lock keeps two commands from changing the same thing at once. It waits for
// the other one, and says so. The kernel drops the lock of a process that dies.
func (l *Lab) lock(ctx context.Context, what string) (unlock func(), err error) {
	name := filepath.Join(l.Cache, strings.ReplaceAll(what, " ", "-")+".lock")
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for waiting := false; ; waiting = true {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("locking %s: %w", name, err)
		}
		if !waiting {
			l.Progress.Step("waiting for another command that uses the %s", what)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
