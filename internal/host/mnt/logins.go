package mnt

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// loginPause is how long a login that a server refused is not tried again. DSM shuts an address out that fails ten times
// within five minutes, and the kubelet asks again and again for each volume.
const loginPause = time.Minute

// Logins keeps logins that a server refuses from being tried over and over. A login that is not known to be good is tried by
// one call at a time. It is safe for concurrent use.
type Logins struct {
	now  func() time.Time
	seed maphash.Seed

	mu    sync.Mutex
	tries map[uint64]*try
}

// try is what came of a login at a server.
type try struct {
	turn    chan struct{} // whoever has what is in it may try
	good    bool
	refused time.Time
	err     error
}

// NewLogins returns one that knows nothing yet.
func NewLogins(now func() time.Time) *Logins {
	return &Logins{now: now, seed: maphash.MakeSeed(), tries: map[uint64]*try{}}
}

// Do calls mount, which logs in at a server, unless that was refused just now: then the error is that one, with when it
// will be tried again.
func (l *Logins) Do(ctx context.Context, server string, login Login, mount func() error) error {
	t := l.of(server, login)
	if !l.isGood(t) {
		select {
		case <-t.turn:
		case <-ctx.Done():
			return errs.E(errs.Aborted, "waiting for another volume's login at %s: %w", server, ctx.Err())
		}
		defer func() { t.turn <- struct{}{} }()
		if err := l.pausing(t); err != nil {
			return err
		}
	}
	err := mount()
	l.note(t, err)
	return err
}

func (l *Logins) of(server string, login Login) *try {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := maphash.Comparable(l.seed, [4]string{server, login.user, login.password, login.domain})
	if l.tries[key] == nil {
		l.tries[key] = &try{turn: make(chan struct{}, 1)}
		l.tries[key].turn <- struct{}{}
	}
	return l.tries[key]
}

func (l *Logins) isGood(t *try) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return t.good
}

// pausing is the refusal as long as it is fresh.
func (l *Logins) pausing(t *try) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	again := t.refused.Add(loginPause)
	if t.err == nil || !l.now().Before(again) {
		return nil
	}
	return errs.E(errs.KindOf(t.err), "%w (so it was at %s; it is not tried again before %s, since the server may shut this node out for it)",
		t.err, t.refused.UTC().Format(time.TimeOnly), again.UTC().Format(time.TimeOnly))
}

func (l *Logins) note(t *try, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		t.good, t.err = true, nil
	case errors.Is(err, errRefused):
		t.good, t.err, t.refused = false, err, l.now()
	}
}
