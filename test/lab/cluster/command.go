package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// command is one short-lived program with a deadline.
type command struct {
	args    []string
	dir     string
	env     []string // added to the environment
	stdin   io.Reader
	timeout time.Duration
}

// run returns the program's standard output. Its error carries the end of what
// the program said on standard error.
func (c command) run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir = c.dir
	cmd.Stdin = c.stdin
	if c.env != nil {
		cmd.Env = append(os.Environ(), c.env...)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no end after %v", c.timeout)
	}
	said := lastLines(stderr.String()+stdout.String(), 20)
	return nil, fmt.Errorf("%s: %w\n%s", strings.Join(c.args, " "), err, said)
}

// lastLines is the end of a program's output, which is where programs say why
// they stopped.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// poll calls done until it returns nil, ctx ends or the time is over; then it
// returns done's last error.
func poll(ctx context.Context, timeout, every time.Duration, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		if fatal := (*fatalError)(nil); errors.As(err, &fatal) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not done after %v: %w", timeout, err)
		case <-time.After(every):
		}
	}
}

// fatalError ends a poll at once: waiting longer cannot help.
type fatalError struct{ error }

func (e *fatalError) Unwrap() error { return e.error }
