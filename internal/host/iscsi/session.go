package iscsi

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
)

// LoggedIn is the state of a session that works. In any other its disks do not answer.
const LoggedIn = "LOGGED_IN"

// Session is a session of the kernel's with a target, by one portal.
type Session struct {
	name    string // "session2"
	dir     string // in sysfs, without symlinks
	host    string // the number of its SCSI host
	portals []portal
	State   string // [LoggedIn], "FAILED", "FREE"
}

// portal is where the session was told to go, and where that led to.
type portal struct{ address, port string }

// Alive reports whether its disks can answer.
func (s Session) Alive() bool { return s.State == LoggedIn }

// String is the session's name with its portal.
func (s Session) String() string {
	if len(s.portals) == 0 {
		return s.name
	}
	return s.name + " by " + s.portals[0].address + ":" + s.portals[0].port
}

// By reports whether the session goes by a portal.
func (s Session) By(p string) bool {
	address, port := splitPortal(p)
	for _, have := range s.portals {
		if have.port == port && canonical(have.address) == address {
			return true
		}
	}
	return false
}

// Sessions returns the sessions with a target, of all states. One that ends meanwhile is left out.
func (i *Initiator) Sessions(iqn string) (all []Session, err error) {
	class := i.host.Sys("class", "iscsi_session")
	entries, err := i.host.ReadDir("iscsi.sessions", class)
	if errors.Is(err, os.ErrNotExist) { // the kernel's part is not loaded
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "iSCSI sessions: %w", err)
	}
	for _, e := range entries {
		whose, err := i.read(filepath.Join(class, e.Name(), "targetname"))
		if err != nil {
			return nil, err
		}
		if whose != iqn {
			continue
		}
		s, ok, err := i.session(class, e.Name())
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// session reads a session. ok is false if it has ended.
func (i *Initiator) session(class, name string) (s Session, ok bool, err error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(class, name, "device"))
	number, isHost := strings.CutPrefix(filepath.Base(filepath.Dir(dir)), "host")
	switch {
	case isGone(err):
		return Session{}, false, nil
	case err != nil:
		return Session{}, false, errs.E(errs.Unavailable, "iSCSI %s: %w", name, err)
	case !isHost:
		return Session{}, false, errs.E(errs.Internal, "iSCSI %s: it is at %s, which is below no SCSI host", name, dir)
	}
	state, err := i.read(filepath.Join(class, name, "state"))
	if err != nil {
		return Session{}, false, err
	}
	s = Session{name: name, dir: dir, host: number, State: state}
	connections, _ := filepath.Glob(filepath.Join(dir, "connection*", "iscsi_connection", "*"))
	for _, c := range connections {
		s.portals = append(s.portals,
			portal{i.attribute(c, "persistent_address"), i.attribute(c, "persistent_port")},
			portal{i.attribute(c, "address"), i.attribute(c, "port")})
	}
	return s, s.State != "", nil
}

// isGone reports whether what was looked for in sysfs is not there, or went away meanwhile. All other errors say nothing.
func isGone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}

// read reads a file of sysfs, "" if it is gone or has nothing in it.
func (i *Initiator) read(path string) (string, error) {
	text, err := i.host.ReadFile("sysfs.read", path, 4096)
	if err != nil && !isGone(err) && !errors.Is(err, unix.EINVAL) {
		return "", errs.E(errs.Unavailable, "iSCSI: %w", err)
	}
	return string(bytes.TrimSpace(text)), nil
}

// list lists a directory of sysfs by the beginning of names, nothing if it is gone.
func (i *Initiator) list(dir, prefix string) (paths []string, err error) {
	entries, err := i.host.ReadDir("sysfs.list", dir)
	if err != nil && !isGone(err) {
		return nil, errs.E(errs.Unavailable, "iSCSI: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

// attribute reads a file of sysfs, "" if there is none.
func (i *Initiator) attribute(dir, name string) string {
	text, err := i.host.ReadFile("sysfs.read", filepath.Join(dir, name), 4096)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}

// targetID is the number of a session's target among those of its SCSI host. That of the software
// initiator is always 0.
func (i *Initiator) targetID(s Session) string {
	id := i.attribute(filepath.Join(i.host.Sys("class", "iscsi_session"), s.name), "target_id")
	if _, err := strconv.Atoi(id); err != nil {
		return "0"
	}
	return id
}
