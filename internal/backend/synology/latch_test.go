package synology_test

import (
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// TestOneWrongPasswordOfManyPools: pools of one NAS have one account, as those for LUNs and for shares, and one password that is
// wrong when somebody changed it. If each tried it, and again when it is opened anew, the NAS would block the address for a day.
func TestOneWrongPasswordOfManyPools(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	kind := synology.Kind()
	open := func(pool, password string) backend.Backend {
		c := b.config(nil)
		c.Pool, c.Secrets["password"] = pool, []byte(password)
		p, err := kind.Open(t.Context(), c)
		fine(t, err)
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	done := make(chan error)
	for _, pool := range []string{"luns", "shares", "fast", "luns", "luns"} {
		p := open(pool, "wrong")
		go func() {
			_, err := p.Get(t.Context(), "a")
			done <- err
		}()
	}
	for range 5 {
		is(t, <-done, errs.Unavailable)
	}
	if n := b.sim.Calls()["SYNO.API.Auth.login"]; n != 1 {
		t.Errorf("%d logins with one wrong password", n)
	}
	_, err := open("luns", password).Get(t.Context(), "a")
	is(t, err, errs.NotFound)
}
