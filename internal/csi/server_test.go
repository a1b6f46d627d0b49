package csi

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/socket"
)

func TestOptions(t *testing.T) {
	b := &bed{fakes: map[string]*fake.Backend{}}
	good := Options{DriverName: "fake.dozo.dev", Version: "v1", Pools: b.pools(t, []member{{name: "a", bound: true}}), Controller: true, Nodes: knownNodes}
	for name, change := range map[string]func(*Options){
		"DriverName": func(o *Options) { o.DriverName = "Not A Domain" },
		"Version":    func(o *Options) { o.Version = "" },
		"Pools":      func(o *Options) { o.Pools = nil },
		"Nodes":      func(o *Options) { o.Nodes = nil },
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
			s, err := newServer(Options{DriverName: "fake.dozo.dev", Version: "v1", Pools: b.pools(t, []member{{name: "a"}}), Controller: true, Nodes: knownNodes, Grace: c.grace}, nil)
			wantOK(t, err)
			path := filepath.Join(t.TempDir(), "s")
			l, err := socket.Listen(path, os.Getuid())
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
	s, err := newServer(Options{DriverName: "fake.dozo.dev", Version: "v1", Pools: b.pools(t, []member{{name: "a"}}), Controller: true, Nodes: knownNodes}, nil)
	wantOK(t, err)
	wantKind(t, s.Serve(t.Context(), "tcp://:1"), errs.Invalid, "endpoint")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	wantOK(t, s.Serve(stopped, filepath.Join(t.TempDir(), "s")))
}
