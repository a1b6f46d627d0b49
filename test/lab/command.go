package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	commandTimeout = time.Minute
	// outputTail is how many bytes of a failed command's output are shown.
	outputTail = 4000
)

// Output runs a program for at most a minute, in a guest or on the host, and
// returns what it wrote. The test ends if the program fails.
func Output(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := Try(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Output for a program that may fail. The error wraps *exec.ExitError
// and quotes what the program wrote.
func Try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandTimeout)
	defer cancel()
	return runCommand(ctx, exec.CommandContext(ctx, name, args...))
}

// runCommand runs a command and puts what it wrote into the error if it fails.
func runCommand(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return stdout.String(), nil
	}
	text := strings.TrimSpace(stdout.String() + stderr.String())
	if len(text) > outputTail {
		text = "…" + text[len(text)-outputTail:]
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, text)
}

// hostOutput runs a program of the host in process and mount namespaces that
// end with the test's process, so that a killed test leaves no build running.
func hostOutput(ctx context.Context, stdin io.Reader, name string, args ...string) ([]byte, error) {
	if _, err := exec.LookPath(name); err != nil {
		return nil, fmt.Errorf("%w; install it, for Debian packages with make packages", err)
	}
	type result struct {
		out string
		err error
	}
	done := make(chan result)
	go func() { // the parent-death signal is bound to the thread that starts the program
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Stdin = stdin
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
			Pdeathsig:  syscall.SIGKILL,
		}
		out, err := runCommand(ctx, cmd)
		done <- result{out, err}
	}()
	r := <-done
	return []byte(r.out), r.err
}
