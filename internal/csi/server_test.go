package csi

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

func TestOptions(t *testing.T) {
	b := &bed{fakes: map[string]*fake.Backend{}}
	good := Options{DriverName: "fake.dozo.dev", Version: "v1", Pools: b.pools(t, []member{{name: "a", bound: true}}), Controller: true}
	for name, change := range map[string]func(*Options){
		"DriverName": func(o *Options) { o.DriverName = "Not A Domain" },
		"Version":    func(o *Options) { o.Version = "" },
		"Pools":      func(o *Options) { o.Pools = nil },
		"Controller": func(o *Options) { o.Controller = false },
	} {
		o := good
		change(&o)
		_, err := NewServer(o)
		wantKind(t, err, errs.Invalid, name)
	}
	_, err := NewServer(good)
	wantOK(t, err)
	m := newFakeMachine()
	m.name = "a-name-that-is-longer-than-any-node-label-can-be-and-so-no-topology-segment"
	_, err = newServer(good, m)
	wantKind(t, err, errs.Invalid, "Node")
	good.Pools = b.pools(t, []member{{name: "a"}}) // volumes are everywhere: nothing needs the label
	_, err = newServer(good, m)
	wantOK(t, err)
}

func TestListen(t *testing.T) {
	for _, form := range []string{"unix://", "unix:", ""} {
		path := filepath.Join(t.TempDir(), "csi.sock")
		l, err := listen(form + path)
		if err != nil {
			t.Fatal(err)
		}
		there, err := os.Lstat(path)
		wantOK(t, err)
		want(t, there.Mode(), fs.ModeSocket|0o600)
		left, err := os.ReadDir(filepath.Dir(path))
		wantOK(t, err)
		want(t, len(left), 1)
		c, err := net.Dial("unix", path)
		wantOK(t, err)
		wantOK(t, c.Close())
		wantOK(t, l.Close())
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is left behind: %v", err)
		}
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	wantOK(t, os.WriteFile(file, []byte("precious"), 0o600))
	link := filepath.Join(dir, "link")
	wantOK(t, os.Symlink(file, link))
	served := filepath.Join(dir, "served")
	l, err := listen(served)
	wantOK(t, err)
	defer l.Close()
	for _, c := range []struct {
		endpoint string
		kind     errs.Kind
	}{
		{"", errs.Invalid}, {"csi.sock", errs.Invalid}, {"unix://csi.sock", errs.Invalid}, {"tcp://0.0.0.0:10000", errs.Invalid}, {"unix:///", errs.Exists},
		{file, errs.Exists}, {link, errs.Exists}, {dir, errs.Exists}, {served, errs.InUse}, {filepath.Join(dir, "none", "s"), errs.Unavailable},
	} {
		_, err := listen(c.endpoint)
		wantKind(t, err, c.kind, "")
	}
	text, err := os.ReadFile(file)
	wantOK(t, err)
	want(t, string(text), "precious")
	c, err := net.Dial("unix", served)
	wantOK(t, err)
	wantOK(t, c.Close())
}

// TestStaleSocket: the process that made it died, and one that stops does not take away the socket
// of the next.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	wantOK(t, err)
	dead.SetUnlinkOnClose(false)
	wantOK(t, dead.Close())
	first, err := listen(path)
	wantOK(t, err)
	wantOK(t, os.Remove(path))
	second, err := listen(path)
	wantOK(t, err)
	defer second.Close()
	wantOK(t, first.Close())
	c, err := net.Dial("unix", path)
	wantOK(t, err)
	wantOK(t, c.Close())
}

// TestStopIsGracefulAndBounded stops a server while a call is running: one that ends in time gets its
// answer, one that does not is ended.
func TestStopIsGracefulAndBounded(t *testing.T) {
	for name, c := range map[string]struct {
		grace, takes time.Duration
		answered     bool
	}{
		"in time":  {grace: time.Minute, takes: 50 * time.Millisecond, answered: true},
		"too long": {grace: 50 * time.Millisecond, takes: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bed{fakes: map[string]*fake.Backend{}}
			s, err := newServer(Options{DriverName: "fake.dozo.dev", Version: "v1", Pools: b.pools(t, []member{{name: "a"}}), Controller: true, Grace: c.grace}, nil)
			wantOK(t, err)
			path := filepath.Join(t.TempDir(), "s")
			l, err := listen(path)
			wantOK(t, err)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.serve(ctx, l) }()
			conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
			wantOK(t, err)
			defer conn.Close()

			began := make(chan struct{})
			b.fakes["a"].Arm(func(e *fake.Errors) {
				e.Capacity.Hold = func(ctx context.Context) error {
					close(began)
					select {
					case <-time.After(c.takes):
					case <-ctx.Done():
					}
					return ctx.Err()
				}
			})
			answer := make(chan error, 1)
			go func() {
				_, err := csi.NewControllerClient(conn).GetCapacity(t.Context(), &csi.GetCapacityRequest{})
				answer <- err
			}()
			<-began
			stop()
			wantOK(t, <-done)
			want(t, <-answer == nil, c.answered)
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("the socket is left behind: %v", err)
			}
		})
	}
}

func TestServe(t *testing.T) {
	b := &bed{fakes: map[string]*fake.Backend{}}
	s, err := newServer(Options{DriverName: "fake.dozo.dev", Version: "v1", Pools: b.pools(t, []member{{name: "a"}}), Controller: true}, nil)
	wantOK(t, err)
	wantKind(t, s.Serve(t.Context(), "tcp://:1"), errs.Invalid, "endpoint")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	wantOK(t, s.Serve(stopped, filepath.Join(t.TempDir(), "s")))
}
