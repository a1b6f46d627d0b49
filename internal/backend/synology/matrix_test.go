package synology_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// callsOf counts the calls of an operation, logins included.
func callsOf(t *testing.T, op operation) int {
	t.Helper()
	b, _ := furnished(t)
	p := b.open(nil)
	var calls atomic.Int32
	b.intercept(func(string, string) bool { calls.Add(1); return false })
	if err := op.do(t.Context(), p); err != nil {
		t.Fatalf("%s: %v", op.name, err)
	}
	return int(calls.Load())
}

// again calls what may say that it was not finished.
func again(ctx context.Context, op operation, p *synology.Backend) error {
	var err error
	for range 5 {
		if err = op.do(ctx, p); !errs.Is(err, errs.Aborted) && !errs.Is(err, errs.Busy) {
			break
		}
	}
	return err
}

// TestEveryFaultAtEveryCall: whatever goes wrong with whichever call of an operation, it succeeds or says so with a kind that nobody
// takes for an answer, and succeeds when it is called again; nothing is left over, and nothing of others' is touched. With
// DOZO_TEST_LONG=1 it is each call, else each fault meets one call of every third operation.
func TestEveryFaultAtEveryCall(t *testing.T) {
	m := &matrix{outcomes: map[dsmsim.Action]map[string]int{}}
	t.Run("operations", func(t *testing.T) {
		for i, op := range operations() {
			t.Run(strings.ReplaceAll(op.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				calls := callsOf(t, op)
				for j, action := range dsmsim.Actions() {
					for n := range calls {
						if os.Getenv("DOZO_TEST_LONG") == "1" || (i+j)%3 == 0 && n == (i+j)/3%calls {
							m.try(t, op, action, n)
						}
					}
				}
			})
		}
	})
	m.print(t)
}

// matrix counts what became of operations.
type matrix struct {
	mu       sync.Mutex
	runs     int
	outcomes map[dsmsim.Action]map[string]int
}

func (m *matrix) try(t *testing.T, op operation, action dsmsim.Action, n int) {
	if action == dsmsim.FloodDone && n > 2 {
		return // 8 MiB each
	}
	for _, times := range []int{1, 3} { // three is as often as something is read
		if times == 3 && action.Done() {
			continue
		}
		kind := faulty(t, op, action, n, times)
		m.mu.Lock()
		if m.outcomes[action] == nil {
			m.outcomes[action] = map[string]int{}
		}
		m.outcomes[action][kind]++
		m.runs++
		m.mu.Unlock()
	}
}

func (m *matrix) print(t *testing.T) {
	t.Logf("matrix: %d operations, %d runs", len(operations()), m.runs)
	for _, action := range dsmsim.Actions() {
		var cells []string
		for _, kind := range slices.Sorted(maps.Keys(m.outcomes[action])) {
			cells = append(cells, fmt.Sprintf("%s %d", kind, m.outcomes[action][kind]))
		}
		t.Logf("matrix: %-17s %s", action, strings.Join(cells, ", "))
	}
}

func faulty(t *testing.T, op operation, action dsmsim.Action, n, times int) string {
	t.Helper()
	b, _ := furnished(t)
	defer func() { fine(t, b.server.Stop()) }()
	p := b.open(nil)
	what := fmt.Sprintf("%s, %s at call %d, %d times", op.name, action, n+1, times)
	code := 18990327
	if action == dsmsim.Expire {
		code = 119
	}
	fault := dsmsim.Fault{Action: action, Code: code, Delay: time.Millisecond, Skip: n, Times: times}
	ctx := t.Context()
	if action == dsmsim.HangDone || action == dsmsim.TrickleDone { // no answer until the caller has enough, or half of one
		var cancel context.CancelFunc
		fault.Delay = time.Minute
		ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
	}
	b.faults(fault)
	start := time.Now()
	err := op.do(ctx, p)
	if took := time.Since(start); took >= time.Minute {
		t.Errorf("%s: %v: waited for the answer, %v", what, err, took)
	}
	outcome := "succeeded"
	if err != nil {
		outcome = errs.KindOf(err).String()
		if !slices.Contains([]errs.Kind{errs.Unavailable, errs.Aborted, errs.Busy, errs.Internal}, errs.KindOf(err)) {
			t.Errorf("%s: %v (%v)", what, err, errs.KindOf(err))
		}
	}
	b.faults()
	p = b.open(nil) // one whose login failed waits before the next, as it should
	if err := again(t.Context(), op, p); err != nil {
		t.Errorf("%s: called again: %v", what, err)
	}
	if op.done != nil {
		if err := op.done(t.Context(), p); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.empty(p, what)
	return outcome
}

// TestKilledBetweenAnyTwoCalls: a process that is killed in an operation leaves what the next one can finish, or delete.
func TestKilledBetweenAnyTwoCalls(t *testing.T) {
	t.Parallel()
	for _, op := range slices.Concat(changingLUNs(), changingShares()) {
		t.Run(strings.ReplaceAll(op.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			calls := callsOf(t, op)
			for n := range calls {
				killed(t, op, n, true)
				killed(t, op, n, false)
			}
			t.Logf("killed %d times", 2*calls)
		})
	}
}

func killed(t *testing.T, op operation, n int, finish bool) {
	t.Helper()
	b, _ := furnished(t)
	defer func() { fine(t, b.server.Stop()) }()
	what := fmt.Sprintf("%s, killed after call %d", op.name, n)
	ctx, kill := context.WithCancel(t.Context())
	var calls atomic.Int32
	b.intercept(func(string, string) bool {
		if int(calls.Add(1)) <= n {
			return false
		}
		kill()
		return true
	})
	if err := op.do(ctx, b.open(nil)); err == nil && int(calls.Load()) > n {
		t.Errorf("%s: succeeded", what)
	}
	kill()
	b.intercept(nil)
	p := b.open(nil)
	if finish {
		if err := again(t.Context(), op, p); err != nil {
			t.Errorf("%s: called again: %v", what, err)
		}
		if err := op.done(t.Context(), p); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	} else {
		// Whoever wanted it has changed their mind.
		for _, id := range []backend.ID{"n", "t"} {
			fine(t, p.DeleteSnapshot(t.Context(), id))
			fine(t, p.Delete(t.Context(), id))
		}
		for _, id := range []backend.ID{"a", "m", "f", "g", "h", "i"} {
			fine(t, p.Detach(t.Context(), id, "n1"))
		}
	}
	b.empty(p, what)
}
