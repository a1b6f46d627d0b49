package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

// Crash cuts a node's power: its kernel ends at once, and what it had not yet
// handed to its disks is lost. Only a node with a kernel of its own has power.
func (l *Lab) Crash(ctx context.Context, node string) error {
	if _, err := l.power(ctx, http.MethodPut, node, powerOff); err != nil {
		return err
	}
	l.Progress.Step("node %s: power cut", node)
	return nil
}

// Boot starts a node again after [Lab.Crash], with the disks as they are, and
// returns when it is ready.
func (l *Lab) Boot(ctx context.Context, node string) error {
	s, err := l.spec()
	if err != nil {
		return err
	}
	if s.NAS && node == nasSpec().Name {
		if _, err := l.power(ctx, http.MethodPut, node, powerOn); err != nil {
			return err
		}
		return l.awaitNAS(ctx)
	}
	api, err := newAPIClient(s.pkiDir(), l.hostURL(s))
	if err != nil {
		return err
	}
	before, err := api.lastBoot(ctx, node)
	if err != nil {
		return err
	}
	start := time.Now()
	if _, err := l.power(ctx, http.MethodPut, node, powerOn); err != nil {
		return err
	}
	err = l.await(ctx, readyTimeout, func(ctx context.Context) error {
		now, err := api.node(ctx, node)
		if err != nil {
			return err
		}
		// It may be ready still, of its last life: the API server takes 50 s to notice.
		if now.Status.NodeInfo.BootID == before {
			return errors.New("its kubelet has not reported yet")
		}
		if ready, message := now.condition("Ready"); !ready {
			return errors.New(message)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("node %s does not become ready again; see %s: %w", node, l.node(node), err)
	}
	l.Progress.Step("node %s booted and ready after %.1fs", node, time.Since(start).Seconds())
	return nil
}

// The states of a node's power, and how long a kernel may take to end.
const (
	powerOn  = "on"
	powerOff = "off"

	cutTimeout = 30 * time.Second
)

// power sets or gets the state of a node's power. It asks the cluster's
// manager, whose children the nodes' kernels are.
func (l *Lab) power(ctx context.Context, method, node, to string) (state string, err error) {
	s, err := l.spec()
	if err != nil {
		return "", err
	}
	if _, err := s.node(node); err != nil {
		return "", err
	}
	if s.Guest == nil {
		return "", fmt.Errorf("node %s shares this machine's kernel and has no power of its own: start the lab with up --kernel guest", node)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.powerSocket())
		},
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://lab/nodes/"+node+"/power", strings.NewReader(to))
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("node %s: %w", node, err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(said)))
	}
	return string(said), err
}

// supply is the power of the nodes that have kernels of their own.
type supply struct {
	spec *spec
	sup  *supervisor

	mu     sync.Mutex
	guests map[string]*guest
}

// guest is a node's machine.
type guest struct {
	boots  int
	kernel *exec.Cmd     // of the last boot
	ended  chan struct{} // closed at its end
	cut    atomic.Bool   // which was wanted
}

func newSupply(s *spec, sup *supervisor) *supply {
	return &supply{spec: s, sup: sup, guests: map[string]*guest{}}
}

// serve answers [Lab.power] until the lab ends.
func (p *supply) serve() error {
	listener, err := net.Listen("unix", p.spec.powerSocket())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /nodes/{node}/power", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, p.get(r.PathValue("node"))) // an error means that who asked has gone
	})
	mux.HandleFunc("PUT /nodes/{node}/power", func(w http.ResponseWriter, r *http.Request) {
		to, err := io.ReadAll(io.LimitReader(r.Body, 16))
		if err == nil {
			err = p.set(r.PathValue("node"), string(to))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	go func() {
		err := http.Serve(listener, mux)
		p.sup.report(event{Name: "power", Failed: true, Message: err.Error()})
	}()
	return nil
}

// get returns the state of a node's power.
func (p *supply) get(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.guests[name]; g != nil && g.running() {
		return powerOn
	}
	return powerOff
}

// set switches a node's power, and returns when it is so.
func (p *supply) set(name, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := p.spec.node(name)
	if err != nil {
		return err
	}
	switch to {
	case powerOn:
		return p.boot(n)
	case powerOff:
		return p.cut(n)
	}
	return fmt.Errorf("power is %s or %s, not %q", powerOn, powerOff, to)
}

// cut kills the kernel, which is the first process of its namespace: nothing
// of the machine is left.
func (p *supply) cut(n nodeSpec) error {
	g := p.guests[n.Name]
	if g == nil || !g.running() {
		return fmt.Errorf("node %s has no power", n.Name)
	}
	g.cut.Store(true)
	if err := g.kernel.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-g.ended:
		return nil
	case <-time.After(cutTimeout):
		return fmt.Errorf("the kernel of node %s is still there %v after being killed: it may hang on a device", n.Name, cutTimeout)
	}
}

// boot starts a node's kernel, on the core with the fewest guests.
func (p *supply) boot(n nodeSpec) error {
	g := p.guests[n.Name]
	if g == nil {
		g = &guest{}
		p.guests[n.Name] = g
	}
	if g.running() {
		return fmt.Errorf("node %s has power: crash it first", n.Name)
	}
	if err := p.spec.prepareGuest(n); err != nil {
		return err
	}
	core, release, err := uml.LeaseCore(p.spec.Guest.Cache)
	if err != nil {
		return err
	}
	console, err := os.OpenFile(filepath.Join(p.spec.logDir(), n.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		release()
		return err
	}
	defer console.Close()
	g.boots++
	g.kernel = exec.Command(self, string(StageGuestKernel), p.spec.Run, n.Name, strconv.Itoa(g.boots), strconv.Itoa(core))
	g.kernel.Stdout, g.kernel.Stderr = console, console
	g.kernel.SysProcAttr = kernelNamespaces()
	if err := g.kernel.Start(); err != nil {
		release()
		return err
	}
	g.cut.Store(false)
	g.ended = make(chan struct{})
	go p.watch(n, g, console.Name(), release)
	return nil
}

// watch waits for the end of a boot, and tells of one that nobody wanted.
func (p *supply) watch(n nodeSpec, g *guest, log string, release func()) {
	err := g.kernel.Wait()
	release()
	e := event{Node: n.Name, Name: "kernel", Message: "power cut"}
	if !g.cut.Load() {
		e = event{Node: n.Name, Name: "kernel", Failed: true, Message: fmt.Sprint("ended: ", err), Log: tail(log, 25)}
	}
	p.sup.report(e)
	close(g.ended)
}

func (g *guest) running() bool {
	if g.ended == nil {
		return false
	}
	select {
	case <-g.ended:
		return false
	default:
		return true
	}
}
