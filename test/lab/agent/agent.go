// Package agent runs programs in a machine for somebody outside it: what ssh
// is on a real one, without a login. Whoever may connect is root, so the
// caller's listener has to know who is there, as TLS with client certificates
// does.
package agent

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Streams are a program's standard streams; a nil one is empty or discarded.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// ExitError is the end of a program that failed by itself.
type ExitError struct {
	Program string
	Status  int // -1: a signal ended it
}

func (e *ExitError) Error() string { return fmt.Sprintf("%s: exit status %d", e.Program, e.Status) }

// message is what either side sends after the program's arguments: the client
// its standard input, the server output and the end.
type message struct {
	Data   []byte
	Err    bool // Data is of standard error
	EOF    bool // standard input has ended
	Ended  bool
	Status int
	Failed string // why the program was not started
}

// Serve runs programs for clients until the listener is closed. A client that
// goes away takes its program with it.
func Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = serve(conn) // the client has gone
		}()
	}
}

// serve runs one program.
func serve(conn net.Conn) error {
	from, to := gob.NewDecoder(conn), &sender{enc: gob.NewEncoder(conn)}
	var args []string
	if err := from.Decode(&args); err != nil {
		return err
	}
	if len(args) == 0 {
		return to.send(message{Ended: true, Failed: "no program is named"})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second // a daemon that it leaves may keep its streams open
	cmd.Stdout, cmd.Stderr = stream{to, false}, stream{to, true}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return to.send(message{Ended: true, Failed: err.Error()})
	}
	go func() {
		receiveInput(from, in)
		cancel()
	}()
	end := message{Ended: true}
	exit := (*exec.ExitError)(nil)
	switch err := cmd.Wait(); {
	case errors.As(err, &exit):
		end.Status = exit.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		end.Failed = err.Error()
	}
	return to.send(end)
}

// receiveInput returns when the client has gone.
func receiveInput(from *gob.Decoder, in io.WriteCloser) {
	for {
		var m message
		if err := from.Decode(&m); err != nil {
			return
		}
		if m.EOF {
			in.Close()
			continue
		}
		_, _ = in.Write(m.Data) // a program may end without reading all
	}
}

// sender lets several goroutines send.
type sender struct {
	mu  sync.Mutex
	enc *gob.Encoder
}

func (s *sender) send(m message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enc.Encode(m)
}

// stream sends what is written to it.
type stream struct {
	to  *sender
	err bool
}

func (s stream) Write(p []byte) (int, error) {
	return len(p), s.to.send(message{Data: p, Err: s.err})
}

// Run has the server at the other end of conn run a program, and closes conn.
// A program that fails gives an [ExitError]; the end of ctx ends it.
func Run(ctx context.Context, conn net.Conn, args []string, s Streams) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	to := &sender{enc: gob.NewEncoder(conn)}
	if err := to.enc.Encode(args); err != nil {
		return fmt.Errorf("ask for %s: %w", strings.Join(args, " "), err)
	}
	go sendInput(to, s.In)
	from := gob.NewDecoder(conn)
	for {
		var m message
		if err := from.Decode(&m); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return fmt.Errorf("%s: the connection broke: %w", strings.Join(args, " "), err)
		}
		if m.Ended {
			return m.result(args)
		}
		if err := s.deliver(m); err != nil {
			return err
		}
	}
}

// sendInput returns at the input's end, or when the program has ended.
func sendInput(to *sender, in io.Reader) {
	if in != nil {
		if _, err := io.Copy(stream{to: to}, in); err != nil {
			return
		}
	}
	_ = to.send(message{EOF: true}) // an error means that the program has ended
}

func (s Streams) deliver(m message) error {
	w := s.Out
	if m.Err {
		w = s.Err
	}
	if w == nil {
		return nil
	}
	_, err := w.Write(m.Data)
	return err
}

func (m message) result(args []string) error {
	switch {
	case m.Failed != "":
		return errors.New(m.Failed)
	case m.Status != 0:
		return &ExitError{Program: args[0], Status: m.Status}
	}
	return nil
}
