// Package agent is the node's end of node-bound storage: it brings what the controller wrote into
// NodeVolumes and NodeSnapshots onto the pools of its node, answers in their status, and publishes what the
// node has in its NodeStorage.
//
// The storage is the truth: what is on it and in no object is an orphan, which is listed and left alone;
// what an object says exists and the storage says does not is reported, and never made anew.
//
// The node does not need the API server: the pools that it saw last are kept on its disk and opened from
// there, and nothing ends because the API server does not answer.
package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
)

// Options configure an Agent.
type Options struct {
	Node  string     // as Kubernetes knows it
	Kind  string     // of the pools that are this agent's: there is one for each CSI driver
	Pools *pool.Set  // opened and closed here, empty at first
	Host  *host.Host // for the state file
	State string     // file for the pools seen last; it must outlive this process
	// Socket is that of the process on this node which serves all pools of the kind, by their names; then
	// their options are set there. "": the pools are opened in this process.
	Socket string
	Log    *slog.Logger

	// NodesOwn says of a volume's name that the node made it for itself, such as a CSI inline volume: no
	// object stands for it, and it is no orphan. nil: there are none.
	NodesOwn func(name string) bool

	// Refresh is how often figures are read that others may change too, and Scan how often the storage is
	// compared with the objects. 0: 10 seconds, a minute.
	Refresh, Scan time.Duration
}

// Agent is the agent of one driver on one node. It is safe for concurrent use.
type Agent struct {
	opts   Options
	dirty  chan struct{}           // has an element if the NodeStorage may have changed
	opened chan event.GenericEvent // pools that changed

	mu          sync.Mutex
	generations map[string]int64 // of the Pools that are used
	session     *session         // nil: not connected
	scans       map[string]scan  // by pool

	publishing sync.Mutex // held while the NodeStorage is written
	published  published
}

// session is what lasts as long as a connection to the API.
type session struct {
	client client.Client // reads from a cache of this node's objects
	api    client.Reader // reads from the API server
	events events.EventRecorder
}

// New returns the agent, with the pools open that it saw last.
func New(ctx context.Context, o Options) (*Agent, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Refresh == 0 {
		o.Refresh = 10 * time.Second
	}
	if o.Scan == 0 {
		o.Scan = time.Minute
	}
	a := &Agent{
		opts: o, dirty: make(chan struct{}, 1), opened: make(chan event.GenericEvent, 64),
		generations: map[string]int64{}, scans: map[string]scan{},
	}
	o.Pools.OnChange(a.poolChanged)
	specs, err := a.remembered()
	if err != nil {
		return nil, err
	}
	for _, s := range specs {
		s.Socket = o.Socket                         // of this process, whatever that of the earlier one was
		if err := o.Pools.Use(ctx, s); err != nil { // it is a state of the set, and tried again
			o.Log.Warn("pool", "pool", s.Name, "error", err)
		}
	}
	return a, nil
}

// Observe is to be called for every operation on a pool that ended, since it may have changed what is free.
func (a *Agent) Observe(pool.Observation) { a.touch() }

func (a *Agent) touch() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

func (a *Agent) poolChanged(name string) {
	a.touch()
	p := &v1alpha1.Pool{}
	p.Name = name
	select {
	case a.opened <- event.GenericEvent{Object: p}:
	default: // what waits for a pool is tried again in any case
	}
}

// The waits between two attempts to reach the API server.
const (
	firstWait = time.Second
	longWait  = 30 * time.Second
)

// Run works until ctx is done, through all that may happen to the API server. It returns ctx's error.
func (a *Agent) Run(ctx context.Context, config *rest.Config) error {
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		began := time.Now()
		err := a.connect(ctx, config)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > longWait {
			wait = firstWait
		}
		a.opts.Log.Warn("the agent lost the API server and begins again", "after", wait, "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// connect works until ctx is done or something cannot be set right.
func (a *Agent) connect(ctx context.Context, config *rest.Config) error {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return err
	}
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	mgr, err := manager.New(config, manager.Options{
		Scheme: scheme,
		// Asking the API server which types it has would fail while it is down.
		MapperProvider: mapper,
		Cache:          a.onlyOurs(),
		Metrics:        metricsserver.Options{BindAddress: "0"},
		Logger:         logr.FromSlogHandler(a.opts.Log.Handler()),
	})
	if err != nil {
		return err
	}
	s := &session{client: mgr.GetClient(), api: mgr.GetAPIReader(), events: mgr.GetEventRecorder("dozo-agent")}
	for _, add := range []func(manager.Manager, *session) error{a.addPools, a.addVolumes, a.addSnapshots, a.addPublisher} {
		if err := add(mgr, s); err != nil {
			return err
		}
	}
	a.setSession(s)
	defer a.setSession(nil)
	return mgr.Start(ctx)
}

func (a *Agent) setSession(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.session = s
}

// onlyOurs keeps the objects of other nodes out of memory.
func (a *Agent) onlyOurs() cache.Options {
	byNode := cache.ByObject{Field: fields.OneTermEqualSelector("spec.node", a.opts.Node)}
	byName := cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", a.opts.Node)}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.NodeVolume{}: byNode, &v1alpha1.NodeSnapshot{}: byNode,
			&v1alpha1.NodeStorage{}: byName, &corev1.Node{}: byName, &v1alpha1.Pool{}: {},
		},
	}
}

// Publish writes the NodeStorage now. errs.Unavailable without a connection.
func (a *Agent) Publish(ctx context.Context) error {
	a.mu.Lock()
	s := a.session
	a.mu.Unlock()
	if s == nil {
		return errs.E(errs.Unavailable, "the agent has no connection to the API server")
	}
	return a.publish(ctx, s)
}

// mapper knows the few types that an agent uses.
func mapper(*rest.Config, *httpClient) (meta.RESTMapper, error) {
	m := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"Pool", "NodeStorage", "NodeVolume", "NodeSnapshot"} {
		m.Add(v1alpha1.GroupVersion().WithKind(kind), meta.RESTScopeRoot)
	}
	m.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	return m, nil
}
