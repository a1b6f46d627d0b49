// Package knfsd serves directories with the kernel's NFS server, version 4, and answers the kernel's questions who may have
// them. It stands in for rpc.mountd and exportfs, which are not usable in User-Mode Linux (mountd dies of SIGSEGV).
//
// The kernel asks three things, each once, and remembers the answer until it is told to forget: whose an address is,
// how somebody has a path, and what path a file handle is of. Here each address is its own owner.
package knfsd

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Export is a directory and who has it.
type Export struct {
	Path string
	// FSID tells its files from those of others, in the file handles that clients keep: not 0, and another one for another directory
	// of the same path.
	FSID  uint32
	Rules []Rule // the first one that fits an address counts; without any nobody has it
}

// Rule is whom a directory is served to, and how.
type Rule struct {
	Clients    func(netip.Addr) bool
	ReadOnly   bool
	Async      bool // answers come before the data is on the disk
	Insecure   bool // ports above 1023 too
	SquashRoot bool
	SquashAll  bool
	UID, GID   uint32 // whom the squashed become
}

// Server is the NFS server of this kernel, of which there is one.
type Server struct {
	control string // "/proc/fs/nfsd"
	caches  []*cache

	mu      sync.RWMutex
	exports map[string]Export

	stop *os.File // its closing ends the answers
	done chan struct{}
}

const (
	threads = "8"
	// graceSeconds is the least that the kernel takes: for so long after a restart clients may claim what they had,
	// and nobody gets anything new.
	graceSeconds = "10"
)

// Open begins to answer the kernel's questions, and to serve unless that was going on already: then clients notice nothing.
// If nobody can have had anything open yet, the wait for that is left out.
func Open(isNew bool) (*Server, error) {
	s := &Server{control: "/proc/fs/nfsd", exports: map[string]Export{}, done: make(chan struct{})}
	if _, err := os.Stat(filepath.Join(s.control, "threads")); err != nil {
		if err := unix.Mount("nfsd", s.control, "nfsd", 0, ""); err != nil {
			return nil, fmt.Errorf("mount %s: %w; load the kernel module nfsd", s.control, err)
		}
	}
	if err := s.answerAll(); err != nil {
		return nil, err
	}
	running, err := s.running()
	if err == nil && !running {
		err = s.Start()
		if isNew && err == nil {
			err = s.write("v4_end_grace", "Y")
		}
	}
	if err == nil {
		err = s.forget()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) write(name, value string) error {
	return os.WriteFile(filepath.Join(s.control, name), []byte(value+"\n"), 0)
}

func (s *Server) running() (bool, error) {
	text, err := os.ReadFile(filepath.Join(s.control, "threads"))
	return strings.TrimSpace(string(text)) != "0", err
}

// Start serves on port 2049. After a Stop clients first claim what they had, as after a restart of a machine.
func (s *Server) Start() error {
	if on, err := s.running(); err != nil || on {
		return err
	}
	for _, w := range [...][2]string{{"versions", "-3 +4 +4.1 +4.2"}, {"nfsv4gracetime", graceSeconds}, {"nfsv4leasetime", graceSeconds},
		{"portlist", "tcp 2049"}, {"threads", threads}} {
		if err := s.write(w[0], w[1]); err != nil {
			return err
		}
	}
	return nil
}

// Stop serves nobody any more; clients wait. What they had open is forgotten here, and claimed by them after Start.
func (s *Server) Stop() error {
	if on, err := s.running(); err != nil || !on {
		return err
	}
	return errors.Join(s.write("threads", "0"), s.forget())
}

// Close ends the answers. Serving goes on as far as the kernel remembers them, so that another Open takes over.
func (s *Server) Close() error {
	if s.stop == nil {
		return nil
	}
	err := s.stop.Close()
	<-s.done
	for _, c := range s.caches {
		err = errors.Join(err, unix.Close(c.fd))
	}
	s.stop, s.caches = nil, nil
	return err
}

// Set serves a directory as it is to be from now on, for those too who have it mounted.
func (s *Server) Set(e Export) error {
	s.mu.Lock()
	s.exports[e.Path] = e
	s.mu.Unlock()
	return s.forget()
}

// Remove has nobody reach a directory any more, and the kernel let go of it.
func (s *Server) Remove(path string) error {
	s.mu.Lock()
	delete(s.exports, path)
	s.mu.Unlock()
	return s.forget()
}

// forget has the kernel ask again, and is how a change of rules takes effect.
func (s *Server) forget() error {
	for _, c := range s.caches {
		// Any time would do: the kernel takes the present.
		if err := os.WriteFile(c.file("flush"), fmt.Appendf(nil, "%d\n", time.Now().Unix()), 0); err != nil {
			return err
		}
	}
	return nil
}

// pathID is the FSID of a directory on the way to exported ones.
func pathID(path string) uint32 { return crc32.ChecksumIEEE([]byte(path)) | 1<<31 }
