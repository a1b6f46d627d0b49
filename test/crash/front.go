package crash

import (
	"bytes"
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

	"github.com/dozo-dev/dozo/internal/host"
)

// front stands between the driver of this process and the Web API of a NAS, and makes each call an effect on a host: one that
// is killed before it has not reached the NAS, one that is killed after it was done and never answered.
type front struct {
	*httptest.Server
	nas  *url.URL
	over http.RoundTripper
	host atomic.Pointer[host.Host]
}

// newFront serves until the test ends.
func newFront(t *testing.T, nas string, over http.RoundTripper) *front {
	t.Helper()
	at, err := url.Parse(nas)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{nas: at, over: over}
	f.Server = httptest.NewTLSServer(http.HandlerFunc(f.pass))
	t.Cleanup(f.Close)
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
		out, err := http.NewRequestWithContext(r.Context(), r.Method, f.nas.JoinPath(r.URL.Path).String(), bytes.NewReader(body))
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
	op := "nas." + strings.TrimPrefix(api, "SYNO.") + "." + method
	h := f.host.Load()
	if slices.Contains(asks, method) || strings.HasPrefix(method, "get") || strings.HasPrefix(method, "list") {
		return h.Ask(op, do)
	}
	return h.Do(op, do)
}
