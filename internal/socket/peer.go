package socket

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

// PrivateDir makes the directory that a socket is in, mode 0700 and owned by uid, or checks that the
// one which is there lets in nobody else than root and uid. errs.Invalid says what is wrong with it.
func PrivateDir(path string, uid int) error {
	dir := filepath.Dir(path)
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		if err := os.Chown(dir, uid, -1); err != nil {
			return errs.E(errs.Unavailable, "directory %s: %w", dir, err)
		}
		return nil
	case !errors.Is(err, os.ErrExist):
		return errs.E(errs.Unavailable, "directory %s: %w", dir, err)
	}
	var there unix.Stat_t
	if err := unix.Lstat(dir, &there); err != nil {
		return errs.E(errs.Unavailable, "directory %s: %w", dir, err)
	}
	switch {
	case there.Mode&unix.S_IFMT != unix.S_IFDIR:
		return errs.E(errs.Invalid, "directory %s: it is none", dir)
	case there.Mode&0o077 != 0:
		return errs.E(errs.Invalid, "directory %s: others can enter it (mode %04o); give the socket a directory of its own with mode 0700", dir, there.Mode&0o7777)
	case there.Uid != 0 && int(there.Uid) != uid:
		return errs.E(errs.Invalid, "directory %s: it belongs to uid %d, who could put another socket in the place of ours", dir, there.Uid)
	}
	return nil
}

// Only returns a listener that accepts connections of processes with one of the user IDs, as the
// kernel vouches for them (SO_PEERCRED), and closes all others unread. That is beside the modes of
// the socket and its directory, which a file descriptor handed on gets around.
func Only(l net.Listener, log *slog.Logger, uids ...int) net.Listener {
	return &only{Listener: l, uids: uids, log: log}
}

type only struct {
	net.Listener
	uids []int
	log  *slog.Logger
}

// Accept is [net.Listener].
func (o *only) Accept() (net.Conn, error) {
	for {
		c, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := credentials(c)
		if err == nil && slices.Contains(o.uids, int(peer.Uid)) {
			return c, nil
		}
		_ = c.Close()
		if err != nil {
			o.log.Warn("socket: a peer that the kernel does not name was refused", "error", err)
			continue
		}
		o.log.Warn("socket: refused", "uid", peer.Uid, "pid", peer.Pid, "allowed", o.uids)
	}
}

func credentials(c net.Conn) (*unix.Ucred, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errs.E(errs.Invalid, "%T is not a unix socket", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	return peer, asked
}
