package dsmsim

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// nas is a simulated NAS and somebody who speaks to it as curl would, and knows no client of ours.
type nas struct {
	*Sim
	t      *testing.T
	server *Server
	sid    string
	token  string
	clock  *clock
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newNAS(t *testing.T, cfg Config) *nas {
	t.Helper()
	n := &nas{t: t, clock: &clock{now: time.Now()}}
	cfg.Now = n.clock.Now
	if cfg.Accounts == nil {
		cfg.Accounts = []Account{{Name: "admin", Password: "right"}, {Name: "guest", Password: "right", Guest: true}}
	}
	var err error
	if n.Sim, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if n.server, err = Serve("127.0.0.1:0", n.Sim); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.server.Stop() })
	n.login()
	return n
}

func (n *nas) login() {
	n.t.Helper()
	a := n.ask("SYNO.API.Auth.login/6", "account=admin", "passwd=right", "format=sid", "enable_syno_token=yes")
	data, _ := a.data.(map[string]any)
	if a.code != 0 {
		n.t.Fatalf("login: %d", a.code)
	}
	n.sid, _ = data["sid"].(string)
	n.token, _ = data["synotoken"].(string)
}

// call asks in the session; ask does without one. A method is API.method, or API.method/VERSION; parameters are name=value.
func (n *nas) call(method string, params ...string) answer {
	n.t.Helper()
	return n.ask(method, append([]string{"_sid=" + n.sid}, params...)...)
}

func (n *nas) ask(method string, params ...string) answer {
	n.t.Helper()
	a, err := n.from("", method, params...)
	if err != nil {
		n.t.Fatalf("%s: %v", method, err)
	}
	return a
}

// from asks from one of this machine's addresses.
func (n *nas) from(ip, method string, params ...string) (answer, error) {
	n.t.Helper()
	method, version, versioned := strings.Cut(method, "/")
	if !versioned {
		version = "1"
	}
	dot := strings.LastIndex(method, ".")
	form := url.Values{"api": {method[:dot]}, "method": {method[dot+1:]}, "version": {version}}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		form.Set(name, value)
	}
	roots := x509.NewCertPool()
	roots.AddCert(n.server.Certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext}
	client := &http.Client{Transport: transport, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.PostForm(n.server.URL+"/webapi/entry.cgi", form)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return answer{}, err
	}
	var envelope struct {
		Success bool
		Data    any
		Error   struct{ Code int }
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return answer{}, err
	}
	return answer{data: envelope.Data, code: envelope.Error.Code}, nil
}

// want fails unless the answer has the code.
func (n *nas) want(code int, method string, params ...string) map[string]any {
	n.t.Helper()
	a := n.call(method, params...)
	if a.code != code {
		n.t.Errorf("%s %v: code %d, want %d", method, params, a.code, code)
	}
	data, _ := a.data.(map[string]any)
	return data
}

const lunAPI, targetAPI = "SYNO.Core.ISCSI.LUN.", "SYNO.Core.ISCSI.Target."

func (n *nas) newLUN(name string, more ...string) string {
	n.t.Helper()
	uuid, _ := n.want(0, lunAPI+"create", append([]string{`name="` + name + `"`, "size=1073741824", "type=BLUN", "location=/volume1",
		`dev_attribs=[{"dev_attrib":"can_snapshot","enable":1}]`}, more...)...)["uuid"].(string)
	return uuid
}
