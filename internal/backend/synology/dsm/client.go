package dsm

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
)

const (
	// defaultTimeout is for one request. DSM takes about a second for one change and serialises them.
	defaultTimeout = 60 * time.Second
	// defaultPause is before the second attempt of a read; it doubles with each.
	defaultPause = 250 * time.Millisecond
	// maxConns bounds how many calls one NAS gets at a time: it does changes one by one anyway.
	maxConns = 8
	// idleConn is shorter than what DSM's web server keeps connections for: a change that is sent on
	// one that the server is just closing has no answer.
	idleConn = 15 * time.Second
)

// Config says which NAS to speak to, as whom, and how to know it.
type Config struct {
	URL         string // https://HOST:PORT, 5001 by default on a NAS
	Credentials Credentials
	// CA is a bundle of PEM certificates that replaces the system's; Fingerprint the SHA-256 of the NAS's own
	// certificate in hexadecimal, with or without colons, which replaces every other check. At most one of them.
	CA          []byte
	Fingerprint string
	Timeout     time.Duration // of each request; 0: 60 seconds
	Pause       time.Duration // before a read is asked again; 0: 250 ms
	Log         *slog.Logger  // nil: nothing is logged
	Logins      *Logins       // shared with other clients; nil: with none
}

// Credentials are an account of DSM. DSM's storage APIs need one of the group administrators.
type Credentials struct {
	Account  string
	Password Secret
	// Device and DeviceName are the token by which DSM knows a device that has passed the second factor: see
	// Client.Enroll. Empty without two-factor authentication.
	Device     Secret
	DeviceName string
}

func (c Credentials) equal(other Credentials) bool {
	return c.Account == other.Account && c.Password.Equal(other.Password) &&
		c.Device.Equal(other.Device) && c.DeviceName == other.DeviceName
}

// Client speaks to one NAS. It is safe for concurrent use; all callers share one session.
type Client struct {
	base     *url.URL
	http     *http.Client
	timeout  time.Duration
	pause    time.Duration
	maxList  int64
	parse    func(*body) (answer, error) // parseWhole, but for a list that may be long
	log      *slog.Logger
	sessions *sessions
}

// New returns a client. It asks the NAS nothing: one that is down now may answer later.
// errs.Invalid if the configuration cannot work.
func New(c Config) (*Client, error) {
	base, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Credentials.Account == "" {
		return nil, errs.E(errs.Invalid, "account: is empty: name an account of the group administrators")
	}
	conf, err := tlsConfig(c.CA, c.Fingerprint)
	if err != nil {
		return nil, err
	}
	client := &Client{
		base: base, timeout: orDefault(c.Timeout, defaultTimeout), pause: orDefault(c.Pause, defaultPause), maxList: maxList, parse: parseWhole, log: c.Log,
		http: &http.Client{
			Transport: &http.Transport{TLSClientConfig: conf, MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns, IdleConnTimeout: idleConn},
			// A redirect would take the form, with the password in it, to another place.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if client.log == nil {
		client.log = slog.New(slog.DiscardHandler)
	}
	client.sessions = newSessions(c.Credentials, func(creds Credentials) *account { return c.Logins.of(base.Host, creds) }, client.login)
	return client, nil
}

// SetCredentials replaces the credentials. Others than before end the session and are tried even if
// the ones before were refused; the same ones change nothing.
func (c *Client) SetCredentials(creds Credentials) { c.sessions.set(creds) }

// Close logs out, as far as the NAS answers until ctx ends. Calls after it are refused.
func (c *Client) Close(ctx context.Context) error {
	s := c.sessions.close()
	defer c.http.CloseIdleConnections()
	if s == nil {
		return nil
	}
	if _, err := c.ask(ctx, s, call{authAPI, 1, "logout"}, nil); err != nil && !isExpired(err) {
		return err
	}
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		// The error of url.Parse quotes the URL, in which somebody may have put a password.
		return nil, errs.E(errs.Invalid, "url: is none: use https://HOST:5001")
	case u.Scheme != "https" || u.Hostname() == "":
		return nil, errs.E(errs.Invalid, "url: has to be https://HOST:5001: passwords are not sent unencrypted")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/"):
		return nil, errs.E(errs.Invalid, "url: has more than scheme, host and port: account and password have fields of their own")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
