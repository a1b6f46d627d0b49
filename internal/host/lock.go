package host

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

// LockFile is many locks in one file: one for each key, held against every other holder on this
// machine, in this process or another. Locks end with the process that holds them, so none is ever
// stale, and nothing is left behind for keys that are gone.
type LockFile struct{ path string }

// OpenLockFile makes the file if need be.
func OpenLockFile(path string) (*LockFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	return &LockFile{path: path}, f.Close()
}

// lockPoll is how often a taken lock is tried again. The kernel can wake waiters, but then the
// wait could not be ended with the context.
const lockPoll = 20 * time.Millisecond

// Lock waits until the key is free or ctx is done (errs.Aborted: another process is working on it).
func (l *LockFile) Lock(ctx context.Context, key string) (unlock func(), err error) {
	return l.wait(ctx, key, unix.F_WRLCK)
}

// LockShared is Lock of a key that others may hold too, if they share it.
func (l *LockFile) LockShared(ctx context.Context, key string) (unlock func(), err error) {
	return l.wait(ctx, key, unix.F_RDLCK)
}

func (l *LockFile) wait(ctx context.Context, key string, mode int16) (unlock func(), err error) {
	for {
		unlock, err := l.try(key, mode)
		if !errs.Is(err, errs.Busy) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, errs.E(errs.Aborted, "%s: another Dozo process is working on it; call again", key)
		case <-time.After(lockPoll):
		}
	}
}

// TryLock takes the key, or returns errs.Busy if it is taken.
func (l *LockFile) TryLock(key string) (unlock func(), err error) { return l.try(key, unix.F_WRLCK) }

func (l *LockFile) try(key string, mode int16) (unlock func(), err error) {
	// A description of its own for each lock: open-file-description locks of one description do
	// not exclude each other. Closing it unlocks.
	f, err := os.OpenFile(l.path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "lock %s: %w", key, err)
	}
	sum := sha256.Sum256([]byte(key))
	at := int64(binary.BigEndian.Uint64(sum[:]) >> 2)
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{
		Type: mode, Whence: io.SeekStart, Start: at, Len: 1,
	})
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, errs.E(errs.Busy, "%s: locked", key)
		}
		return nil, errs.E(errs.Unavailable, "lock %s: %w", key, err)
	}
	return func() { f.Close() }, nil
}
