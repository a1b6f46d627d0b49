package agent

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// connect returns a connection to a server.
func connect(t *testing.T) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go Serve(listener)
	t.Cleanup(func() { listener.Close() })
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestStreamsAreApartAndWhole(t *testing.T) {
	var out, complaint bytes.Buffer
	input := strings.Repeat("0123456789abcdef", 1<<16) // a megabyte: more than any buffer on the way
	err := Run(t.Context(), connect(t), []string{"sh", "-c", "echo to stderr >&2; cat"},
		Streams{In: strings.NewReader(input), Out: &out, Err: &complaint})
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != input || complaint.String() != "to stderr\n" {
		t.Errorf("%d of %d bytes came back, and on standard error %q", out.Len(), len(input), &complaint)
	}
}

func TestHowProgramsEnd(t *testing.T) {
	var exit *ExitError
	if err := Run(t.Context(), connect(t), []string{"sh", "-c", "exit 5"}, Streams{}); !errors.As(err, &exit) || exit.Status != 5 {
		t.Errorf("exit 5 is %v", err)
	}
	if err := Run(t.Context(), connect(t), []string{"sh", "-c", "kill -9 $$"}, Streams{}); !errors.As(err, &exit) || exit.Status != -1 {
		t.Errorf("a killed program is %v", err)
	}
	if err := Run(t.Context(), connect(t), []string{"no-such-program"}, Streams{}); err == nil || errors.As(err, &exit) {
		t.Errorf("a program that is not there is %v", err)
	}
	if err := Run(t.Context(), connect(t), nil, Streams{}); err == nil {
		t.Error("no program gives no error")
	}
}

// TestClientTakesItsProgramAlong: a program whose client has gone is of no use to anybody.
func TestClientTakesItsProgramAlong(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pid := make(chan string, 1)
	result := make(chan error, 1)
	go func() {
		result <- Run(ctx, connect(t), []string{"sh", "-c", "echo $$; exec sleep 1000"}, Streams{Out: lineTo(pid)})
	}()
	running := filepathOf(<-pid)
	if _, err := os.Stat(running); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("the client's end is %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(running); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the program runs on")
		}
	}
}

func filepathOf(pid string) string { return "/proc/" + strings.TrimSpace(pid) }

// lineTo hands on what is written.
type lineTo chan<- string

func (l lineTo) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}
