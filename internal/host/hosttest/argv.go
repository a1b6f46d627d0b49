package hosttest

import (
	"context"
	"strings"
	"sync"

	"github.com/dozo-dev/dozo/internal/host"
)

// ArgvLog is a [host.Runner] that remembers what programs were called with, as anybody on the machine can see it.
type ArgvLog struct {
	host.Runner

	mu    sync.Mutex
	lines []string
}

// Run is [host.Runner].
func (l *ArgvLog) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	l.mu.Lock()
	l.lines = append(l.lines, c.Name+" "+strings.Join(c.Args, " "))
	l.mu.Unlock()
	return l.Runner.Run(ctx, c)
}

// String has a line for each program that was called.
func (l *ArgvLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
