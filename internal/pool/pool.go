// Package pool is what everything above the backends holds: a [Pool] is a backend with the policy
// that is the same for all of them. It validates and completes requests, rounds sizes, takes the
// lock of a volume (which knows its holder), gives every operation a deadline of its own, and
// reports each once. No kind's name occurs here.
package pool

import (
	"context"
	"log/slog"
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

	inline  int64             // bytes; see InlineLimit
	options map[string]string // of the backend, complete
}

// Options are what pools share.
type Options struct {
	Node    string               // the node this process runs on; "": none, its pools are on the nodes they say
	Log     *slog.Logger         // nil: slog.Default()
	Observe func(o Observation)  // called once for each operation that ended; may be nil
	Now     func() time.Time     // nil: time.Now
	Budget  func() time.Duration // the longest that one operation may take; nil: a day, since copies can be long
	// Remote connects to a pool that another process serves, for specs with a socket, and returns its
	// kind, whose Open opens it. nil: there is no such thing here.
	Remote func(ctx context.Context, s Spec) (backend.Kind, error)

	beside *keylock.Locks // of the pools of one name that come one after the other; nil: there is one only
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
	Socket  string            `json:"socket"` // path of the socket that another process serves it on; empty: opened here

	SecretDir string  `json:"secretDir,omitempty"` // directory with what is in Secrets, a file for each key; who reads specs reads it
	Secrets   Secrets `json:"-"`                   // what the kind logs in with
}

// Open opens one pool. errs.Invalid names the field of the spec that is wrong.
func Open(ctx context.Context, kind backend.Kind, s Spec, o Options) (*Pool, error) {
	common, own, err := splitOptions(kind, s.Options)
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "pool %s: %w", s.Name, err)
	}
	s.Options = own
	b, err := OpenBackend(ctx, kind, s, o)
	if err != nil {
		return nil, err
	}
	p := New(s.Name, kind, b, o)
	p.inline, _ = backend.ParseSize(common[OptionInlineLimit]) // checked by the declaration
	p.options = withoutCommon(common)
	return p, nil
}

// OpenBackend opens the backend of a pool and leaves the policy to others: to the process that it is
// served to. Of the options it uses Node and Log.
func OpenBackend(ctx context.Context, kind backend.Kind, s Spec, o Options) (backend.Backend, error) {
	if _, err := backend.ParseID(s.Name); err != nil {
		return nil, errs.E(errs.Invalid, "pool name: %w", err)
	}
	options, err := backend.Complete("options", kind.Options, s.Options)
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "pool %s: %w", s.Name, err)
	}
	b, err := kind.Open(ctx, backend.Config{Pool: s.Name, Node: o.Node, Options: options, Secrets: s.Secrets, Log: o.Log})
	if err != nil {
		return nil, errs.E(errs.KindOf(err), "pool %s: %w", s.Name, err)
	}
	return b, nil
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
	locks := keylock.New(o.Now)
	if o.beside != nil {
		locks = o.beside.Beside()
	}
	return &Pool{name: name, kind: kind, b: b, caps: Find(b), locks: locks, opts: o}
}

// Name is the pool's name, unique among the pools of a process.
func (p *Pool) Name() string { return p.name }

// Kind is the sort of backend.
func (p *Pool) Kind() backend.Kind { return p.kind }

// Node is the node this process runs on.
func (p *Pool) Node() string { return p.opts.Node }

// Capabilities are what the pool can do, found once when it was opened.
func (p *Pool) Capabilities() Capabilities { return p.caps }

// Shares reports whether volumes with these parameters of a class, complete, are file systems on a server, which any number
// of nodes can mount; see [backend.Kind.Shares].
func (p *Pool) Shares(parameters map[string]string) bool {
	return p.kind.Shares != nil && p.kind.Shares(p.options, parameters)
}

// elsewhere reports whether the pool is on this node only, and the node is another one.
func (p *Pool) elsewhere(node string) bool {
	return p.kind.NodeBound && p.opts.Node != "" && node != p.opts.Node
}

// Close waits for running operations until ctx is done, and closes the backend.
func (p *Pool) Close(ctx context.Context) error {
	if err := p.locks.Drain(ctx); err != nil {
		return errs.E(errs.Aborted, "pool %s: %w", p.name, err)
	}
	return p.b.Close()
}
