// Package crash kills a driver at every step it takes and finds out whether that did any harm.
//
// A path is a sequence of calls, as an orchestrator makes them. It is run once to count the effects it
// has on the host (see [host.Effect]). Then, for each effect, it is run in a process that kills itself
// just before the effect, just after it, or in the middle of it; a new process repeats the call that was
// cut short and goes on with the rest, as an orchestrator does. In the end there must be exactly what is
// there when nothing is killed: no more, no less.
package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
)

// Driver is the driver in one process.
type Driver struct {
	Host *host.Host
	Pool *pool.Pool
	Node *node.Node
	Dir  string // of this run, fresh
}

// Step is one call of a path. It must be one that can be repeated, and fail if it finds data lost.
type Step struct {
	Name  string
	Do    func(ctx context.Context, d Driver) error
	Tried bool // another path kills this call at each of its effects; here it is only made
}

// Path is a sequence of calls and the driver they are made of.
type Path struct {
	// Open starts the driver on a host, with all its state below dir.
	Open  func(ctx context.Context, h *host.Host, dir string) (Driver, error)
	Steps []Step
	// Only says at which effects to kill, by their labels, where another path has tried the rest. nil: at all.
	Only func(op string) bool
	// Close ends what outlives the driver, when a run is over or failed. It may be nil.
	Close func(dir string)
}

// order is what a process of a run is told, in the environment.
type order struct {
	Dir   string
	At    int           // kill at this effect, counted from 1; 0 is never
	Phase string        // before, during or after it
	Delay time.Duration // into a program; 0 is a moment
	Turn  int           // of TryTurns: which call
}

const orderVariable = "DOZO_CRASH_ORDER"

// runTimeout is the deadline of one process.
const runTimeout = 2 * time.Minute

// Try runs a path with a crash at every point, and prints how many that were.
func Try(t *testing.T, p Path) {
	t.Helper()
	if text := os.Getenv(orderVariable); text != "" {
		obey(t, p, text)
		return
	}
	want, effects := reference(t, p)
	points := p.points(effects)
	if len(points) == 0 {
		t.Fatal("there is nothing to kill it at")
	}
	var failed atomic.Int32
	var wg sync.WaitGroup
	queue := make(chan order)
	for range runtime.NumCPU() {
		wg.Go(func() {
			for o := range queue {
				if err := try(t, p, o, want); err != nil {
					failed.Add(1)
					t.Errorf("killed %s %s (effect %d): %v", o.Phase, effects[o.At-1].Effect.Op, o.At, err)
				}
			}
		})
	}
	base := t.TempDir()
	for n, o := range points {
		o.Dir = filepath.Join(base, strconv.Itoa(n))
		queue <- o
	}
	close(queue)
	wg.Wait()
	fmt.Printf("crash: %s: %d calls, %d effects, killed at %d points, %d recovered\n",
		t.Name(), len(p.Steps), len(effects), len(points), len(points)-int(failed.Load()))
}

// reference runs the path without a crash, and returns what is there at the end, and its effects.
func reference(t *testing.T, p Path) (want []string, effects []effect) {
	t.Helper()
	dir := t.TempDir()
	if err := process(t, order{Dir: dir}); err != nil {
		t.Fatalf("without a crash: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, effectsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &effects); err != nil {
		t.Fatal(err)
	}
	if len(effects) == 0 {
		t.Fatal("the path has no effects: a crash test of nothing")
	}
	want = inventory(t, dir)
	if p.Close != nil {
		p.Close(dir)
	}
	return want, effects
}

// points are where to kill. Effects before the first call, when the driver starts, count too.
func (p Path) points(effects []effect) (points []order) {
	for n, e := range effects {
		if e.Step >= 0 && p.Steps[e.Step].Tried || p.Only != nil && !p.Only(e.Effect.Op) {
			continue
		}
		points = append(points, order{At: n + 1, Phase: "before"}, order{At: n + 1, Phase: "after"})
		if e.Effect.Program {
			points = append(points, order{At: n + 1, Phase: "during"})
		}
	}
	return points
}

// try runs the path with one crash and to its end, and compares.
func try(t *testing.T, p Path, o order, want []string) error {
	if err := os.Mkdir(o.Dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(o.Dir) // there are hundreds; what is mounted there still makes it fail, as it should
	if p.Close != nil {
		defer p.Close(o.Dir)
	}
	if err := process(t, o); !wasKilled(err) {
		return fmt.Errorf("did not get there: %v", err)
	}
	if err := process(t, order{Dir: o.Dir}); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	if got := inventory(t, o.Dir); !slices.Equal(got, want) {
		return fmt.Errorf("in the end there is\n\t%s\nand should be\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	return nil
}

// wasKilled tells a process that was killed from one that ended.
func wasKilled(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// process runs this test again in a process with an order.
func process(t *testing.T, o order) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run="+exactly(t.Name()), "-test.count=1")
	cmd.Env = append(os.Environ(), orderVariable+"="+string(text))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

// exactly is the -test.run pattern of one test or subtest.
func exactly(name string) string {
	return "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
}
