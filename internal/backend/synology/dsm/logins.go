package dsm

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

const (
	// blockedPause is how long a NAS that has blocked this address is left alone.
	blockedPause = 10 * time.Minute
	// silentLogins in a row, sent but not answered, are followed by silentPause: each may have been a failed one,
	// and DSM can be set to block an address after three within five minutes.
	silentLogins = 2
	silentPause  = 5 * time.Minute
)

// Logins keep clients that share them from trying one wrong password each: a NAS counts the failures of an address, whoever of
// it they are of, and blocks it for a day. The zero value is ready, and safe for concurrent use.
type Logins struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*account // by NAS and credentials
}

// of returns what there is about these credentials at a NAS. Those of no Logins are the client's own.
func (l *Logins) of(host string, c Credentials) *account {
	if l == nil {
		return &account{}
	}
	h := sha256.New()
	for _, part := range []string{host, c.Account, c.Password.Reveal(), c.Device.Reveal(), c.DeviceName} {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	key := [sha256.Size]byte(h.Sum(nil))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[[sha256.Size]byte]*account{}
	}
	if l.known[key] == nil {
		l.known[key] = &account{}
	}
	return l.known[key]
}

// account is about the logins at one NAS with the same credentials.
type account struct {
	turn sync.Mutex // of whoever logs in

	mu     sync.Mutex
	latch  error     // DSM's refusal of these credentials
	wait   error     // why no login is tried before until
	until  time.Time //
	silent int       // logins in a row that were sent and not answered
}

// refuse returns why there can be no login now, nil if there can.
func (a *account) refuse(now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.latch != nil:
		return errs.E(errs.Unavailable, "not logged in again until account, password or device change, or Dozo is restarted: %w", a.latch)
	case now.Before(a.until):
		return errs.E(errs.Unavailable, "not logged in again before %s: %w", a.until.UTC().Format(time.RFC3339), a.wait)
	}
	return nil
}

// judge decides what the end of a login means for the next one.
func (a *account) judge(err error, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var r *Refusal
	var l *lost
	refused := errors.As(err, &r) && r.API == authAPI
	switch {
	case err == nil:
		a.silent = 0
	case refused && r.Code == codeBlocked:
		a.wait, a.until = err, now.Add(blockedPause)
	case refused && r.Code >= codeBadCredential && r.Code <= codeLastOfLogin:
		a.latch = err
	case errors.As(err, &l) && l.sent && errors.As(err, new(*silentLogin)):
		if a.silent++; a.silent >= silentLogins {
			a.wait, a.until = err, now.Add(silentPause)
		}
	}
}
