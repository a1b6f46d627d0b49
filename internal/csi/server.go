// Package csi is the Container Storage Interface in front of all pools: it translates between CSI's
// messages and package pool and package node, and is the only importer of CSI.
//
// A request is checked here as far as it is a matter of form: fields that are missing, handles,
// topology, access modes. What a volume may be is decided by its pool, what happens to it on a node
// by package node. No kind of storage has its name here: what the driver can do follows from the
// capabilities of its pools (see features).
package csi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"regexp"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/internal/socket"
)

// DefaultGrace is how long calls that are running may go on when a server stops.
const DefaultGrace = 15 * time.Second

// Options configure a server.
type Options struct {
	DriverName string // as in storage classes, a domain name
	Version    string
	Pools      *pool.Set
	// Kind is that of all pools, also of those to come: what the driver can do follows from it. nil: it
	// follows from the pools that there are now.
	Kind       *backend.Kind
	Node       *node.Node // nil: no Node service
	Controller bool       // with the Controller and GroupController services
	// Nodes returns the IP addresses of a node by its ID, which is its name: errs.NotFound if there is no such node, another
	// kind if that cannot be told. Needed with the Controller where volumes are attached to nodes.
	Nodes func(ctx context.Context, id string) (addresses []string, err error)
	Log   *slog.Logger  // nil: slog.Default()
	Grace time.Duration // 0: DefaultGrace
}

// Server serves one CSI driver.
type Server struct {
	grpc  *grpc.Server
	log   *slog.Logger
	grace time.Duration
}

// NewServer makes a server. errs.Invalid names the option that is wrong.
func NewServer(o Options) (*Server, error) {
	var m machine
	if o.Node != nil { // a nil *node.Node in an interface would not be nil
		m = o.Node
	}
	return newServer(o, m)
}

func newServer(o Options, m machine) (*Server, error) {
	if err := o.check(m); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	has := o.features()
	g := grpc.NewServer(grpc.ChainUnaryInterceptor(logged(o.Log), answered(o.Log, has)))
	csi.RegisterIdentityServer(g, &identity{name: o.DriverName, version: o.Version, has: has, controller: o.Controller})
	if o.Controller {
		c := &controller{pools: o.Pools, nodes: o.Nodes, has: has, log: o.Log}
		csi.RegisterControllerServer(g, c)
		csi.RegisterGroupControllerServer(g, c)
	}
	if m != nil {
		csi.RegisterNodeServer(g, &nodeService{node: m, has: has, log: o.Log})
	}
	return &Server{grpc: g, log: o.Log, grace: o.Grace}, nil
}

func (o Options) check(m machine) error {
	domain := regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	switch {
	case !domain.MatchString(o.DriverName):
		return errs.E(errs.Invalid, "DriverName: %.80q is not a domain name of at most 63 characters", o.DriverName)
	case o.Version == "":
		return missing("Version")
	case o.Pools == nil:
		return missing("Pools")
	case o.Controller && o.Nodes == nil && o.features().attach:
		return missing("Nodes")
	case m == nil && !o.Controller:
		return errs.E(errs.Invalid, "Controller, Node: a driver needs one of them")
	case m != nil && (m.Name() == "" || len(m.Name()) > maxSegment && o.features().nodeBound):
		return errs.E(errs.Invalid, "Node: the name %.80q is missing, or too long for the node label that says where volumes are (%d characters)", m.Name(), maxSegment)
	}
	return nil
}

// Serve listens on a unix socket ("unix:///path" or a path) and serves until ctx is done or serving
// fails. Then it takes no new calls, gives those that run the grace period, and cancels the rest.
func (s *Server) Serve(ctx context.Context, endpoint string) error {
	l, err := socket.Listen(endpoint, os.Getuid())
	if err != nil {
		return err
	}
	s.log.Info("csi serves", "socket", l.Addr().String())
	return s.serve(ctx, l)
}

func (s *Server) serve(ctx context.Context, l net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- s.grpc.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	hard := time.AfterFunc(s.grace, s.grpc.Stop)
	defer hard.Stop()
	s.grpc.GracefulStop()
	if err := <-done; !errors.Is(err, grpc.ErrServerStopped) { // it was stopped before it began
		return err
	}
	return nil
}
