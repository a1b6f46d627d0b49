package uml

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
	"time"
)

// outputTail is how many bytes of a failed command's output are shown.
const outputTail = 4000

// RunCommand runs a command and returns its standard output. The error of one
// that fails wraps *exec.ExitError and quotes what it wrote.
func RunCommand(ctx context.Context, cmd *exec.Cmd) (string, error) {
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

// HostOutput runs a program of the host in process and mount namespaces that
// end with the calling process, so that one that is killed leaves no build
// running.
func HostOutput(ctx context.Context, stdin io.Reader, name string, args ...string) ([]byte, error) {
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
		out, err := RunCommand(ctx, cmd)
		done <- result{out, err}
	}()
	r := <-done
	return []byte(r.out), r.err
}
