package pool

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
)

// Set is the pools of one process, by name. Pools come, change and go while it is used: see [Set.Use]. It
// is safe for concurrent use.
type Set struct {
	kinds []backend.Kind
	opts  Options

	mu      sync.Mutex
	members map[string]*member
	changed []func(name string)
	locks   map[string]*keylock.Locks // by a pool's name; they outlive it
	retired sync.WaitGroup            // pools that are being closed
}

// member is a pool of a set, open or not.
type member struct {
	spec  Spec
	pool  *Pool              // nil: not open
	begun bool               // the first attempt to open it as spec says is under way
	err   error              // of the last attempt to open it as spec says; nil: it is
	retry context.CancelFunc // ends the attempts
}

// State is a pool of a set as it is.
type State struct {
	Spec Spec
	Pool *Pool // nil: not open. With an Err too it is open as an earlier Spec said
	Err  error // why it is not open as Spec says; it is tried again and again
	// Opening says that the Err is only that the first attempt has not ended.
	Opening bool
}

// NewSet makes a set of open pools. errs.Invalid if two pools have one name.
func NewSet(pools ...*Pool) (*Set, error) {
	s := EmptySet(nil, Options{})
	for _, p := range pools {
		if s.members[p.Name()] != nil {
			return nil, twice(p.Name())
		}
		s.members[p.Name()] = &member{spec: Spec{Name: p.Name(), Kind: p.kind.Name}, pool: p}
	}
	return s, nil
}

func twice(name string) error {
	return errs.E(errs.Invalid, "pools: the name %q is there twice", name)
}

// EmptySet makes a set without pools, for pools of the kinds.
func EmptySet(kinds []backend.Kind, o Options) *Set {
	return &Set{kinds: kinds, opts: o, members: map[string]*member{}, locks: map[string]*keylock.Locks{}}
}

// OpenSet opens the pools of specs, each of one of the kinds. A spec that cannot be right fails all, with
// errs.Invalid; storage that does not answer is a pool of the set that is not open yet.
func OpenSet(ctx context.Context, kinds []backend.Kind, specs []Spec, o Options) (*Set, error) {
	s := EmptySet(kinds, o)
	for _, spec := range specs {
		var err error
		if s.members[spec.Name] != nil {
			err = twice(spec.Name)
		} else {
			err = s.Use(ctx, spec)
		}
		if errs.Is(err, errs.Invalid) {
			_ = s.Close(ctx) // nothing was done with them
			return nil, err
		}
	}
	return s, nil
}

func (s *Set) open(ctx context.Context, spec Spec) (*Pool, error) {
	kind, err := kindOf(ctx, s.kinds, spec, s.opts)
	if err != nil {
		return nil, err
	}
	return Open(ctx, kind, spec, s.beside(spec.Name))
}

// beside are the options of a pool whose operations wait for those of the pools of its name that were there before: one that
// was changed goes on with what it began, and a backend is promised one call at a time for an ID.
func (s *Set) beside(name string) Options {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.opts
	if o.beside = s.locks[name]; o.beside == nil {
		now := o.Now
		if now == nil {
			now = time.Now
		}
		o.beside = keylock.New(now)
		s.locks[name] = o.beside
	}
	return o
}

// kindOf is the kind of a pool as the process that opens it knows it: this one, or one behind a socket.
func kindOf(ctx context.Context, kinds []backend.Kind, s Spec, o Options) (backend.Kind, error) {
	if s.Socket == "" {
		k, err := FindKind(kinds, s.Kind)
		if err != nil {
			return k, errs.E(errs.KindOf(err), "pool %.80q: %w", s.Name, err)
		}
		return k, nil
	}
	switch {
	case o.Remote == nil:
		return backend.Kind{}, errs.E(errs.Invalid, "pool %.80q: socket: pools of other processes are not used here; remove it, and give the pool its options", s.Name)
	case len(withoutCommon(s.Options)) > 0:
		return backend.Kind{}, errs.E(errs.Invalid, "pool %.80q: options: they are set where the pool is opened, by the process that serves %s; remove them here (all but %s, which is this one's to say)", s.Name, s.Socket, OptionInlineLimit)
	}
	k, err := o.Remote(ctx, s)
	switch {
	case err != nil:
		return backend.Kind{}, errs.E(errs.KindOf(err), "pool %.80q: socket: %w", s.Name, err)
	case k.Name != s.Kind:
		return backend.Kind{}, errs.E(errs.Invalid, "pool %.80q: kind: %.80q, but %s serves a pool of the kind %q", s.Name, s.Kind, s.Socket, k.Name)
	}
	return k, nil
}

// FindKind returns the kind with a name. errs.Invalid names those that there are.
func FindKind(kinds []backend.Kind, name string) (backend.Kind, error) {
	i := slices.IndexFunc(kinds, func(k backend.Kind) bool { return k.Name == name })
	if i < 0 {
		return backend.Kind{}, errs.E(errs.Invalid, "kind: %.80q is unknown; known are: %s", name, kindNames(kinds))
	}
	return kinds[i], nil
}

func kindNames(kinds []backend.Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	return strings.Join(names, ", ")
}

// Get returns a pool. With the empty name it is the only one there is. errs.Invalid names those that there
// are; errs.Unavailable is one that is not open, and says why.
func (s *Set) Get(name string) (*Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" && len(s.members) == 1 {
		for name = range s.members {
		}
	}
	if m := s.members[name]; m != nil {
		if m.pool == nil {
			return nil, errs.E(errs.Unavailable, "pool %s is not open: %w", name, m.err)
		}
		return m.pool, nil
	}
	names := strings.Join(slices.Sorted(maps.Keys(s.members)), ", ")
	if name == "" {
		return nil, errs.E(errs.Invalid, "parameters[\"pool\"]: missing; the pools here are: %s", names)
	}
	return nil, errs.E(errs.Invalid, "pool: %.80q is unknown; the pools here are: %s", name, names)
}

// All returns the pools that are open, sorted by name.
func (s *Set) All() []*Pool {
	var all []*Pool
	for _, st := range s.States() {
		if st.Pool != nil {
			all = append(all, st.Pool)
		}
	}
	return all
}

// States returns all pools, sorted by name, open or not.
func (s *Set) States() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]State, 0, len(s.members))
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		m := s.members[name]
		all = append(all, State{Spec: m.spec, Pool: m.pool, Err: m.err, Opening: m.begun})
	}
	return all
}

// Close closes all pools, also those that were dropped before, waiting for their operations until ctx is done.
func (s *Set) Close(ctx context.Context) error {
	s.mu.Lock()
	members := slices.Collect(maps.Values(s.members))
	s.mu.Unlock()
	var all []error
	for _, m := range members {
		if m.retry != nil {
			m.retry()
		}
		if m.pool != nil {
			all = append(all, m.pool.Close(ctx))
		}
	}
	retired := make(chan struct{})
	go func() {
		s.retired.Wait()
		close(retired)
	}()
	select {
	case <-retired:
	case <-ctx.Done():
		all = append(all, errs.E(errs.Aborted, "pools that were dropped or changed still have operations running"))
	}
	return errors.Join(all...)
}
