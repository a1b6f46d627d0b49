// Package backendtest is the law of package backend, as a test suite that every backend passes:
//
//	func TestLaw(t *testing.T) {
//		backendtest.Run(t, backendtest.Harness{Kind: Kind(), Open: …, Reopen: …})
//	}
//
// # Whom it calls
//
// Laws call the backend directly, with the requests that a pool would make of it: IDs that fit the
// grammar, rounded sizes, complete parameters. Where the contract leans on what the pool does (it
// chooses sizes, and runs one call at a time for an ID) they call it through [pool.New]; those laws
// say so. Two processes over one storage are two pools, over what Open and what Reopen returned.
//
// # Where it is lenient
//
// The contract leaves backends some freedom, and the laws allow all of it: a volume that snapshots
// or clones live on may refuse to be deleted with errs.InUse; a snapshot or clone of a volume that
// is being written may be refused with errs.InUse, Busy or Unsupported, but not be inconsistent.
// Whoever loses a race may get errs.Aborted or Busy, and then has to succeed when calling again.
package backendtest

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
)

// Harness is what the law needs to know of a backend. Kind, Open and Reopen are required. It has
// testing.TB and not *testing.T because the law itself is tested: with broken backends, catching
// what it says of them.
type Harness struct {
	Kind backend.Kind

	// Open returns a pool without volumes. Each law calls it once and leaves the storage empty, so
	// it may be the same storage every time.
	Open func(t testing.TB) backend.Backend

	// Reopen returns the pool of b as another process finds it: the same storage, nothing of what b
	// keeps in memory. b may have been closed, or be in use still as in a rolling update.
	Reopen func(t testing.TB, b backend.Backend) backend.Backend

	// Data opens a volume for reading and writing, which makes it in use until closed. nil:
	// Activate, open the device file, and Deactivate when closed.
	Data func(t testing.TB, b backend.Backend, id backend.ID) (Content, error)

	// Unreachable makes the storage of b fail to answer until restore is called. nil: laws about
	// that are skipped.
	Unreachable func(t testing.TB, b backend.Backend) (restore func())

	// Strangers puts things on the storage that Dozo did not make. The function it returns removes
	// them, after saying what harm they came to. nil: skipped.
	Strangers func(t testing.TB, b backend.Backend) (remove func() error)

	// Leaks says what is left on the storage (files, devices, mappings) when all is deleted. nil:
	// what List and ListSnapshots yield is all that is looked at.
	Leaks func(t testing.TB, b backend.Backend) []string

	Node       string            // that the pool is on; only matters if the kind is bound to nodes
	Parameters map[string]string // of the storage class; those with a default may lack
	Size       int64             // bytes of a usual volume; 0: 1 MiB, or the least the kind can make
	Callers    int               // how many call at once where it is about races; 0: 32, each with a volume
	Timeout    time.Duration     // for each law; 0: a minute
	Thin       bool              // volumes use space as they are written: capacity does not tell what was created
	Elected    bool              // only one process attaches at a time, as the leader of several: the storage cannot decide a race between two
	Slack      int64             // bytes by which free space moves on its own, since others write there
}

// Content is an open volume: an [os.File] of its device, say.
type Content interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

// Run runs the law as subtests and prints a line that sums it up.
func Run(t *testing.T, h Harness) {
	var s summary
	for _, l := range laws() {
		t.Run(strings.ReplaceAll(l.name, " ", "-"), func(t *testing.T) {
			defer func() { s.count(t) }()
			l.judge(&noted{TB: t, s: &s}, h)
		})
	}
	fmt.Println(s.line(h.Kind.Name))
}

// law is one thing that backends promise.
type law struct {
	name  string
	needs []need
	run   func(e *env)
}

// need is what a law cannot do without.
type need struct {
	lacks string // "not a Cloner"
	met   func(e *env) bool
}

// judge runs one law on a fresh pool, and sees to it that nothing is left.
func (l law) judge(t testing.TB, h Harness) {
	e := newEnv(t, h)
	defer e.end()
	for _, n := range l.needs {
		if !n.met(e) {
			t.Skip(n.lacks)
		}
	}
	l.run(e)
}

// noted is a test whose reason to skip is remembered.
type noted struct {
	testing.TB
	s *summary
}

// Skip is that of testing.TB.
func (n *noted) Skip(args ...any) {
	n.Helper()
	n.s.reasons = append(n.s.reasons, fmt.Sprint(args...))
	n.TB.Skip(args...)
}

type summary struct {
	passed, failed, skipped int
	reasons                 []string
}

func (s *summary) count(t testing.TB) {
	switch {
	case t.Failed():
		s.failed++
	case t.Skipped():
		s.skipped++
	default:
		s.passed++
	}
}

func (s *summary) line(kind string) string {
	line := fmt.Sprintf("law: %s: %d passed, %d failed, %d skipped", kind, s.passed, s.failed, s.skipped)
	if len(s.reasons) > 0 {
		slices.Sort(s.reasons)
		line += " (" + strings.Join(slices.Compact(s.reasons), ", ") + ")"
	}
	return line
}
