package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/host"
)

// Turn is a call, and the one that undoes it. A path of turns is for storage whose calls take long: where
// [Try] runs a whole path for each point, here a call is killed, repeated, looked at and undone, again and
// again at each of its effects, before the next one's turn comes.
type Turn struct {
	Step
	Check func(ctx context.Context, d Driver) error // that all is as the call should leave it
	Undo  func(ctx context.Context, d Driver) error
	Made  bool // it is only made
	// GivenUp is tried too: that the call is killed and undone, without having been repeated.
	GivenUp bool
}

// Turns is a path of turns and the driver they are made of.
type Turns struct {
	Open  func(ctx context.Context, h *host.Host, dir string) (Driver, error)
	Turns []Turn
	Left  func(dir string) []string // what an empty pool has not; in the end it must be empty
	Show  func() string             // what the storage looks like, after a failure
	// Exact wants what is Left to be the same after each undoing, and after each repetition of what was killed.
	Exact bool
	// Pick says which points to try, which are counted from 1 over all turns. nil: all.
	Pick func(n int, op, phase string) bool
}

// fractions of its usual time are when a program is killed.
var fractions = []float64{0.5, 0.8}

// timed is an effect and how long it took.
type timed struct {
	host.Effect
	Took time.Duration
}

// clock is a seam that notes what changes the host, and how long it takes.
type clock struct {
	mu   sync.Mutex
	seen []timed
}

func (c *clock) seam(e host.Effect, do func() error) error {
	if e.Reads {
		return do()
	}
	start := time.Now()
	err := do()
	c.mu.Lock()
	c.seen = append(c.seen, timed{e, time.Since(start)})
	c.mu.Unlock()
	return err
}

func (c *clock) take() (seen []timed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, c.seen = c.seen, nil
	return seen
}

// TryTurns makes every turn, killed at every point, and prints how many those were.
func TryTurns(t *testing.T, p Turns) {
	t.Helper()
	if text := os.Getenv(orderVariable); text != "" {
		obeyTurn(t, p, text)
		return
	}
	r := turning{t: t, p: p, dir: t.TempDir()}
	for n := range p.Turns {
		r.turn(n)
	}
	if p.Left != nil {
		if left := p.Left(r.dir); len(left) > 0 {
			t.Errorf("in the end there is\n\t%s", strings.Join(left, "\n\t"))
		}
	}
	fmt.Printf("crash: %s: %d calls, %d effects, killed at %d of %d points, %d recovered%s\n",
		t.Name(), len(p.Turns), r.effects, r.tried, r.points, r.tried-r.failed, r.given())
}

type turning struct {
	t                              *testing.T
	p                              Turns
	dir                            string
	effects, points, tried, failed int
	givenUp                        int
}

func (r *turning) given() string {
	if r.givenUp == 0 {
		return ""
	}
	return fmt.Sprintf("; %d of them given up before", r.givenUp)
}

// turn makes one turn: once without a crash, then at each point.
func (r *turning) turn(n int) {
	turn := r.p.Turns[n]
	before := r.left()
	effects, err := r.make(n)
	if err != nil {
		r.t.Fatalf("%s without a crash: %v", turn.Name, err)
	}
	if turn.Made {
		return
	}
	r.effects += len(effects)
	if len(effects) == 0 {
		r.t.Fatalf("%s has no effects: a crash test of nothing", turn.Name)
	}
	after := r.left()
	for _, o := range killAt(n, effects) {
		r.points++
		if r.p.Pick != nil && !r.p.Pick(r.points, effects[o.At-1].Op, o.Phase) {
			continue
		}
		r.tried++
		if err := r.try(o, before, after); err != nil {
			r.failed++
			r.t.Errorf("%s: killed %s %s (effect %d): %v", turn.Name, o.Phase, effects[o.At-1].Op, o.At, err)
		}
	}
}

// try undoes a call, kills it at a point, and makes it again.
func (r *turning) try(o order, before, after []string) error {
	if err := r.undo(o.Turn); err != nil {
		r.t.Fatalf("undo %s: %v", r.p.Turns[o.Turn].Name, err)
	}
	err := r.same("undone before", before)
	if err == nil && r.p.Turns[o.Turn].GivenUp {
		err = r.giveUp(o, before)
	}
	if err == nil {
		err = r.kill(o)
	}
	if _, again := r.make(o.Turn); again != nil {
		err = errors.Join(err, fmt.Errorf("afterwards: %w\n%s", again, r.p.Show()))
	}
	return errors.Join(err, r.same("in the end", after))
}

// giveUp kills a call of which nobody wants anything any more.
func (r *turning) giveUp(o order, before []string) error {
	r.givenUp++
	if err := r.kill(o); err != nil {
		return err
	}
	if err := r.undo(o.Turn); err != nil {
		return fmt.Errorf("given up: %w", err)
	}
	return r.same("given up", before)
}

func (r *turning) left() []string {
	if !r.p.Exact {
		return nil
	}
	return r.p.Left(r.dir)
}

// same compares what there is with what there should be.
func (r *turning) same(when string, want []string) error {
	if got := r.left(); !slices.Equal(got, want) {
		return fmt.Errorf("%s there is\n\t%s\nand should be\n\t%s", when, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	return nil
}

// killAt are the points of a call. What is before an effect is after the one that came before it.
func killAt(turn int, effects []timed) (points []order) {
	for i, e := range effects {
		o := order{Turn: turn, At: i + 1}
		if i == 0 {
			o.Phase = "before"
			points = append(points, o)
		}
		o.Phase = "after"
		points = append(points, o)
		if e.Program {
			for _, f := range fractions {
				o.Phase, o.Delay = "during", time.Duration(f*float64(e.Took))
				points = append(points, o)
			}
		}
	}
	return points
}

// make makes a call in a driver of its own, as after a restart, and looks at the result.
func (r *turning) make(n int) ([]timed, error) {
	var c clock
	d, err := r.open(c.seam)
	if err != nil {
		return nil, err
	}
	defer closeDriver(d)
	c.take() // what opening did
	turn := r.p.Turns[n]
	if err := call(r.t, turn.Step, d); err != nil {
		return nil, err
	}
	effects := c.take()
	if turn.Check != nil {
		return effects, turn.Check(r.t.Context(), d)
	}
	return effects, nil
}

func (r *turning) undo(n int) error {
	d, err := r.open(nil)
	if err != nil {
		return err
	}
	defer closeDriver(d)
	return call(r.t, Step{Do: r.p.Turns[n].Undo}, d)
}

func (r *turning) open(seam host.Seam) (Driver, error) {
	h := host.New()
	h.Seam = seam
	return r.p.Open(r.t.Context(), h, r.dir)
}

func closeDriver(d Driver) {
	if d.Pool != nil {
		_ = d.Pool.Close(context.Background())
	}
}

// kill makes the call in a process that ends in the midst of it. One that was too quick to be killed
// during an effect is no failure.
func (r *turning) kill(o order) error {
	o.Dir = r.dir
	err := process(r.t, o)
	if err != nil && wasKilled(err) {
		return nil
	}
	return fmt.Errorf("did not get there: %v", err)
}

// obeyTurn is the life of the process that is killed.
func obeyTurn(t *testing.T, p Turns, text string) {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	k := &killer{order: o, idle: true}
	h := host.New()
	h.Seam = k.seam
	d, err := p.Open(t.Context(), h, o.Dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	k.wake()
	err = call(t, p.Turns[o.Turn].Step, d)
	t.Fatalf("alive: %v after %v", err, slices.Clone(k.effects))
}
