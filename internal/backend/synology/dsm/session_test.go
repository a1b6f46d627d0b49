package dsm_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// TestOneLoginForAll ends the session in the middle of many calls.
func TestOneLoginForAll(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	_, err := b.LUNs(t.Context())
	fine(t, err)
	b.sim.ExpireSessions()
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if _, err := b.LUNs(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := b.logins(); n != 2 {
		t.Errorf("%d logins, want 2: one at the start, one for the expiry", n)
	}
}

// TestOneLoginAtTheStart is the same for a client that has none yet, and whose first caller goes away.
func TestOneLoginAtTheStart(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	b.faults(dsmsim.Fault{Method: "login", Action: dsmsim.Delay, Delay: 200 * time.Millisecond, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _, err := b.LUNs(ctx); is(t, err, errs.Aborted) })
	for b.logins() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 31 {
		all.Go(func() {
			if _, err := b.LUNs(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	cancel()
	all.Wait()
	if n := b.logins(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestEveryExpiryIsOneLogin(t *testing.T) {
	for _, code := range []int{105, 106, 107, 119} {
		b := newBed(t, dsmsim.Config{})
		uuid := b.lun("expires")
		b.faults(dsmsim.Fault{Method: "set", Action: dsmsim.Expire, Code: code, Times: 1})
		if err := b.ResizeLUN(t.Context(), uuid, 2<<30); err != nil {
			t.Errorf("%d: %v", code, err)
		}
		if n, sets := b.logins(), b.sim.Calls()["SYNO.Core.ISCSI.LUN.set"]; n != 2 || sets != 2 {
			t.Errorf("%d: %d logins, %d calls of set, want 2 of each", code, n, sets)
		}
	}
}

func TestIdleSession(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	b := newBed(t, dsmsim.Config{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	uuid := b.lun("idle")
	mu.Lock()
	now = now.Add(16 * time.Minute)
	mu.Unlock()
	fine(t, b.ResizeLUN(t.Context(), uuid, 2<<30))
	fine(t, b.sim.Restart())
	fine(t, b.ResizeLUN(t.Context(), uuid, 3<<30))
	if n := b.logins(); n != 3 {
		t.Errorf("%d logins, want 3: the first, after 16 idle minutes, after a restart", n)
	}
}

// TestWrongPassword is asked for once, whatever is called how often, until there are other credentials.
func TestWrongPassword(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	wrong := b.config
	wrong.Credentials.Password = dsm.NewSecret("wrong")
	b.connect(wrong)
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			_, err := b.LUNs(t.Context())
			is(t, err, errs.Unavailable)
			if dsm.CodeOf(err) != 400 {
				t.Errorf("error %v, want DSM's 400", err)
			}
		})
	}
	all.Wait()
	_, err := b.CreateLUN(t.Context(), thin("x"))
	is(t, err, errs.Unavailable)
	b.SetCredentials(wrong.Credentials)
	_, err = b.LUNs(t.Context())
	is(t, err, errs.Unavailable)
	if n := b.logins(); n != 1 {
		t.Fatalf("%d logins with a wrong password, want 1 ever", n)
	}
	b.SetCredentials(b.config.Credentials)
	_, err = b.LUNs(t.Context())
	fine(t, err)
	if n := b.logins(); n != 2 {
		t.Errorf("%d logins, want a second one with other credentials", n)
	}
}

func TestRefusedAccounts(t *testing.T) {
	for _, c := range []struct {
		account dsmsim.Account
		code    int
		says    string
	}{
		{dsmsim.Account{Disabled: true}, 401, "disabled"},
		{dsmsim.Account{Guest: true}, 402, "administrators"},
		{dsmsim.Account{OTP: "123456"}, 403, "second factor"},
	} {
		c.account.Name, c.account.Password = "dozo", password
		b := newBed(t, dsmsim.Config{Accounts: []dsmsim.Account{c.account}})
		for range 3 {
			_, err := b.LUNs(t.Context())
			is(t, err, errs.Unavailable)
			if dsm.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want code %d and %q", err, c.code, c.says)
			}
		}
		if n := b.logins(); n != 1 {
			t.Errorf("%d: %d logins, want 1", c.code, n)
		}
	}
}

// TestSecondFactor enrols a device with a code, once for each version of the login, and then needs no code.
func TestSecondFactor(t *testing.T) {
	for _, newest := range []int{6, 7} {
		b := newBed(t, dsmsim.Config{LoginVersions: [2]int{1, newest},
			Accounts: []dsmsim.Account{{Name: "dozo", Password: password, OTP: "123456"}}})
		creds := b.config.Credentials
		creds.DeviceName = "dozo-controller"
		_, err := b.Enroll(t.Context(), creds, dsm.NewSecret("000000"))
		if dsm.CodeOf(err) != 404 {
			t.Errorf("a wrong code: %v, want DSM's 404", err)
		}
		creds.Device, err = b.Enroll(t.Context(), creds, dsm.NewSecret("123456"))
		fine(t, err)
		b.SetCredentials(creds)
		_, err = b.LUNs(t.Context())
		fine(t, err)
		if n := b.sim.Sessions(); n != 1 {
			t.Errorf("%d sessions on the NAS, want 1: enrolling logs out", n)
		}
	}
}

// TestCSRF switches the protection while a session lives.
func TestCSRF(t *testing.T) {
	for _, cookie := range []bool{false, true} {
		b := newBed(t, dsmsim.Config{CSRF: true, NeedCookie: cookie})
		b.lun("a")
		b.sim.SetCSRF(false)
		b.lun("b")
		b.sim.SetCSRF(true)
		b.lun("c")
		if n := b.logins(); n != 1 {
			t.Errorf("%d logins, want 1: the token is always sent", n)
		}
	}
}

func TestOldLogin(t *testing.T) {
	b := newBed(t, dsmsim.Config{LoginVersions: [2]int{1, 3}})
	_, err := b.LUNs(t.Context())
	is(t, err, errs.Unsupported)
	if n := b.logins(); n != 0 {
		t.Errorf("%d logins without a token against cross-site requests", n)
	}
}

// TestNoRights is a 105 that no new session helps: two logins would be enough to see it, and no more follow.
func TestNoRights(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	b.faults(dsmsim.Fault{API: "SYNO.Core.Share", Action: dsmsim.Refuse, Code: 105},
		dsmsim.Fault{API: "SYNO.Core.ISCSI.Target", Action: dsmsim.Refuse, Code: 105})
	for range 5 {
		_, err := b.Shares(t.Context())
		is(t, err, errs.Unavailable)
		_, err = b.Targets(t.Context())
		is(t, err, errs.Unavailable)
		_, err = b.LUNs(t.Context())
		fine(t, err)
	}
	if n := b.logins(); n != 3 {
		t.Errorf("%d logins, want 3: the first, and one for each method that lacks rights", n)
	}
	b.faults()
	b.sim.ExpireSessions()
	_, err := b.Shares(t.Context())
	fine(t, err)
}

// TestSilentLogins: each that got no answer may have been a failed one, so there are two, whatever is called how often.
func TestSilentLogins(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	b.faults(dsmsim.Fault{Method: "login", Action: dsmsim.DropDone})
	for range 10 {
		_, err := b.LUNs(t.Context())
		is(t, err, errs.Unavailable)
	}
	if n := b.logins(); n != 2 {
		t.Errorf("%d logins without an answer, want 2", n)
	}
}

func TestClosed(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	b.lun("a")
	fine(t, b.Close(t.Context()))
	if n := b.sim.Sessions(); n != 0 {
		t.Errorf("%d sessions are left on the NAS", n)
	}
	_, err := b.LUNs(t.Context())
	is(t, err, errs.Unavailable)
}

// TestNASComesLater is a client that is made while the NAS is down.
func TestNASComesLater(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	fine(t, b.server.Stop())
	_, err := b.LUNs(t.Context())
	is(t, err, errs.Unavailable)
	_, err = b.LUN(t.Context(), "x")
	is(t, err, errs.Unavailable)
	fine(t, b.server.Start())
	_, err = b.LUN(t.Context(), "x")
	is(t, err, errs.NotFound)
}
