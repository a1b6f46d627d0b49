package knfsd

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// cache is one of the kernel's memories of answers, with the channel by which it asks.
type cache struct {
	name   string
	answer func(question []string, expiry string) []string
	fd     int
}

func (c *cache) file(name string) string { return filepath.Join("/proc/net/rpc", c.name, name) }

// answerAll answers questions until Close.
func (s *Server) answerAll() error {
	stopped, stop, err := os.Pipe()
	if err != nil {
		return err
	}
	s.stop = stop
	for _, c := range []*cache{{name: "auth.unix.ip", answer: s.address}, {name: "nfsd.export", answer: s.export}, {name: "nfsd.fh", answer: s.handle}} {
		if c.fd, err = unix.Open(c.file("channel"), unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			close(s.done)
			return errors.Join(fmt.Errorf("open %s: %w; load the kernel module nfsd", c.file("channel"), err), stopped.Close(), s.Close())
		}
		s.caches = append(s.caches, c)
	}
	go func(caches []*cache) {
		defer close(s.done)
		defer stopped.Close()
		if err := answerUntil(caches, stopped); err != nil {
			log.Printf("knfsd: no more questions are answered: %v", err)
		}
	}(s.caches)
	return nil
}

// answerUntil ends when the other end of the pipe is closed.
func answerUntil(caches []*cache, stopped *os.File) error {
	polled := []unix.PollFd{{Fd: int32(stopped.Fd()), Events: unix.POLLIN}}
	for _, c := range caches {
		polled = append(polled, unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN})
	}
	question := make([]byte, 8192) // more than the kernel asks at a time, which is a page
	for {
		if _, err := unix.Poll(polled, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if polled[0].Revents != 0 {
			return nil
		}
		for i, c := range caches {
			if polled[i+1].Revents&unix.POLLIN == 0 {
				continue
			}
			n, err := unix.Read(c.fd, question)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.reply(string(question[:n]))
		}
	}
}

// reply answers one question. What the kernel refuses concerns a path that has just gone, and nobody else.
func (c *cache) reply(question string) {
	words := c.answer(unquote(question), fmt.Sprint(time.Now().Add(lifetime).Unix()))
	if words == nil {
		return
	}
	if _, err := unix.Write(c.fd, []byte(quote(words))); err != nil {
		log.Printf("knfsd: %s: answer to %q: %v", c.name, question, err)
	}
}
