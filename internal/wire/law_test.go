package wire_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/wire"
)

// serving is a server of one pool in this process, which can be stopped and started.
type serving struct {
	t      testing.TB
	socket string
	served wire.Served
	stop   func()
}

func serve(t testing.TB, b backend.Backend, kind backend.Kind) *serving {
	t.Helper()
	s := &serving{t: t, socket: filepath.Join(t.TempDir(), "run", "s"), served: wire.Served{Name: "p", Kind: kind, Backend: b}}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *serving) start() {
	s.t.Helper()
	ready, done := make(chan struct{}), make(chan error, 1)
	server, err := wire.NewServer(wire.Options{
		Config:  "/etc/pools.yaml",
		Version: "v1.2.3", Node: "n1", UID: os.Getuid(), Log: slog.New(slog.DiscardHandler), Grace: 1, Ready: func() { close(ready) },
	}, s.served)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- server.Serve(ctx, s.socket) }()
	select {
	case <-ready:
	case err := <-done:
		s.t.Fatal(err)
	}
	s.stop = func() {
		s.stop = func() {}
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
}

func (s *serving) connect() *wire.Client {
	s.t.Helper()
	c, err := wire.Connect(s.t.Context(), wire.Dial{Socket: s.socket, Pool: s.served.Name, Version: "v1.2.4"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func everything(f *fake.Backend) backend.Backend { return f }

// masks are what the law gets to see of a fake.
func masks() map[string]func(*fake.Backend) backend.Backend {
	return map[string]func(*fake.Backend) backend.Backend{
		"everything": everything, "basic": fake.Basic, "shared": fake.Shared, "plain": fake.Plain, "outside": fake.Outside,
	}
}

// overFake is the harness of fakes that are served. Unreachable is what the storage behind the
// server does not answer, or the server itself.
func overFake(o fake.Options, mask func(*fake.Backend) backend.Backend, serverGone bool) backendtest.Harness {
	o.Total = 128 << 20
	kind := fake.Kind(o)
	type end struct {
		fake   *fake.Backend
		server *serving
	}
	ends := map[backend.Backend]end{}
	open := func(t testing.TB, f *fake.Backend) backend.Backend {
		s := serve(t, mask(f), kind)
		c := s.connect()
		ends[c] = end{f, s}
		return c
	}
	return backendtest.Harness{
		Kind: kind, Node: o.Node,
		Open:   func(t testing.TB) backend.Backend { return open(t, fake.New(o)) },
		Reopen: func(t testing.TB, b backend.Backend) backend.Backend { return open(t, ends[b].fake.Reopen()) },
		Data: func(_ testing.TB, b backend.Backend, id backend.ID) (backendtest.Content, error) {
			return ends[b].fake.Open(id)
		},
		Unreachable: func(t testing.TB, b backend.Backend) func() {
			e := ends[b]
			if serverGone {
				e.server.stop()
				return func() {
					e.server.start()
					answers(t, b)
				}
			}
			e.fake.Arm(func(x *fake.Errors) { x.Down = errs.E(errs.Unavailable, "fake: down") })
			return func() { e.fake.Arm(func(x *fake.Errors) { x.Down = nil }) }
		},
		Strangers: func(_ testing.TB, b backend.Backend) func() error {
			ends[b].fake.AddForeign("theirs", 1<<20)
			return func() error { return ends[b].fake.RemoveForeign("theirs") }
		},
		Leaks: func(_ testing.TB, b backend.Backend) []string { return ends[b].fake.Leftovers() },
	}
}

func TestLaw(t *testing.T) {
	for name, mask := range masks() {
		for _, serverGone := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, server gone %v", name, serverGone), func(t *testing.T) {
				backendtest.Run(t, overFake(fake.Options{}, mask, serverGone))
			})
		}
	}
}

func TestLawOutside(t *testing.T) {
	backendtest.Run(t, overFake(fake.Options{Outside: true}, fake.Outside, false))
}

func TestLawNodeBound(t *testing.T) {
	backendtest.Run(t, overFake(fake.Options{Node: "n1", NodeBound: true, Linked: true}, everything, false))
}
