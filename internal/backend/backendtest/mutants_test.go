package backendtest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
)

// mutant is a backend with one defect.
type mutant struct {
	name  string
	law   string // the law that must find it; others may as well
	hooks func(reopened bool) hooks
}

func mutants() []mutant {
	return slices.Concat(volumeMutants(), sizeMutants(), listMutants(), nodeMutants(),
		copyMutants(), limitMutants(), snapshotMutants(), groupMutants(), cancelMutants(), raceMutants(), gaugeMutants(), attachMutants())
}

// TestLawFindsDefects shows that the law can fail: every mutant breaks the law that is there to find
// it, and every law is broken by some mutant.
func TestLawFindsDefects(t *testing.T) {
	all := laws()
	found := map[string]bool{}
	for _, m := range mutants() {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			i := slices.IndexFunc(all, func(l law) bool { return l.name == m.law })
			if i < 0 {
				t.Fatalf("there is no law %q", m.law)
			}
			failures, _ := observe(t, all[i], harnessOf(m.hooks))
			if len(failures) == 0 {
				t.Fatalf("the law %q does not find it", m.law)
			}
			t.Logf("found: %s", failures[0])
			found[m.law] = true
		})
	}
	for _, l := range all {
		if !found[l.name] {
			t.Errorf("no mutant is meant for the law %q: does it find anything?", l.name)
		}
	}
}

// TestLawAcceptsTheFake shows that what breaks laws is the defect, not the hooks.
func TestLawAcceptsTheFake(t *testing.T) {
	for _, l := range laws() {
		if failures, skipped := observe(t, l, harnessOf(func(bool) hooks { return hooks{} })); len(failures) > 0 || skipped {
			t.Errorf("%s: skipped %v, failures %q", l.name, skipped, failures)
		}
	}
}

// TestLawFindsLeaks: every law looks at what it leaves.
func TestLawFindsLeaks(t *testing.T) {
	h := harnessOf(func(bool) hooks { return hooks{} })
	h.Leaks = func(testing.TB, backend.Backend) []string { return []string{"a forgotten file"} }
	for _, l := range laws() {
		failures, _ := observe(t, l, h)
		if len(failures) != 1 || !strings.Contains(failures[0], "a forgotten file") {
			t.Errorf("%s: %q", l.name, failures)
		}
	}
}

// TestLawEndsHangs: a call that waits for ever is found, and the rest of the law goes on.
func TestLawEndsHangs(t *testing.T) {
	h := harnessOf(always(hooks{create: func(_ *fake.Backend, ctx context.Context, _ backend.Request) (backend.Volume, error) {
		<-ctx.Done()
		return backend.Volume{}, ctx.Err()
	}}))
	h.Timeout = 10 * time.Millisecond
	if failures, _ := observe(t, laws()[0], h); len(failures) != 1 || !strings.Contains(failures[0], "deadline exceeded") {
		t.Errorf("%q", failures)
	}
}

func TestSummary(t *testing.T) {
	var s summary
	s.reasons = []string{"not a Cloner", "not a Checker", "not a Cloner"}
	s.passed, s.skipped = 34, 3
	const want = "law: fake: 34 passed, 0 failed, 3 skipped (not a Checker, not a Cloner)"
	if got := s.line("fake"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
