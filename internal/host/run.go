package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// DefaultTimeout is the deadline of a program that sets none.
const DefaultTimeout = 30 * time.Second

// Cmd is a program to run. Secrets go to Stdin, never to Args.
type Cmd struct {
	Op      string // the label of the effect, "stage.mkfs"
	Reads   bool   // the program changes nothing
	Name    string // found in PATH unless it has a slash
	Args    []string
	Stdin   []byte
	Timeout time.Duration // 0 is DefaultTimeout
	// OfNode is of a program that talks to a daemon of the node, and has to be of the same version: it is run as the node
	// has it; see [Host.Node].
	OfNode bool
	root   string // the directory that the program takes for /; empty is ours
}

// Output is what a program wrote.
type Output struct{ Stdout, Stderr []byte }

// ExitError is a program that ran and said no. Its code is kept: fsck and blkid speak in codes.
type ExitError struct {
	Name   string
	Code   int    // -1: ended by a signal
	Stderr string // its end, at most 2 KiB
}

// Error gives the program, its exit status and the end of what it wrote to stderr.
func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: exit status %d: %s", e.Name, e.Code, e.Stderr)
}

// ExitCode returns the exit status in the chain of err: 0 for nil, and ok=false if err is not
// that of a program which ran and ended.
func ExitCode(err error) (code int, ok bool) {
	var e *ExitError
	if err == nil {
		return 0, true
	}
	if errors.As(err, &e) {
		return e.Code, true
	}
	return 0, false
}

// Runner runs programs.
type Runner interface {
	// Run runs c until it ends or its deadline passes. A program that ended with a status other
	// than 0 is an *ExitError beside the output. errs.Unsupported if there is no such program,
	// errs.Unavailable if it was ended by the deadline.
	Run(ctx context.Context, c Cmd) (Output, error)
}

// Run passes a program through the seam and runs it.
func (h *Host) Run(ctx context.Context, c Cmd) (out Output, err error) {
	if c.OfNode {
		c.root = h.Node
	}
	err = h.pass(Effect{Op: c.Op, Reads: c.Reads, Program: true}, func() error {
		out, err = h.Runner.Run(ctx, c)
		return err
	})
	return out, err
}

// Exec is the Runner that runs real programs, without a shell, in the C locale.
type Exec struct{}

// Run is [Runner].
func (Exec) Run(ctx context.Context, c Cmd) (Output, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Name, c.Args...)
	if c.root != "" {
		cmd.Path, cmd.Err = below(c.root, c.Name)
		cmd.Dir = "/"
	}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 2 * time.Second
	// A mkfs must not outlive us and meet our successor's. The signal is sent when the parent
	// *thread* ends, so this goroutine keeps its thread until the program is done.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Chroot: c.root}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	out := Output{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	return out, classify(ctx, c.Name, timeout, err, stderr.String())
}

// below returns the path of a program as whoever takes root for / has it.
func below(root, name string) (string, error) {
	for _, dir := range programDirs() {
		// Where a link leads is another matter in there.
		if _, err := os.Lstat(filepath.Join(root, dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
	}
	return "", exec.ErrNotFound
}

// programDirs are where nodes have their programs. The last two are NixOS' and Talos'.
func programDirs() []string {
	return []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/run/current-system/sw/bin"}
}

func classify(ctx context.Context, name string, timeout time.Duration, err error, stderr string) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() == context.DeadlineExceeded:
		return errs.E(errs.Unavailable, "%s: not done within %v and stopped: %s", name, timeout, tail(stderr))
	case ctx.Err() != nil:
		return errs.E(errs.Aborted, "%s: stopped: %w", name, ctx.Err())
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist):
		return errs.E(errs.Unsupported, "%s: this program is not installed on the node", name)
	case errors.As(err, &exit):
		return &ExitError{Name: name, Code: exit.ExitCode(), Stderr: tail(stderr)}
	default:
		return errs.E(errs.Internal, "%s: %w", name, err)
	}
}

func tail(s string) string {
	const most = 2 << 10
	s = strings.TrimSpace(s)
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}
