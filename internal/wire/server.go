package wire

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/keylock"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/internal/socket"
	wirepb "github.com/dozo-dev/dozo/internal/wire/proto"
)

// DefaultGrace is how long calls under way may go on when a server stops.
const DefaultGrace = 25 * time.Second

// Served is a pool to serve: a backend that is open, and what it is.
type Served struct {
	Name    string
	Kind    backend.Kind
	Backend backend.Backend
}

// Options configure a server.
type Options struct {
	Version string // of this build, for people
	Node    string // that the pools are on
	Config  string // file that says which pools are served, for people
	UID     int    // the one user beside root that may connect; it owns the socket
	Log     *slog.Logger
	Grace   time.Duration // 0: DefaultGrace
	Ready   func()        // called when it listens; may be nil
}

// Server serves pools. Make one with [NewServer].
type Server struct {
	opts   Options
	pools  map[string]*served
	grpc   *grpc.Server
	health *health.Server
}

// served is a pool with what was found out about it once. The locks are for callers in several
// processes, as in a rolling update: a backend is promised one call at a time for an ID.
type served struct {
	Served
	caps  pool.Capabilities
	locks *keylock.Locks
}

// NewServer makes a server of pools, whose backends stay the caller's to close. errs.Invalid if two
// have one name.
func NewServer(o Options, pools ...Served) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	s := &Server{opts: o, pools: map[string]*served{}, health: health.NewServer()}
	for _, p := range pools {
		if s.pools[p.Name] != nil {
			return nil, errs.E(errs.Invalid, "pools: the name %q is there twice", p.Name)
		}
		s.pools[p.Name] = &served{Served: p, caps: pool.Find(p.Backend), locks: keylock.New(time.Now)}
	}
	s.grpc = grpc.NewServer(
		grpc.UnaryInterceptor(unary), grpc.StreamInterceptor(streaming),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2}),
	)
	s.register()
	return s, nil
}

func (s *Server) register() {
	h := &handlers{s}
	wirepb.RegisterPoolsServer(s.grpc, h)
	wirepb.RegisterBackendServer(s.grpc, h)
	wirepb.RegisterExpanderServer(s.grpc, h)
	wirepb.RegisterClonerServer(s.grpc, h)
	wirepb.RegisterSnapshotterServer(s.grpc, h)
	wirepb.RegisterGroupSnapshotterServer(s.grpc, h)
	wirepb.RegisterActivatorServer(s.grpc, h)
	wirepb.RegisterAttacherServer(s.grpc, h)
	wirepb.RegisterMarkerServer(s.grpc, h)
	wirepb.RegisterCheckerServer(s.grpc, h)
	wirepb.RegisterModifierServer(s.grpc, h)
	wirepb.RegisterGaugerServer(s.grpc, h)
	wirepb.RegisterImporterServer(s.grpc, h)
	healthpb.RegisterHealthServer(s.grpc, s.health)
}

// Serve listens on a unix socket in a directory that nobody else can enter, and serves until ctx is
// done or serving fails. Then it takes no new calls, gives those that run the grace period, and
// cancels the rest.
func (s *Server) Serve(ctx context.Context, path string) error {
	if err := socket.PrivateDir(path, s.opts.UID); err != nil {
		return err
	}
	l, err := socket.Listen(path, s.opts.UID)
	if err != nil {
		return err
	}
	// Whoever started this process may connect too: tests do, and it could do anything here anyway.
	l = socket.Only(l, s.opts.Log, slices.Compact([]int{0, os.Geteuid(), s.opts.UID})...)
	s.opts.Log.Info("serving", "socket", l.Addr().String(), "pools", len(s.pools), "version", s.opts.Version)
	return s.serve(ctx, l)
}

func (s *Server) serve(ctx context.Context, l net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- s.grpc.Serve(l) }()
	if s.opts.Ready != nil {
		s.opts.Ready() // connections that come before Serve wait in the socket
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	s.health.Shutdown()
	hard := time.AfterFunc(s.opts.Grace, s.grpc.Stop)
	defer hard.Stop()
	s.grpc.GracefulStop()
	if err := <-done; !errors.Is(err, grpc.ErrServerStopped) { // it was stopped before it began
		return err
	}
	return nil
}

// pool returns the pool of a call. errs.Invalid if there is none of that name: that says nothing of
// the volumes in it.
func (s *Server) pool(name string) (*served, error) {
	if p := s.pools[name]; p != nil {
		return p, nil
	}
	return nil, errs.E(errs.Invalid, "pool: %.80q is not served here; add it to the pools in %s on node %s, and restart dozo lvmd", name, s.opts.Config, s.opts.Node)
}

func unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := understood(ctx); err != nil {
		return nil, toStatus(err)
	}
	answer, err := handle(ctx, request)
	return answer, toStatus(err)
}

func streaming(s any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if info.FullMethod == healthpb.Health_Watch_FullMethodName {
		return handle(s, stream)
	}
	if err := understood(stream.Context()); err != nil {
		return toStatus(err)
	}
	return toStatus(handle(s, stream))
}

// understood refuses a client whose requests may have fields that this build would overlook. One
// that says nothing is a tool.
func understood(ctx context.Context) error {
	for _, v := range metadata.ValueFromIncomingContext(ctx, protocolKey) {
		if n, err := strconv.Atoi(v); err != nil || n > Protocol {
			return errs.E(errs.Unsupported, "the caller speaks version %.20s of the protocol, this dozo version %d; update the one that serves the pool", v, Protocol)
		}
	}
	return nil
}
