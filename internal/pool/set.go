package pool

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Set is the pools of one process, by name.
type Set struct{ pools map[string]*Pool }

// NewSet makes a set. errs.Invalid if two pools have one name.
func NewSet(pools ...*Pool) (*Set, error) {
	s := &Set{pools: map[string]*Pool{}}
	for _, p := range pools {
		if s.pools[p.Name()] != nil {
			return nil, errs.E(errs.Invalid, "pools: the name %q is there twice", p.Name())
		}
		s.pools[p.Name()] = p
	}
	return s, nil
}

// OpenSet opens the pools of specs, each of one of the kinds: all, or none.
func OpenSet(ctx context.Context, kinds []backend.Kind, specs []Spec, o Options) (s *Set, err error) {
	opened, err := openAll(ctx, kinds, specs, o)
	if err == nil {
		s, err = NewSet(opened...)
	}
	if err != nil {
		for _, p := range opened {
			_ = p.Close(ctx) // nothing was done with it
		}
		return nil, err
	}
	return s, nil
}

// openAll returns the pools that it opened, also with an error.
func openAll(ctx context.Context, kinds []backend.Kind, specs []Spec, o Options) (opened []*Pool, err error) {
	for _, spec := range specs {
		kind, err := kindOf(ctx, kinds, spec, o)
		if err != nil {
			return opened, err
		}
		p, err := Open(ctx, kind, spec, o)
		if err != nil {
			return opened, err
		}
		opened = append(opened, p)
	}
	return opened, nil
}

// kindOf is the kind of a pool as the process that opens it knows it: this one, or one behind a socket.
func kindOf(ctx context.Context, kinds []backend.Kind, s Spec, o Options) (backend.Kind, error) {
	if s.Socket == "" {
		return FindKind(kinds, s)
	}
	switch {
	case o.Remote == nil:
		return backend.Kind{}, errs.E(errs.Invalid, "pool %.80q: socket: pools of other processes are not used here; remove it, and give the pool its options", s.Name)
	case len(s.Options) > 0:
		return backend.Kind{}, errs.E(errs.Invalid, "pool %.80q: options: they are set where the pool is opened, by the process that serves %s; remove them here", s.Name, s.Socket)
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

// FindKind returns the kind of a spec. errs.Invalid names those that there are.
func FindKind(kinds []backend.Kind, s Spec) (backend.Kind, error) {
	i := slices.IndexFunc(kinds, func(k backend.Kind) bool { return k.Name == s.Kind })
	if i < 0 {
		return backend.Kind{}, errs.E(errs.Invalid, "pool %.80q: kind: %.80q is unknown; known are: %s", s.Name, s.Kind, kindNames(kinds))
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

// Get returns a pool. With the empty name it is the only one there is. errs.Invalid names those
// that there are.
func (s *Set) Get(name string) (*Pool, error) {
	if p := s.pools[name]; p != nil {
		return p, nil
	}
	if name == "" && len(s.pools) == 1 {
		return s.All()[0], nil
	}
	names := strings.Join(slices.Sorted(maps.Keys(s.pools)), ", ")
	if name == "" {
		return nil, errs.E(errs.Invalid, "parameters[\"pool\"]: missing; the pools here are: %s", names)
	}
	return nil, errs.E(errs.Invalid, "pool: %.80q is unknown; the pools here are: %s", name, names)
}

// All returns the pools, sorted by name.
func (s *Set) All() []*Pool {
	all := make([]*Pool, 0, len(s.pools))
	for _, name := range slices.Sorted(maps.Keys(s.pools)) {
		all = append(all, s.pools[name])
	}
	return all
}

// Close closes all pools, waiting for their operations until ctx is done.
func (s *Set) Close(ctx context.Context) error {
	var all []error
	for _, p := range s.All() {
		all = append(all, p.Close(ctx))
	}
	return errors.Join(all...)
}
