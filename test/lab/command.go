package lab

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

const commandTimeout = time.Minute

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
	return uml.RunCommand(ctx, exec.CommandContext(ctx, name, args...))
}
