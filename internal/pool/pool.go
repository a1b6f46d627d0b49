// Package pool is what everything above the backends holds: a [Pool] is a backend with the policy
// that is the same for all of them. It validates and completes requests, rounds sizes, takes the
// lock of a volume (which knows its holder), gives every operation a deadline of its own, and
// reports each once. No kind's name occurs here.
package pool

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// Pool is one place that makes volumes. It is safe for concurrent use.
type Pool struct {
	name  string
	kind  backend.Kind
	b     backend.Backend
	caps  Capabilities
	locks *keylock.Locks
	opts  Options

	inline int64 // bytes; see InlineLimit
}

// Options are what pools share.
type Options struct {
	Node    string               // the node this process runs on
	Log     *slog.Logger         // nil: slog.Default()
	Observe func(o Observation)  // called once for each operation that ended; may be nil
	Now     func() time.Time     // nil: time.Now
	Budget  func() time.Duration // the longest that one operation may take; nil: a day, since copies can be long
}

// Observation is one operation that ended, for metrics.
type Observation struct {
	Pool, Kind, Op string // Op as in the method's name: "create", "snapshot", …
	Took           time.Duration
	Err            error // nil for success
}

// Spec is a pool as configured.
type Spec struct {
	Name    string            `json:"name"`
	Kind    string            `json:"kind"`
	Options map[string]string `json:"options"`
}

// Open opens one pool. errs.Invalid names the field of the spec that is wrong.
func Open(ctx context.Context, kind backend.Kind, s Spec, o Options) (*Pool, error) {
	if _, err := backend.ParseID(s.Name); err != nil {
		return nil, errs.E(errs.Invalid, "pool name: %w", err)
	}
	options, err := backend.Complete("options", slices.Concat(kind.Options, CommonOptions(kind)), s.Options)
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "pool %s: %w", s.Name, err)
	}
	inline, _ := backend.ParseSize(options[OptionInlineLimit]) // checked by the declaration
	delete(options, OptionInlineLimit)
	b, err := kind.Open(ctx, backend.Config{Pool: s.Name, Node: o.Node, Options: options})
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "pool %s: %w", s.Name, err)
	}
	p := New(s.Name, kind, b, o)
	p.inline = inline
	return p, nil
}

// New makes a pool of a backend that is open already.
func New(name string, kind backend.Kind, b backend.Backend, o Options) *Pool {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Budget == nil {
		o.Budget = func() time.Duration { return 24 * time.Hour }
	}
	return &Pool{name: name, kind: kind, b: b, caps: Find(b), locks: keylock.New(o.Now), opts: o}
}

// Name is the pool's name, unique among the pools of a process.
func (p *Pool) Name() string { return p.name }

// Kind is the sort of backend.
func (p *Pool) Kind() backend.Kind { return p.kind }

// Node is the node this process runs on.
func (p *Pool) Node() string { return p.opts.Node }

// Capabilities are what the pool can do, found once when it was opened.
func (p *Pool) Capabilities() Capabilities { return p.caps }

// Close waits for running operations until ctx is done, and closes the backend.
func (p *Pool) Close(ctx context.Context) error {
	if err := p.locks.Drain(ctx); err != nil {
		return errs.E(errs.Aborted, "pool %s: %w", p.name, err)
	}
	return p.b.Close()
}
