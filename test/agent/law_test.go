package agent

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/backend/loopfile"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// settled is a remote pool whose node has published what it has before anybody asks for it: within a second
// is soon enough for a scheduler, and not for a law.
type settled struct {
	*remote.Backend
	c    *controllerEnd
	node *process
}

// Capacity is [backend.Backend].
func (s settled) Capacity(ctx context.Context, node string) (backend.Capacity, error) {
	if !s.c.cut.Load() {
		if err := s.node.agent.Publish(ctx); err != nil {
			return backend.Capacity{}, err
		}
	}
	return s.Backend.Capacity(ctx, node)
}

// law is a harness over both ends of a pool "law" on node n1.
func (b *bed) law(kind backend.Kind, node *process) backendtest.Harness {
	open := func(t testing.TB) backend.Backend {
		c := b.controller(t)
		return settled{remote.New("law", c.view, kind.Mask(nil)), c, node}
	}
	return backendtest.Harness{
		Kind: kind, Node: "n1", Open: open,
		Reopen: func(t testing.TB, _ backend.Backend) backend.Backend { return open(t) },
		Unreachable: func(_ testing.TB, over backend.Backend) func() {
			cut := over.(settled).c.cut
			cut.Store(true)
			return func() { cut.Store(false) }
		},
	}
}

// fakes is a kind whose storage outlives its processes, and the backend that was opened last.
type fakes struct {
	backend.Kind
	mu   sync.Mutex
	last *fake.Backend
}

func newFakes(o fake.Options) *fakes {
	o.NodeBound = true
	f := &fakes{Kind: fake.Kind(o)}
	open := f.Kind.Open
	f.Kind.Open = func(ctx context.Context, c backend.Config) (backend.Backend, error) {
		b, err := open(ctx, c)
		f.mu.Lock()
		defer f.mu.Unlock()
		if err == nil {
			f.last = b.(*fake.Backend)
		}
		return b, err
	}
	return f
}

func (f *fakes) opened() *fake.Backend {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func TestLawOverFake(t *testing.T) {
	b := newBed(t)
	b.node("n1", "fast")
	b.pool("law", fake.KindName, nil)
	f := newFakes(fake.Options{Total: 128 << 20})
	node := b.agent("n1", t.TempDir(), f.Kind)
	b.ready("law", "n1")
	h := b.law(f.Kind, node)
	h.Kind.Name = "fake over two processes and an API server"
	h.Data = func(_ testing.TB, _ backend.Backend, id backend.ID) (backendtest.Content, error) {
		return f.opened().Open(id)
	}
	h.Strangers = func(testing.TB, backend.Backend) func() error {
		f.opened().AddForeign("theirs", 1<<20)
		return func() error { return f.opened().RemoveForeign("theirs") }
	}
	h.Leaks = func(testing.TB, backend.Backend) []string { return f.opened().Leftovers() }
	backendtest.Run(t, h)
}

func TestLawOverLoopfile(t *testing.T) {
	b := newBed(t)
	b.node("n1", "fast")
	dir := hosttest.FileSystem(t, "xfs", 1<<30)
	kind := loopfile.Kind(host.New())
	b.pool("law", loopfile.KindName, map[string]string{"path": dir, "spare": "0"})
	node := b.agent("n1", t.TempDir(), kind)
	b.ready("law", "n1")
	h := b.law(kind, node)
	h.Kind.Name = "loopfile over two processes and an API server"
	h.Size, h.Slack = 4<<20, 8<<20
	h.Data = func(t testing.TB, _ backend.Backend, id backend.ID) (backendtest.Content, error) {
		p, err := node.pools.Get("law")
		if err != nil {
			return nil, err
		}
		device, err := p.Activate(t.Context(), id)
		if err != nil {
			return nil, err
		}
		return openDevice(device, func() error { return p.Deactivate(context.Background(), id) })
	}
	backendtest.Run(t, h)
}

// device is an open device that is deactivated when closed.
type device struct {
	*os.File
	deactivate func() error
}

func openDevice(path string, deactivate func() error) (device, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR, 0)
	return device{f, deactivate}, err
}

// Close is [io.Closer].
func (d device) Close() error {
	if err := d.File.Close(); err != nil {
		return err
	}
	return d.deactivate()
}
