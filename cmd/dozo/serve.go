package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/csi"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/internal/wire"
)

// role says which of the CSI services a process has.
type role struct{ controller, node bool }

// serveFlags are the flags of the roles.
type serveFlags struct {
	poolConfig, kind, endpoint, nodeName, stateDir, kubeletDir, nodeRoot, metrics, logFormat string
	lvmdSocket                                                                               string
	cluster                                                                                  clusterFlags
}

func serveCommand() *cobra.Command {
	return roleCommand(role{controller: true, node: true}, "serve",
		"Serve volumes over CSI, controller and node in one",
		`Serve the pools of a file over CSI on a unix socket: the whole driver in one process, without
Kubernetes, for other orchestrators and for tests.`)
}

func controllerCommand() *cobra.Command {
	return roleCommand(role{controller: true}, "controller",
		"Serve the CSI controller: make, grow, copy and delete volumes",
		`Serve CSI on a unix socket, controller service only. Without --pool-config the pools are the Pools of a
Kubernetes cluster that are of the kind of --kind, and volumes are made by the agents in 'dozo node' there.`)
}

func nodeCommand() *cobra.Command {
	return roleCommand(role{node: true}, "node",
		"Serve the CSI node: attach, format and mount volumes",
		`Serve CSI on a unix socket, node service only. Without --pool-config the pools are the Pools of a Kubernetes
cluster that are of the kind of --kind and select this node, and the agent of this node makes their volumes.`)
}

func roleCommand(r role, use, short, long string) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   use + " {--pool-config FILE | --kind KIND}",
		Short: short,
		Long: long + `

The file lists pools, each with options as 'dozo kinds' shows them, or with the socket of a
'dozo lvmd' that serves it:

  pools:
  - name: images
    kind: loopfile
    options:
      path: /var/lib/dozo/images`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), r, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.poolConfig, "pool-config", "", "YAML `file` with the pools")
	fl.StringVar(&f.kind, "kind", "", "serve only the pools of this kind; needed without a file, and if the file has several kinds")
	fl.StringVar(&f.endpoint, "endpoint", "unix:///run/dozo/csi.sock", "where to serve CSI")
	fl.StringVar(&f.nodeName, "node-name", "", "name of this node in Kubernetes (default: the host's name)")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fl.StringVar(&f.metrics, "metrics-address", "", "serve Prometheus metrics at this address, such as :9100 (default: nowhere)")
	if r.node {
		fl.StringVar(&f.stateDir, "state-dir", "/var/lib/dozo/node", "`directory` for what was done to volumes on this node; it must outlive this process")
		fl.StringVar(&f.nodeRoot, "node-root", "", "`directory` where this container sees the node's root file system: iscsiadm and multipathd are run below it, as the node has them (default: those that are here)")
		fl.StringVar(&f.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "`directory` of the kubelet: paths below it are never followed through symlinks")
	}
	if r.node && r.controller { // without Kubernetes
		if err := cmd.MarkFlagRequired("pool-config"); err != nil {
			panic(err) // the flag is defined above
		}
		cmd.Use = use + " --pool-config FILE"
	} else {
		f.cluster.define(fl, r)
	}
	if r.node && !r.controller {
		fl.StringVar(&f.lvmdSocket, "lvmd-socket", "", "`path` of the socket of a 'dozo lvmd' that serves all the cluster's pools of the kind on this node, by their names (default: they are opened here)")
		cmd.MarkFlagsMutuallyExclusive("lvmd-socket", "pool-config") // each pool in a file has a socket of its own
	}
	return cmd
}

// closeTimeout is how long operations may go on after a signal.
const closeTimeout = 25 * time.Second

func serve(ctx context.Context, r role, f serveFlags) error {
	log, err := logger(f.logFormat)
	if err != nil {
		return err
	}
	if f.nodeName, err = nodeName(f.nodeName); err != nil {
		return err
	}
	o := newDriverOptions(r, f, log)
	if f.poolConfig == "" {
		return serveCluster(ctx, o)
	}
	specs, err := readPoolConfig(f.poolConfig, f.kind)
	if err != nil {
		return err
	}
	if err := o.open(ctx, specs); err != nil {
		return err
	}
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	go followSecrets(following, o.pools, specs, log)
	return serveDriver(ctx, o)
}

// serveDriver serves a driver whose pools are there until ctx is done or it ends.
func serveDriver(ctx context.Context, o driverOptions) error {
	d, err := startDriver(ctx, o)
	if err != nil {
		return err
	}
	stopMetrics, err := o.metrics.serve(o.flags.metrics, d.pools, o.log)
	if err != nil {
		return errors.Join(err, d.stop())
	}
	defer stopMetrics()
	o.log.Info("serving", "driver", d.name, "endpoint", o.flags.endpoint, "node", o.flags.nodeName, "version", version())
	select {
	case <-ctx.Done():
		o.log.Info("stopping")
	case <-d.done:
	}
	return d.stop()
}

func logger(format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, nil)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is neither text nor json", format)
}

type driverOptions struct {
	role    role
	flags   serveFlags
	log     *slog.Logger
	host    *host.Host
	metrics *metrics

	limitsChanged func(pool.Observation) // wakes who keeps the limits of volumes
	changed       <-chan struct{}

	kind  backend.Kind // of all pools
	pools *pool.Set
	nodes nodeAddresses
}

// newDriverOptions are those of a driver whose pools are yet to be opened.
func newDriverOptions(r role, f serveFlags, log *slog.Logger) driverOptions {
	o := driverOptions{role: r, flags: f, log: log, host: host.New(), metrics: newMetrics(), nodes: anyNode}
	if r.node {
		o.nodes = onlyNode(f.nodeName)
	}
	o.host.Node = f.nodeRoot
	o.host.Runner = measured{o.host.Runner, o.metrics}
	o.limitsChanged, o.changed = node.Changed()
	return o
}

// observe is told of every operation on a pool.
func (o *driverOptions) observe(e pool.Observation) {
	o.limitsChanged(e)
	o.metrics.observe(e)
}

// open opens the pools of specs, which are of one kind.
func (o *driverOptions) open(ctx context.Context, specs []pool.Spec) (err error) {
	kinds := all.Kinds(o.host)
	o.pools, err = pool.OpenSet(ctx, kinds, specs, pool.Options{
		Node: o.flags.nodeName, Log: o.log, Observe: o.observe, Remote: overWire,
	})
	if err != nil {
		return err
	}
	o.kind, err = pool.FindKind(kinds, specs[0].Kind)
	return err
}

// driver is a running CSI driver.
type driver struct {
	name   string
	host   *host.Host
	pools  *pool.Set
	cancel context.CancelFunc
	done   chan struct{} // closed when it no longer serves
	// background is what goes on until cancel.
	background sync.WaitGroup
	err        error // why, once done is closed; nil after stop
}

func startDriver(ctx context.Context, o driverOptions) (*driver, error) {
	h, pools := o.host, o.pools
	d := &driver{name: o.kind.Name + ".dozo.dev", host: h, pools: pools, done: make(chan struct{})}
	var err error
	var n *node.Node
	if o.role.node {
		n, err = node.New(h, pools, node.Options{Name: o.flags.nodeName, StateDir: o.flags.stateDir, TargetRoot: o.flags.kubeletDir, Log: o.log})
		if err != nil {
			return nil, err
		}
	}
	server, err := csi.NewServer(csi.Options{
		DriverName: d.name, Version: version(), Pools: pools, Kind: &o.kind, Node: n, Controller: o.role.controller, Nodes: o.nodes, Log: o.log,
	})
	if err != nil {
		return nil, err
	}
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if n != nil {
		d.background.Go(func() { n.KeepLimits(ctx, o.changed) })
		d.background.Go(func() { n.KeepSwept(ctx) })
	}
	go func() {
		d.err = server.Serve(ctx, o.flags.endpoint)
		close(d.done)
	}()
	return d, nil
}

// overWire connects to a pool that 'dozo lvmd' serves.
func overWire(ctx context.Context, s pool.Spec) (backend.Kind, error) {
	return wire.Remote(ctx, wire.Dial{Socket: s.Socket, Pool: s.Name, Version: version()})
}

// overWireSoon is overWire for a node: without lvmd too it serves at once, and the pools are tried again.
func overWireSoon(ctx context.Context, s pool.Spec) (backend.Kind, error) {
	return wire.Remote(ctx, wire.Dial{Socket: s.Socket, Pool: s.Name, Version: version(), Patience: time.Second})
}

// stop ends the driver: calls under way are answered, operations come to their end.
func (d *driver) stop() error {
	d.cancel()
	<-d.done
	d.background.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return errors.Join(d.err, d.pools.Close(ctx))
}

// httpTimeout bounds a client of the metrics.
const httpTimeout = 10 * time.Second

func httpServer(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: httpTimeout, WriteTimeout: httpTimeout}
}
