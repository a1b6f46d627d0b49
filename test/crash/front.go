package crash

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/host"
)

// front stands between the driver of this process and the Web API of a NAS, and makes each call an effect on a host: one that
// is killed before it has not reached the NAS, one that is killed after it was done and never answered.
type front struct {
	*httptest.Server
	nas  *url.URL
	over http.RoundTripper
	slow bool // a call takes time, in the midst of which the driver may be killed; the NAS goes on with it
	host atomic.Pointer[host.Host]
}

// newFront serves until the test ends, before a NAS whose certificate was signed by ca.
func newFront(t *testing.T, nas, ca string) *front {
	t.Helper()
	at, err := url.Parse(nas)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM([]byte(ca))
	f := &front{nas: at, over: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	f.Server = httptest.NewTLSServer(http.HandlerFunc(f.pass))
	t.Cleanup(f.Close)
	return f
}

// newLag returns a front that has each change wait for so long before it gets to the NAS, whether who asked for it is there still or not.
func newLag(t *testing.T, nas, ca string, lag time.Duration) *front {
	t.Helper()
	f := newFront(t, nas, ca)
	f.host.Store(&host.Host{Seam: func(e host.Effect, do func() error) error {
		if !e.Reads {
			time.Sleep(lag)
		}
		return do()
	}})
	return f
}

// ca is the certificate to trust, in PEM format.
func (f *front) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}))
}

func (f *front) pass(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var header http.Header
	var code int
	var text []byte
	err = f.effect(form.Get("api"), form.Get("method"), func() error {
		out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, f.nas.JoinPath(r.URL.Path).String(), bytes.NewReader(body))
		if err != nil {
			return err
		}
		out.Header = r.Header.Clone()
		a, err := f.over.RoundTrip(out)
		if err != nil {
			return err
		}
		defer a.Body.Close()
		header, code = a.Header, a.StatusCode
		text, err = io.ReadAll(a.Body)
		return err
	})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(code)
	_, _ = w.Write(text) // the driver may have gone
}

// asks are the methods that change nothing but sessions, besides those that get or list.
var asks = []string{"query", "login", "logout", "load", "info"}

func (f *front) effect(api, method string, do func() error) error {
	reads := slices.Contains(asks, method) || strings.HasPrefix(method, "get") || strings.HasPrefix(method, "list")
	seam := f.host.Load().Seam
	if seam == nil {
		return do()
	}
	return seam(host.Effect{Op: nasOp + strings.TrimPrefix(api, "SYNO.") + "." + method, Reads: reads, Program: f.slow && !reads}, do)
}

// nasOp is how the labels of calls to a NAS begin.
const nasOp = "nas."
