package dsm_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

const password = "correct horse battery staple"

// bed is a client and the simulated NAS that it speaks to, with what an eavesdropper of URLs and a reader
// of logs would see.
type bed struct {
	*dsm.Client
	t      *testing.T
	sim    *dsmsim.Sim
	plane  *dsmsim.Memory
	server *dsmsim.Server
	config dsm.Config

	mu   sync.Mutex
	urls []string
	log  bytes.Buffer
}

// Write makes a bed the writer of its log.
func (b *bed) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func newBed(t *testing.T, sim dsmsim.Config) *bed {
	t.Helper()
	b := &bed{t: t, plane: dsmsim.NewMemory()}
	sim.Plane = b.plane
	if sim.Accounts == nil {
		sim.Accounts = []dsmsim.Account{{Name: "dozo", Password: password}, {Name: "u", Guest: true}}
	}
	var err error
	if b.sim, err = dsmsim.New(sim); err != nil {
		t.Fatal(err)
	}
	b.server, err = dsmsim.Serve("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.urls = append(b.urls, r.Method+" "+r.URL.String()+" "+r.Referer())
		b.mu.Unlock()
		b.sim.ServeHTTP(w, r)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.server.Stop() })
	b.config = dsm.Config{URL: b.server.URL, CA: b.server.CA(), Pause: time.Millisecond,
		Credentials: dsm.Credentials{Account: "dozo", Password: dsm.NewSecret(password)},
		Log:         slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	b.connect(b.config)
	return b
}

// connect gives the bed another client.
func (b *bed) connect(c dsm.Config) {
	b.t.Helper()
	client, err := dsm.New(c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Client = client
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = client.Close(ctx)
	})
}

func (b *bed) faults(f ...dsmsim.Fault) {
	b.t.Helper()
	if err := b.sim.SetFaults(f...); err != nil {
		b.t.Fatal(err)
	}
}

// logins counts the logins that the NAS was asked for.
func (b *bed) logins() int { return b.sim.Calls()["SYNO.API.Auth.login"] }

// lun makes a LUN to try things on.
func (b *bed) lun(name string) string {
	b.t.Helper()
	uuid, err := b.CreateLUN(b.t.Context(), thin(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return uuid
}

func thin(name string) dsm.NewLUN {
	return dsm.NewLUN{Name: name, Location: "/volume1", Type: dsm.TypeThin, Size: 1 << 30, Description: "dozo pool=nas",
		Attrs: []string{dsm.AttrSnapshot, dsm.AttrUnmap}}
}

// is fails unless an error has the kind.
func is(t *testing.T, err error, want errs.Kind) {
	t.Helper()
	if !errs.Is(err, want) {
		t.Errorf("error %v, want one of the kind %v", err, want)
	}
}

func fine(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
