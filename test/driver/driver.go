// Package driver starts the whole driver in a test: pools, node and CSI on a real socket.
package driver

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

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

// Driver is a running driver with a pool of image files named "images".
type Driver struct {
	Dir    string // all its state is below
	Images string // the pool's directory, if it has one
	Socket string // as a URL
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
	hosttest.NeedRoot(t)
	d := Driver{Dir: dir, Images: images, Socket: "unix://" + filepath.Join(dir, "csi.sock")}
	if images == "" {
		d.Images = filepath.Join(dir, "images")
		if err := os.Mkdir(d.Images, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{"path": d.Images, "spare": "0"}
	maps.Copy(all, options)
	d.serve(t, pool.Spec{Name: "images", Kind: "loopfile", Options: all}, nil, change...)
	return d
}

// StartPool starts a driver below dir, with the one pool given, until the test ends. It may be of a kind of the test's own.
func StartPool(t testing.TB, dir string, spec pool.Spec, own ...backend.Kind) Driver {
	t.Helper()
	hosttest.NeedRoot(t)
	d := Driver{Dir: dir, Socket: "unix://" + filepath.Join(dir, "csi.sock")}
	d.serve(t, spec, own)
	return d
}

func (d Driver) serve(t testing.TB, spec pool.Spec, own []backend.Kind, change ...func(*host.Host)) {
	t.Helper()
	dir, h, log := d.Dir, host.New(), slog.New(slog.DiscardHandler)
	for _, f := range change {
		f(h)
	}
	observe, changed := node.Changed()
	pools, err := pool.OpenSet(t.Context(), slices.Concat(own, kinds.Kinds(h)), []pool.Spec{spec}, pool.Options{Node: "n1", Log: log, Observe: observe})
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.New(h, pools, node.Options{Name: "n1", StateDir: filepath.Join(dir, "state"), TargetRoot: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	server, err := csi.NewServer(csi.Options{
		DriverName: spec.Kind + ".dozo.dev", Version: "test", Pools: pools, Node: n, Controller: true, Nodes: onlyN1, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, kept := make(chan error, 1), make(chan struct{})
	go func() {
		n.KeepLimits(ctx, changed)
		close(kept)
	}()
	go func() { done <- server.Serve(ctx, d.Socket) }()
	t.Cleanup(func() {
		cancel()
		<-kept
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

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
