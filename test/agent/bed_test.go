// Package agent tests both ends of node-bound storage together, over a real API server: the law of backends,
// what is killed in the middle, an API server that goes away, and what the agents of nodes may write.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent"
	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab/api"

	"github.com/go-logr/logr"
)

// bed is a cluster without a kubelet.
type bed struct {
	*api.Server
	t *testing.T
}

func newBed(t *testing.T) *bed {
	log.SetLogger(logr.FromSlogHandler(logger(t).Handler()))
	return &bed{Server: api.Start(t), t: t}
}

// logger is quiet, unless DOZO_TEST_LOG is set.
func logger(t testing.TB) *slog.Logger {
	if os.Getenv("DOZO_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	return slog.New(slog.DiscardHandler)
}

// node makes a Node. It has the label "disk" with a value.
func (b *bed) node(name, disk string) {
	b.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": disk}}}
	b.must(b.Client.Create(b.t.Context(), n))
}

// pool makes a Pool of a kind on all nodes.
func (b *bed) pool(name, kind string, options map[string]string) *v1alpha1.Pool {
	b.t.Helper()
	p := &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PoolSpec{Kind: kind, Options: options}}
	b.must(b.Client.Create(b.t.Context(), p))
	return p
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// process is the agent of a node as a process: it can be killed and started again.
type process struct {
	agent *agent.Agent
	pools *pool.Set
	kill  func()
}

// agent starts the agent of a node. dir is the node's disk.
func (b *bed) agent(node, dir string, kind backend.Kind) *process {
	b.t.Helper()
	return b.agentAs(b.Config, node, dir, kind)
}

func (b *bed) agentAs(config *rest.Config, node, dir string, kind backend.Kind) *process {
	b.t.Helper()
	p := &process{}
	var a *agent.Agent
	p.pools = pool.EmptySet([]backend.Kind{kind}, pool.Options{Node: node, Log: logger(b.t), Observe: func(o pool.Observation) { a.Observe(o) }})
	a, err := agent.New(b.t.Context(), agent.Options{
		Node: node, Kind: kind.Name, Pools: p.pools, Host: host.New(), State: filepath.Join(dir, "pools.json"), Log: logger(b.t),
		Refresh: time.Second, Scan: time.Second,
	})
	b.must(err)
	p.agent = a
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, config) }()
	done := false
	p.kill = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			b.t.Errorf("the agent ended by itself: %v", err)
		}
	}
	b.t.Cleanup(p.kill)
	return p
}

// ready waits until a pool is ready on a node.
func (b *bed) ready(name, node string) {
	b.t.Helper()
	b.until("pool "+name+" is ready on "+node, func() bool {
		c := b.poolOn(name, node)
		return c != nil && len(c.Conditions) > 0 && c.Conditions[0].Status == metav1.ConditionTrue
	})
}

// poolOn is what a node says of a pool, nil if nothing.
func (b *bed) poolOn(name, node string) *v1alpha1.NodePool {
	b.t.Helper()
	var ns v1alpha1.NodeStorage
	err := b.Client.Get(b.t.Context(), client.ObjectKey{Name: node}, &ns)
	if apierrors.IsNotFound(err) {
		return nil
	}
	b.must(err)
	for i := range ns.Status.Pools {
		if ns.Status.Pools[i].Name == name {
			return &ns.Status.Pools[i]
		}
	}
	return nil
}

// until waits for something, up to half a minute.
func (b *bed) until(what string, done func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// controllerEnd is the other end, as a process.
type controllerEnd struct {
	view *remote.View
	cut  *atomic.Bool // the API server cannot be reached from it
	kill func()
}

func (b *bed) controller(t testing.TB) *controllerEnd {
	t.Helper()
	c := &controllerEnd{cut: &atomic.Bool{}}
	config := rest.CopyConfig(b.Config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return cable{next, c.cut} })
	live, err := client.New(config, client.Options{Scheme: api.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	watched, err := cache.New(config, cache.Options{Scheme: api.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.kill = cancel
	t.Cleanup(cancel)
	if c.view, err = remote.NewView(ctx, live, watched); err != nil {
		t.Fatal(err)
	}
	go func() { _ = watched.Start(ctx) }()
	if !watched.WaitForCacheSync(ctx) {
		t.Fatal("the cache was not filled")
	}
	return c
}

// cable can be cut.
type cable struct {
	next http.RoundTripper
	cut  *atomic.Bool
}

// RoundTrip is [http.RoundTripper].
func (c cable) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.cut.Load() {
		return nil, errors.New("the cable is cut")
	}
	return c.next.RoundTrip(r)
}

// poolObservation is any operation that ended.
func poolObservation() pool.Observation { return pool.Observation{Op: "test"} }
