package pool

import (
	"context"
	"maps"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// The attempts to open a pool: the first wait, the longest, and the longest that one attempt may take.
const (
	firstRetry  = time.Second
	slowRetry   = time.Minute
	nearRetry   = 5 * time.Second // instead, of a pool that another process on this machine serves
	openTimeout = time.Minute
)

// Use has the set hold a pool as spec says, opened anew if it was open otherwise: operations under way end
// on what they began on, later ones use the new, and wait for them as ever. A pool that cannot be opened is held all the same: Use
// returns why, and it is tried again until it is open or no longer wanted (errs.Invalid is not tried again:
// the spec has to change, unless it is another process that serves the pool, which may learn to). One that was
// open before stays so until then, as it was.
func (s *Set) Use(ctx context.Context, spec Spec) error {
	s.mu.Lock()
	m := s.members[spec.Name]
	switch {
	case m == nil:
		m = &member{}
		s.members[spec.Name] = m
	case same(m.spec, spec) && m.pool != nil && m.err == nil:
		s.mu.Unlock()
		return nil
	case m.retry != nil:
		m.retry()
	}
	// The new spec is there from now on, so that an attempt for the old one finds that it came too late.
	m.spec = spec
	m.err, m.begun = errs.E(errs.Unavailable, "being opened"), true
	again, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.retry = cancel
	s.mu.Unlock()
	err := s.attempt(ctx, again, m, spec)
	if err != nil && !final(spec, err) {
		go s.retry(again, m, spec)
	}
	return err
}

func same(a, b Spec) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Socket == b.Socket && maps.Equal(a.Options, b.Options) &&
		a.SecretDir == b.SecretDir && a.Secrets.Equal(b.Secrets)
}

// final reports whether an attempt that failed so would fail again.
func final(spec Spec, err error) bool { return spec.Socket == "" && errs.Is(err, errs.Invalid) }

// attempt opens a pool and puts it in its place, unless wanted has ended meanwhile.
func (s *Set) attempt(ctx, wanted context.Context, m *member, spec Spec) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	p, err := s.open(ctx, spec)
	s.mu.Lock()
	if wanted.Err() != nil { // the set changed its mind
		s.mu.Unlock()
		if err == nil {
			s.retire(p)
		}
		return errs.E(errs.Aborted, "pool %s: is not wanted so any more", spec.Name)
	}
	old := m.pool
	m.err, m.begun = err, false
	if err == nil {
		m.pool = p
	}
	s.mu.Unlock()
	if err == nil && old != nil {
		s.retire(old)
	}
	s.tell(spec.Name)
	return err
}

func (s *Set) retry(wanted context.Context, m *member, spec Spec) {
	longest := slowRetry
	if spec.Socket != "" {
		longest = nearRetry
	}
	for wait := firstRetry; ; wait = min(2*wait, longest) {
		select {
		case <-wanted.Done():
			return
		case <-time.After(wait):
		}
		if err := s.attempt(wanted, wanted, m, spec); err == nil || final(spec, err) {
			return
		}
	}
}

// Drop takes a pool out of the set. Its volumes stay as they are; operations under way end.
func (s *Set) Drop(name string) {
	s.mu.Lock()
	m := s.members[name]
	delete(s.members, name)
	s.mu.Unlock()
	if m == nil {
		return
	}
	if m.retry != nil {
		m.retry()
	}
	if m.pool != nil {
		s.retire(m.pool)
	}
	s.tell(name)
}

// retire closes a pool once its operations have ended.
func (s *Set) retire(p *Pool) {
	s.retired.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), p.opts.Budget())
		defer cancel()
		if err := p.Close(ctx); err != nil {
			p.opts.Log.Warn("closing a pool that is no longer used", "pool", p.name, "error", err)
		}
	})
}

// OnChange has f called after each change of a pool of the set, which it must not hold up.
func (s *Set) OnChange(f func(name string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = append(s.changed, f)
}

func (s *Set) tell(name string) {
	s.mu.Lock()
	listeners := s.changed
	s.mu.Unlock()
	for _, f := range listeners {
		f(name)
	}
}
