// Package smbd serves directories over SMB by Samba's smbd, on port 445 of the machine, for a simulated NAS. The daemon goes on
// when this process ends, and is taken over by the next one.
//
// It needs root and the programs in [Programs], and it adds users to the machine: it is for guests of the lab.
package smbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Programs are those that it calls.
func Programs() []string { return []string{"smbd", "smbcontrol", "smbpasswd", "useradd"} }

// Share is a directory that is served.
type Share struct {
	Name, Path string
	Users      []User // nobody else is let in
	Hidden     bool   // from who lists the shares
}

// User is who may use a share.
type User struct {
	Name, Password string
	ReadOnly       bool
}

// Server is smbd. One call at a time.
type Server struct {
	dir       string // its configuration, passwords and state
	shares    map[string]Share
	passwords map[string]string // that smbd has
	on        bool
}

// New returns a server that keeps its own things in a directory, as those before it did. smbd is started with its first share.
func New(dir string) *Server {
	return &Server{dir: dir, shares: map[string]Share{}, passwords: map[string]string{}, on: true}
}

// Set serves a share, or changes whom it is served to: without users it is there for nobody. Who has it mounted keeps it until they connect
// again, as smbd has it.
func (s *Server) Set(share Share) error {
	if _, served := s.shares[share.Name]; len(share.Users) == 0 && !served {
		return nil // it is one by NFS, or has had no users yet
	}
	s.shares[share.Name] = share
	return s.apply()
}

// Remove serves a share no more. Who has it open is cut off.
func (s *Server) Remove(name string) error {
	if !s.running() {
		delete(s.shares, name)
		return nil
	}
	delete(s.shares, name)
	if err := s.apply(); err != nil {
		return err
	}
	_, err := s.control("smbd", "close-share", name)
	return err
}

// Settle ends the service of shares that an earlier process began and this one was not told of.
func (s *Server) Settle() error { return s.apply() }

// Stop ends all service; Start begins it again, with what is said to be served next.
func (s *Server) Stop() error {
	s.on = false
	clear(s.shares)
	return s.kill()
}

// Start serves again.
func (s *Server) Start() error {
	s.on = true
	return s.apply()
}

// apply makes smbd serve what there is to be served. It is started only if there is something.
func (s *Server) apply() error {
	if !s.on || len(s.shares) == 0 && !s.running() {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(s.config(), []byte(s.text()), 0o644); err != nil {
		return err
	}
	for _, share := range s.shares {
		for _, u := range share.Users {
			if err := s.enroll(u); err != nil {
				return err
			}
		}
	}
	if !s.running() {
		return s.start()
	}
	// Messages are handled one after the other: when it has answered it has read its configuration.
	for _, message := range []string{"reload-config", "ping"} {
		if _, err := s.control(strconv.Itoa(s.pid()), message); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) config() string  { return filepath.Join(s.dir, "smb.conf") }
func (s *Server) pidFile() string { return filepath.Join(s.dir, "smbd.pid") }

// text is the configuration. Files are everybody's: who may is what the share says.
func (s *Server) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, `[global]
server role = standalone server
server min protocol = SMB2_02
smb ports = 445
disable netbios = yes
disable spoolss = yes
load printers = no
printcap name = /dev/null
map to guest = Never
obey pam restrictions = no
log level = 1
log file = %[1]s/log
passdb backend = tdbsam:%[1]s/passdb.tdb
private dir = %[1]s
lock directory = %[1]s
state directory = %[1]s
cache directory = %[1]s
ncalrpc dir = %[1]s/ncalrpc
pid directory = %[1]s
force create mode = 0666
force directory mode = 0777
`, s.dir)
	for _, name := range slices.Sorted(maps.Keys(s.shares)) {
		share := s.shares[name]
		var all, readers []string
		for _, u := range share.Users {
			all = append(all, strconv.Quote(u.Name))
			if u.ReadOnly {
				readers = append(readers, strconv.Quote(u.Name))
			}
		}
		if len(all) == 0 {
			all = []string{"nobody"} // who has no password; an empty list is everybody
		}
		fmt.Fprintf(&b, "[%s]\npath = %s\nread only = no\nbrowseable = %s\nvalid users = %s\nread list = %s\n",
			name, share.Path, map[bool]string{true: "no", false: "yes"}[share.Hidden], strings.Join(all, " "), strings.Join(readers, " "))
	}
	return b.String()
}

// enroll makes a user known to smbd by a password.
func (s *Server) enroll(u User) error {
	if s.passwords[u.Name] == u.Password {
		return nil
	}
	if _, err := user.Lookup(u.Name); errors.As(err, new(user.UnknownUserError)) {
		if _, err := run("", "useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", u.Name); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	_, err := run(u.Password+"\n"+u.Password+"\n", "smbpasswd", "-c", s.config(), "-s", "-a", u.Name)
	if err == nil {
		s.passwords[u.Name] = u.Password
	}
	return err
}

// start starts smbd in a session of its own and waits until it answers.
func (s *Server) start() error {
	if err := os.MkdirAll(filepath.Join(s.dir, "ncalrpc"), 0o755); err != nil {
		return err
	}
	if _, err := run("", "smbd", "--daemon", "--configfile="+s.config()); err != nil {
		return err
	}
	const patience = time.Minute
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		_, err := s.control("smbd", "ping")
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("smbd does not answer after %v: %w", patience, err)
		}
	}
}

func (s *Server) control(message ...string) (string, error) {
	return run("", "smbcontrol", append([]string{"--configfile=" + s.config()}, message...)...)
}

// pid is smbd's own, 0 if there is none.
func (s *Server) pid() int {
	text, err := os.ReadFile(s.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil || !strings.HasPrefix(string(comm), "smbd") {
		return 0
	}
	return pid
}

func (s *Server) running() bool { return s.pid() != 0 }

// kill ends smbd and all of its processes, one for each client, which are in its group.
func (s *Server) kill() error {
	pid := s.pid()
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	for s.running() {
		time.Sleep(10 * time.Millisecond)
	}
	return os.Remove(s.pidFile())
}

// commandTimeout is far more than any of the programs takes in a busy guest.
const commandTimeout = 2 * time.Minute

func run(input, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewBufferString(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return string(out), nil
}
