package dsm_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// TestCertificates: whom the client speaks to, and in what words it refuses the others. What is refused gets no password, and is not
// tried again.
func TestCertificates(t *testing.T) {
	b := newBed(t, dsmsim.Config{})
	other := newBed(t, dsmsim.Config{})
	own := dsm.Fingerprint(b.server.Certificate)
	plain := strings.ToLower(strings.ReplaceAll(own, ":", ""))
	for _, c := range []struct {
		name   string
		change func(*dsm.Config)
		says   []string // nil: trusted
	}{
		{"its authority", func(*dsm.Config) {}, nil},
		{"its fingerprint", func(c *dsm.Config) { c.CA, c.Fingerprint = nil, own }, nil},
		{"its fingerprint, plain", func(c *dsm.Config) { c.CA, c.Fingerprint = nil, plain }, nil},
		{"its fingerprint, by a name that is not in it", func(c *dsm.Config) {
			c.CA, c.Fingerprint, c.URL = nil, own, strings.Replace(c.URL, "127.0.0.1", "localhost", 1)
		}, nil},
		{"another fingerprint", func(c *dsm.Config) { c.CA, c.Fingerprint = nil, dsm.Fingerprint(other.server.Certificate) }, []string{"127.0.0.1", own, "somebody is between"}},
		{"the system's authorities", func(c *dsm.Config) { c.CA = nil }, []string{"not trusted", "unknown authority", own, "set ca", "fingerprint"}},
		{"another authority", func(c *dsm.Config) { c.CA = other.server.CA() }, []string{"not trusted", own}},
		{"its authority, for another name", func(c *dsm.Config) { c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1) }, []string{"not trusted", "localhost"}},
	} {
		config := b.config
		c.change(&config)
		b.connect(config)
		b.sim.ResetCalls()
		_, err := b.LUNs(t.Context())
		if c.says == nil {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		is(t, err, errs.Unavailable)
		for _, words := range c.says {
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v does not say %q", c.name, err, words)
			}
		}
		if n := len(b.sim.Calls()); n != 0 {
			t.Errorf("%s: %v reached it", c.name, b.sim.Calls())
		}
	}
}

// TestRedirect: a form with a password in it does not follow a redirect, not even to a host that is trusted.
func TestRedirect(t *testing.T) {
	reached := false
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(other.Close)
	first := httptest.NewTLSServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(first.Close)
	c, err := dsm.New(dsm.Config{URL: first.URL, Fingerprint: dsm.Fingerprint(first.Certificate()), Pause: time.Millisecond,
		Credentials: dsm.Credentials{Account: "a", Password: dsm.NewSecret(password)}})
	fine(t, err)
	_, err = c.LUNs(t.Context())
	is(t, err, errs.Unavailable)
	if reached || err == nil || !strings.Contains(err.Error(), "HTTP 307") {
		t.Errorf("followed: %v; %v", reached, err)
	}
}

func TestConfigurations(t *testing.T) {
	good := dsm.Config{URL: "https://nas:5001", Credentials: dsm.Credentials{Account: "a", Password: dsm.NewSecret("hunter2")}}
	for field, change := range map[string]func(*dsm.Config){
		"url: has to be":  func(c *dsm.Config) { c.URL = "http://nas:5000" },
		"url: has more":   func(c *dsm.Config) { c.URL = "https://a:hunter2@nas:5001" },
		"url: is none":    func(c *dsm.Config) { c.URL = "https://nas:hunter2 x" },
		"account":         func(c *dsm.Config) { c.Credentials.Account = "" },
		"ca: has no":      func(c *dsm.Config) { c.CA = []byte("hunter2") },
		"fingerprint: ha": func(c *dsm.Config) { c.Fingerprint = "AB:CD" },
		"ca, fingerprint": func(c *dsm.Config) { c.CA, c.Fingerprint = []byte("x"), "AB" },
	} {
		config := good
		change(&config)
		_, err := dsm.New(config)
		is(t, err, errs.Invalid)
		if err == nil || !strings.HasPrefix(err.Error(), field) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v does not begin with the field %q", err, field)
		}
	}
	if _, err := dsm.New(good); err != nil {
		t.Error(err)
	}
}
