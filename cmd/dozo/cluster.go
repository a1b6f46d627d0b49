package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/dozo-dev/dozo/internal/agent"
	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/controller"
	"github.com/dozo-dev/dozo/internal/controller/pool/open"
	"github.com/dozo-dev/dozo/internal/csi"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/internal/pv"
)

// clusterFlags are the flags of the roles in a cluster.
type clusterFlags struct {
	kubeconfig, namespace string
	qps                   float32
	burst                 int
	deleteClaims          bool
}

func (f *clusterFlags) define(fl *pflag.FlagSet, r role) {
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", kubeconfigHelp)
	fl.Float32Var(&f.qps, "kube-api-qps", 50, "calls a second to the API server")
	fl.IntVar(&f.burst, "kube-api-burst", 100, "calls to the API server in a burst")
	if r.controller {
		fl.StringVar(&f.namespace, "namespace", "", "of this process, for its Lease and the CSIStorageCapacities (default: the pod's)")
		fl.BoolVar(&f.deleteClaims, "delete-claims-of-deleted-nodes", false, "delete the claims whose volumes are on a node that was deleted, so that a StatefulSet makes new ones; "+
			"off, they wait for the node to come back")
	}
}

const kubeconfigHelp = "`file` with how to reach the API server (default: the pod's service account)"

// clusterConfig says how to reach the API server, and has its libraries log where we do.
func clusterConfig(kubeconfig string, l *slog.Logger) (*rest.Config, error) {
	log.SetLogger(logr.FromSlogHandler(l.Handler()))
	klog.SetSlogLogger(l) // what the client library has to say
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	c.UserAgent = "dozo/" + version()
	return c, nil
}

// serveCluster serves with the Pools of a cluster.
func serveCluster(ctx context.Context, o driverOptions) error {
	if o.flags.kind == "" {
		return errors.New("--kind: missing; without --pool-config it says which of the cluster's Pools are served")
	}
	var err error
	if o.kind, err = pool.FindKind(all.Kinds(o.host), o.flags.kind); err != nil {
		return fmt.Errorf("--%w", err) // which begins with the flag's name
	}
	if o.role.node && !o.kind.NodeBound {
		return serveNodeAlone(ctx, o)
	}
	config, err := clusterConfig(o.flags.cluster.kubeconfig, o.log)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = o.flags.cluster.qps, o.flags.cluster.burst
	if o.role.node {
		return serveNode(ctx, o, config)
	}
	return serveController(ctx, o, config)
}

// serveNode serves CSI from what is on this node, whether the API server answers or not, and runs its agent.
func serveNode(ctx context.Context, o driverOptions, config *rest.Config) error {
	var a *agent.Agent
	o.pools = pool.EmptySet(all.Kinds(o.host), pool.Options{
		Node: o.flags.nodeName, Log: o.log, Remote: overWireSoon,
		Observe: func(done pool.Observation) {
			o.observe(done)
			a.Observe(done)
		},
	})
	if err := o.host.Do("node.statedir", func() error { return os.MkdirAll(o.flags.stateDir, 0o700) }); err != nil {
		return fmt.Errorf("--state-dir: %w", err)
	}
	a, err := agent.New(ctx, agent.Options{
		Node: o.flags.nodeName, Kind: o.kind.Name, Pools: o.pools, Host: o.host, Log: o.log, Socket: o.flags.lvmdSocket,
		State: filepath.Join(o.flags.stateDir, "pools.seen"), NodesOwn: csi.IsInline,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = a.Run(ctx, config) // it ends with ctx
	}()
	err = serveDriver(ctx, o)
	cancel()
	<-ended
	return err
}

// serveNodeAlone serves CSI on a node that has no storage of its own. How a volume is reached comes with each call, so
// nothing is asked of the API server.
func serveNodeAlone(ctx context.Context, o driverOptions) error {
	o.pools = pool.EmptySet(nil, pool.Options{Node: o.flags.nodeName, Log: o.log})
	return serveDriver(ctx, o)
}

// serveController serves CSI from what the agents of the nodes do, or from storage outside the cluster, and runs the
// controllers.
func serveController(ctx context.Context, o driverOptions, config *rest.Config) error {
	namespace, err := o.flags.cluster.ownNamespace()
	if err != nil {
		return err
	}
	scheme, err := controller.Scheme()
	if err != nil {
		return err
	}
	mgr, err := manager.New(config, manager.Options{
		Scheme: scheme,
		Cache: cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: map[client.Object]cache.ByObject{
			&storagev1.CSIStorageCapacity{}: {Namespaces: map[string]cache.Config{namespace: {}}}, // no right to see others
			&corev1.PersistentVolume{}:      {Transform: pv.OnlyOf(pv.Driver(o.kind.Name))},
		}},
		Metrics:          metricsserver.Options{BindAddress: "0"},
		LeaderElection:   true,
		LeaderElectionID: o.kind.Name + ".dozo.dev", LeaderElectionNamespace: namespace, LeaderElectionReleaseOnCancel: true,
		Logger:     logr.FromSlogHandler(o.log.Handler()),
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)}, // names are for metrics that nobody gets; a test starts it twice
	})
	if err != nil {
		return err
	}
	live, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return err
	}
	o.nodes = nodesOf(live)
	follow, err := o.controllers(ctx, mgr, live, namespace)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- mgr.Start(ctx)
	}()
	if mgr.GetCache().WaitForCacheSync(ctx) {
		// A pool that is not known yet must not pass for one that does not exist.
		if err = follow(ctx); err == nil {
			err = serveDriver(ctx, o)
		}
	}
	cancel()
	return errors.Join(err, <-ended)
}

// controllers adds what runs in the controller role, and sets the pools, which follow has follow the cluster's.
func (o *driverOptions) controllers(ctx context.Context, mgr manager.Manager, live client.WithWatch, namespace string) (follow func(context.Context) error, err error) {
	if o.kind.NodeBound {
		follow, err = o.onNodes(ctx, mgr, live)
	} else {
		follow, err = o.outside(mgr, live, namespace)
	}
	if err != nil {
		return nil, err
	}
	return follow, controller.Add(mgr, controller.Options{
		Kind: o.kind.Name, Namespace: namespace, Outside: !o.kind.NodeBound, AddressesKey: csi.AddressesKey,
		DeleteClaims: o.flags.cluster.deleteClaims,
	})
}

// onNodes has the pools be those that the agents open.
func (o *driverOptions) onNodes(ctx context.Context, mgr manager.Manager, live client.Client) (follow func(context.Context) error, err error) {
	view, err := remote.NewView(ctx, live, mgr.GetCache())
	if err != nil {
		return nil, err
	}
	o.kind = remote.Kind(o.kind, view)
	o.pools = pool.EmptySet([]backend.Kind{o.kind}, pool.Options{Log: o.log, Observe: o.metrics.observe, Budget: remote.Budget})
	f := &remote.Follower{Kind: o.kind.Name, Pools: o.pools, Read: mgr.GetCache()}
	return f.All, f.Add(mgr)
}

// outside has the pools be opened here.
func (o *driverOptions) outside(mgr manager.Manager, live client.WithWatch, namespace string) (follow func(context.Context) error, err error) {
	o.pools = pool.EmptySet([]backend.Kind{o.kind}, pool.Options{Log: o.log, Observe: o.metrics.observe})
	f := &open.Follower{Kind: o.kind.Name, Namespace: namespace, Pools: o.pools, Read: mgr.GetCache(), Live: live, Log: o.log}
	if err := f.Add(mgr); err != nil {
		return nil, err
	}
	return f.All, (&open.Reporter{Follower: f}).Add(mgr)
}

// serviceAccountNamespace is where a pod finds its namespace.
const serviceAccountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

func (f *clusterFlags) ownNamespace() (string, error) {
	if f.namespace != "" {
		return f.namespace, nil
	}
	data, err := os.ReadFile(serviceAccountNamespace)
	if err != nil {
		return "", fmt.Errorf("--namespace: missing, and this is no pod: %w", err)
	}
	return string(data), nil
}
