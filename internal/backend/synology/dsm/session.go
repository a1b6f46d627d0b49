package dsm

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// session is one login, with what the NAS said of its APIs before it. It does not change.
type session struct {
	id    Secret
	token Secret // against cross-site requests; empty if DSM gave none
	apis  apis
}

// sign puts a session into a request: as a cookie and as a parameter, since some versions of DSM look
// only at the one and some at the other. The parameter is not JSON, whatever the API's format is.
func (s *session) sign(f form, h http.Header) {
	h.Set("Cookie", "id="+s.id.Reveal())
	f.Set("_sid", s.id.Reveal())
	if token := s.token.Reveal(); token != "" {
		h.Set("X-SYNO-TOKEN", token)
		f.Set("SynoToken", token)
	}
}

// sessions keeps the one session that all callers share, and the account from being locked out.
type sessions struct {
	login func(context.Context, Credentials) (*session, error)
	of    func(Credentials) *account
	now   func() time.Time

	mu      sync.Mutex
	creds   Credentials
	account *account // with creds
	current *session
	flight  *flight         // the login that is going on
	denied  map[string]bool // methods that a new session did not help
	closed  bool
}

// flight is a login that any number of callers wait for.
type flight struct {
	done chan struct{}
	s    *session
	err  error
}

func newSessions(creds Credentials, of func(Credentials) *account, login func(context.Context, Credentials) (*session, error)) *sessions {
	return &sessions{creds: creds, of: of, account: of(creds), login: login, now: time.Now, denied: map[string]bool{}}
}

// get returns the session, after a login if there is none.
func (k *sessions) get(ctx context.Context) (*session, error) { return k.renew(ctx, nil) }

// renew returns a session other than stale. Callers that find the same one stale share one login.
func (k *sessions) renew(ctx context.Context, stale *session) (*session, error) {
	k.mu.Lock()
	if s, err := k.ready(stale); s != nil || err != nil {
		k.mu.Unlock()
		return s, err
	}
	f := k.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		k.flight, k.current = f, nil
		// The login is everybody's: it does not end with the caller who happened to start it.
		go k.fly(context.WithoutCancel(ctx), f, k.creds, k.account)
	}
	k.mu.Unlock()
	select {
	case <-f.done:
		return f.s, f.err
	case <-ctx.Done():
		return nil, errs.E(errs.KindOf(ctx.Err()), "log in as another caller does: %w", ctx.Err())
	}
}

// ready returns the session if there is a fresh one, or why there can be none now.
func (k *sessions) ready(stale *session) (*session, error) {
	switch {
	case k.closed:
		return nil, errs.E(errs.Unavailable, "the client of this NAS is closed")
	case k.current != nil && k.current != stale:
		return k.current, nil
	case k.flight != nil:
		return nil, nil
	}
	return nil, k.account.refuse(k.now())
}

// fly logs in and tells all who wait. Other clients with the same credentials log in before or after, and this one not at
// all if they were refused.
func (k *sessions) fly(ctx context.Context, f *flight, creds Credentials, a *account) {
	a.turn.Lock()
	var s *session
	err := a.refuse(k.now())
	if err == nil {
		s, err = k.login(ctx, creds)
		a.judge(err, k.now())
	}
	a.turn.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	defer close(f.done)
	k.flight = nil
	switch {
	case k.closed || !k.creds.equal(creds):
		f.err = errs.E(errs.Unavailable, "the credentials changed during the login: call again")
	case err != nil:
		f.err = err
	default:
		f.s, k.current = s, s
	}
}

// silentLogin marks a login that got no answer, unlike the question before it that needs no password.
type silentLogin struct{ error }

func (s *silentLogin) Unwrap() error { return s.error }

// isDenied reports whether a refusal with 105 is known to be one of missing rights.
func (k *sessions) isDenied(what call, err error) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return CodeOf(err) == codeNoRight && k.denied[what.api+"."+what.method]
}

// note learns from a call's second answer, in a new session, whether its 105 was about the session or
// about rights. Without that each call that lacks rights would log in again.
func (k *sessions) note(what call, first, second error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case CodeOf(first) == codeNoRight && CodeOf(second) == codeNoRight:
		k.denied[what.api+"."+what.method] = true
	case CodeOf(second) != codeNoRight:
		clear(k.denied)
	}
}

// set replaces the credentials, if they are others.
func (k *sessions) set(creds Credentials) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.creds.equal(creds) {
		return
	}
	k.creds, k.account, k.current = creds, k.of(creds), nil
	clear(k.denied)
}

// close ends it and returns the session that there was.
func (k *sessions) close() *session {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.current
	k.closed, k.current = true, nil
	return s
}
