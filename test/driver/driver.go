// Package driver starts the whole driver in a test: pools, node and CSI on a real socket.
package driver

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dozo-dev/dozo/internal/backend"
	kinds "github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/csi"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
)

// Driver is a running driver.
type Driver struct {
	Dir    string // all its state is below
	Images string // of a pool of image files named "images": its directory
	Socket string // as a URL
	// Stop ends it, as a signal does, and waits. The end of the test does it too.
	Stop func()
}

// Config is what a driver is made of.
type Config struct {
	Dir        string // all its state is below
	Pools      []pool.Spec
	Own        []backend.Kind // of the test's own, beside the product's
	Controller bool
	Node       string // the name of the node that it serves; "": none
	// Kind is that of all pools, as [csi.Options] has it; needed on a node without pools.
	Kind *backend.Kind
	// Nodes are as in [csi.Options]; nil: there is the one named n1.
	Nodes  func(ctx context.Context, id string) ([]string, error)
	Change []func(*host.Host) // done to the host first
	Log    *slog.Logger       // nil: nowhere
}

// Start starts a driver below dir until the test ends. The images are in the directory given, or in
// one of its own if that is empty.
func Start(t testing.TB, dir, images string) Driver {
	t.Helper()
	return StartWith(t, dir, images, nil)
}

// StartWith is Start for a pool with options beside those that every pool of a test has, on a host that
// is changed first.
func StartWith(t testing.TB, dir, images string, options map[string]string, change ...func(*host.Host)) Driver {
	t.Helper()
	if images == "" {
		images = filepath.Join(dir, "images")
		if err := os.Mkdir(images, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{"path": images, "spare": "0"}
	maps.Copy(all, options)
	d := Serve(t, Config{
		Dir: dir, Controller: true, Node: "n1", Change: change,
		Pools: []pool.Spec{{Name: "images", Kind: "loopfile", Options: all}},
	})
	d.Images = images
	return d
}

// StartPool starts a driver below dir, with the one pool given, until the test ends. It may be of a kind of the test's own.
func StartPool(t testing.TB, dir string, spec pool.Spec, own ...backend.Kind) Driver {
	t.Helper()
	return Serve(t, Config{Dir: dir, Controller: true, Node: "n1", Pools: []pool.Spec{spec}, Own: own})
}

// Serve starts a driver until the test ends or it is stopped.
func Serve(t testing.TB, c Config) Driver {
	t.Helper()
	hosttest.NeedRoot(t)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Nodes == nil {
		c.Nodes = onlyN1
	}
	p, err := c.parts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := Driver{Dir: c.Dir, Socket: "unix://" + filepath.Join(c.Dir, "csi.sock")}
	d.Stop = sync.OnceFunc(p.serve(t, d.Socket))
	t.Cleanup(d.Stop)
	return d
}

// parts are those of a driver.
type parts struct {
	pools   *pool.Set
	node    *node.Node // nil: none
	server  *csi.Server
	changed <-chan struct{} // limits
}

func (c Config) parts(ctx context.Context) (p parts, err error) {
	h := host.New()
	for _, f := range c.Change {
		f(h)
	}
	var observe func(pool.Observation)
	observe, p.changed = node.Changed()
	p.pools, err = pool.OpenSet(ctx, slices.Concat(c.Own, kinds.Kinds(h)), c.Pools, pool.Options{Node: c.Node, Log: c.Log, Observe: observe})
	if err != nil {
		return p, err
	}
	if c.Node != "" {
		p.node, err = node.New(h, p.pools, node.Options{Name: c.Node, StateDir: filepath.Join(c.Dir, "state"), TargetRoot: c.Dir, Log: c.Log})
		if err != nil {
			return p, err
		}
	}
	name := ""
	if c.Kind != nil {
		name = c.Kind.Name
	} else {
		name = c.Pools[0].Kind
	}
	p.server, err = csi.NewServer(csi.Options{
		DriverName: name + ".dozo.dev", Version: "test", Pools: p.pools, Kind: c.Kind, Node: p.node, Controller: c.Controller, Nodes: c.Nodes, Log: c.Log,
	})
	return p, err
}

// serve serves until stop is called.
func (p parts) serve(t testing.TB, socket string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var background sync.WaitGroup
	if p.node != nil {
		background.Go(func() { p.node.KeepLimits(ctx, p.changed) })
		background.Go(func() { p.node.KeepSwept(ctx) })
	}
	go func() { done <- p.server.Serve(ctx, socket) }()
	return func() {
		cancel()
		err := <-done
		background.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := errors.Join(err, p.pools.Close(ctx)); err != nil {
			t.Error(err)
		}
	}
}

// stopTimeout is how long operations may go on when a driver stops.
const stopTimeout = time.Minute

// onlyN1 knows the one node there is.
func onlyN1(_ context.Context, id string) ([]string, error) {
	if id != "n1" {
		return nil, errs.E(errs.NotFound, "%.80q: the only node is n1", id)
	}
	return []string{"192.0.2.1"}, nil
}

// Dial returns a connection to the driver for the length of the test.
func (d Driver) Dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(d.Socket, DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// DialOptions are those for the driver's socket: they wait for it to be there.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
	}
}

// NothingLeft fails the test for anything below the driver's directories that an empty pool has not.
func (d Driver) NothingLeft(t testing.TB) {
	t.Helper()
	expected := []string{"state/lock", "csi.sock"}
	if d.Images == "" {
		hosttest.NothingLeft(t, d.Dir, expected...)
		return
	}
	pool := []string{"dozo-pool.json", "lock", "volumes", "snapshots", "groups"}
	for _, p := range pool {
		expected = append(expected, "images/"+p)
	}
	hosttest.NothingLeft(t, d.Dir, expected...)
	if filepath.Dir(d.Images) != d.Dir {
		hosttest.NothingLeft(t, d.Images, pool...)
	}
}
