package dsm_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// TestCallsPerOperation: each method of the client is one call, with 1 LUN and with 500.
func TestCallsPerOperation(t *testing.T) {
	for _, luns := range []int{1, 500} {
		for _, op := range operations {
			b := newBed(t, dsmsim.Config{VirtualDisks: luns,
				Model: dsmsim.Model{LUNs: luns + 10, Targets: 10, SnapshotsPerLUN: 10, SnapshotsPerShare: 10, Shares: 10}})
			f := fixtureOn(t, b)
			b.sim.ResetCalls()
			fine(t, op.do(t.Context(), f))
			if want := map[string]int{"SYNO." + op.name: 1}; !maps.Equal(b.sim.Calls(), want) {
				t.Errorf("%s with %d more LUNs: calls %v, want %v", op.name, luns, b.sim.Calls(), want)
			}
		}
	}
}

// TestNoSecretAnywhere goes through every fault of every operation, logins included, and reads all errors, logs and
// URLs that there were.
func TestNoSecretAnywhere(t *testing.T) {
	b := newBed(t, dsmsim.Config{CSRF: true, Accounts: []dsmsim.Account{{Name: "dozo", Password: password, OTP: "918273"}}})
	var seen strings.Builder
	creds := b.config.Credentials
	creds.DeviceName = "here"
	device, err := b.Enroll(t.Context(), creds, dsm.NewSecret("918273"))
	fine(t, err)
	creds.Device = device
	chap := dsm.CHAP{User: "u", Password: dsm.NewSecret("chap-password-1"), MutualUser: "m", MutualPassword: dsm.NewSecret("chap-password-2")}
	for _, action := range dsmsim.Actions() {
		for _, method := range []string{"query", "login", "create", "get", "logout"} {
			config := b.config
			config.Credentials = creds
			b.connect(config)
			b.faults(dsmsim.Fault{Method: method, Action: action, Code: 105, Delay: 1, Times: 3})
			_, err := b.CreateTarget(t.Context(), dsm.NewTarget{Name: "t", IQN: "iqn.t", CHAP: chap})
			fmt.Fprintf(&seen, "%v\n%+v\n%#v\n", err, err, err)
			g, err := b.Target(t.Context(), "t")
			fmt.Fprintf(&seen, "%v %+v %v\n", g.Name, g, err)
			fmt.Fprintf(&seen, "%v %+v\n", b.Close(t.Context()), b.Client)
		}
	}
	b.faults()
	wrong := b.config
	wrong.Credentials.Password = dsm.NewSecret(password + "!")
	b.connect(wrong)
	_, err = b.LUNs(t.Context())
	fmt.Fprintf(&seen, "%v\n", err)
	b.mu.Lock()
	defer b.mu.Unlock()
	seen.WriteString(strings.Join(b.urls, "\n"))
	seen.Write(b.log.Bytes())
	for _, secret := range append(b.sim.Secrets(), password, "918273", "chap-password", device.Reveal()) {
		if secret == "" || strings.Contains(seen.String(), secret) {
			t.Errorf("the secret %q is in an error, a log or a URL", secret)
		}
	}
	for _, u := range b.urls {
		if !strings.HasPrefix(u, "POST /webapi/entry.cgi ") {
			t.Errorf("request %q", u)
		}
	}
	if n := len(b.sim.Secrets()); n < 10 || !strings.Contains(seen.String(), "SYNO.API.Auth") || len(b.log.Bytes()) == 0 {
		t.Errorf("only %d sessions and tokens to look for, or nothing to look in", n)
	}
}
