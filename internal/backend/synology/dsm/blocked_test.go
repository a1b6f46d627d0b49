package dsm

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

// TestPatience: a NAS that blocks this address, or does not answer logins, is left alone for some minutes.
func TestPatience(t *testing.T) {
	blocked := refuse(call{authAPI, 7, "login"}, codeBlocked)
	silent := errs.E(errs.Unavailable, "%w", &silentLogin{errs.E(errs.Unavailable, "%w", &lost{true, errors.New("timeout")})})
	unreachable := errs.E(errs.Unavailable, "%w", &lost{false, errors.New("refused")})
	for _, c := range []struct {
		name  string
		err   error
		calls int // of ten, that log in
		pause time.Duration
	}{
		{"blocked", blocked, 1, blockedPause},
		{"silent", silent, silentLogins, silentPause},
		{"never reached", unreachable, 10, 0},
	} {
		logins, now := 0, time.Now()
		k := newSessions(Credentials{Account: "a"}, own, func(context.Context, Credentials) (*session, error) {
			logins++
			return nil, c.err
		})
		k.now = func() time.Time { return now }
		for range 10 {
			if _, err := k.get(t.Context()); !errs.Is(err, errs.Unavailable) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if logins != c.calls {
			t.Errorf("%s: %d logins of 10 calls, want %d", c.name, logins, c.calls)
		}
		now = now.Add(c.pause + time.Second)
		if _, err := k.get(t.Context()); err == nil || logins != c.calls+1 {
			t.Errorf("%s: after the pause %d logins, %v", c.name, logins, err)
		}
	}
}

// TestCredentialsChangeDuringLogin: an answer for the old ones must not latch the new ones.
func TestCredentialsChangeDuringLogin(t *testing.T) {
	begun, answer := make(chan bool), make(chan error)
	k := newSessions(Credentials{Account: "old"}, own, func(_ context.Context, c Credentials) (*session, error) {
		if c.Account == "new" {
			return &session{}, nil
		}
		begun <- true
		return nil, <-answer
	})
	failed := make(chan error)
	go func() { _, err := k.get(t.Context()); failed <- err }()
	<-begun
	k.set(Credentials{Account: "new"})
	answer <- refuse(call{authAPI, 7, "login"}, codeBadCredential)
	if err := <-failed; !errs.Is(err, errs.Unavailable) {
		t.Errorf("%v", err)
	}
	if _, err := k.get(t.Context()); err != nil {
		t.Errorf("the new credentials are refused for the old ones: %v", err)
	}
}

// own is an account that no other client has.
func own(Credentials) *account { return &account{} }
