package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Up starts the lab and returns when all its nodes are ready. It builds what is
// not built yet. A lab that does not come up is taken down again unless the
// configuration keeps it.
func (l *Lab) Up(ctx context.Context, c Config) error {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return err
	}
	if err := l.Prerequisites(c.Kernel); err != nil {
		return err
	}
	unlock, err := l.lock(ctx, "lab "+l.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if p, err := readProcess(l.pidFile()); err != nil {
		return err
	} else if p.alive() {
		return fmt.Errorf("lab %q is up already (process %d); take it down first", l.Name, p.PID)
	}
	if err := l.down(); err != nil { // what a crash left behind
		return err
	}
	tools, s, err := l.provide(ctx, c)
	if err != nil {
		return err
	}
	err = l.start(ctx, tools, s)
	if err != nil && !c.Keep {
		if downErr := l.down(); downErr != nil {
			return fmt.Errorf("%w; and taking it down failed: %w", err, downErr)
		}
	}
	return err
}

// provide makes what the cache lacks, and says what the lab will be. Labs of
// one cache take turns at it.
func (l *Lab) provide(ctx context.Context, c Config) (tools toolchain, s *spec, err error) {
	unlock, err := l.lock(ctx, "cache")
	if err != nil {
		return tools, nil, err
	}
	defer unlock()
	if tools, err = l.buildLocked(ctx, false); err != nil {
		return tools, nil, err
	}
	store, err := l.imageStore(ctx, tools)
	if err != nil {
		return tools, nil, err
	}
	s = &spec{Run: l.Run(), Bin: tools.dir, Images: store, Cgroup: l.cgroup(), NAS: c.NAS}
	for i := range c.Nodes {
		s.Nodes = append(s.Nodes, nodeSpec{Name: "n" + strconv.Itoa(i+1), Index: i + 1})
	}
	if c.Kernel == KernelGuest {
		s.Guest, err = l.provideGuests(ctx, store, c)
	}
	return tools, s, err
}

// start launches the init and waits for the cluster.
func (l *Lab) start(ctx context.Context, tools toolchain, s *spec) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	s.HostPort = listener.Addr().(*net.TCPAddr).Port
	if err := l.prepare(ctx, s); err != nil {
		return err
	}
	l.Progress.Step("starting the control plane and %d nodes%s", len(s.Nodes), s.kernels())
	if err := l.launch(listener.(*net.TCPListener)); err != nil {
		return err
	}
	api, err := newAPIClient(s.pkiDir(), l.hostURL(s))
	if err != nil {
		return err
	}
	if err := l.await(ctx, readyTimeout, api.ready); err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	l.Progress.Step("API server ready")
	if err := l.installSnapshots(ctx, tools); err != nil {
		return err
	}
	if err := l.awaitNodes(ctx, api, len(s.Nodes)); err != nil {
		return err
	}
	if err := l.awaitSnapshots(ctx, api); err != nil {
		return err
	}
	if s.NAS {
		if err := l.awaitNAS(ctx); err != nil {
			return err
		}
	}
	l.Progress.Step("up: export KUBECONFIG=%s", l.Kubeconfig())
	return nil
}

func (l *Lab) hostURL(s *spec) string { return "https://127.0.0.1:" + strconv.Itoa(s.HostPort) }

// prepare makes the run directory and everything in it that the processes
// inside the namespaces find there.
func (l *Lab) prepare(ctx context.Context, s *spec) error {
	for _, dir := range []string{l.logDir(), l.nodesDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, n := range s.machines() {
		if err := os.MkdirAll(l.node(n.Name), 0o755); err != nil {
			return err
		}
	}
	if s.NAS {
		if err := l.prepareNAS(ctx); err != nil {
			return err
		}
	}
	if err := l.copySelf(ctx, filepath.Join(l.Run(), "lab"), s.Guest != nil); err != nil {
		return err
	}
	if err := s.write(); err != nil {
		return err
	}
	if err := s.writeCredentials(); err != nil {
		return err
	}
	if s.Guest != nil {
		return nil // pods are in their kernels' cgroups
	}
	return makeCgroups(s.Cgroup, s.Nodes)
}

// copySelf keeps the program for as long as the lab: "go run" deletes it. In
// guests one with the race detector does not start.
func (l *Lab) copySelf(ctx context.Context, target string, inGuests bool) error {
	if inGuests && builtWithRace() {
		source, err := findSource()
		if err != nil {
			return err
		}
		_, err = goCommand(filepath.Join(source, "..", "..", ".."), buildTimeout, "build", "-o", target, "./test/lab/cmd/lab").run(ctx)
		return err
	}
	return copyFile(self, target, 0o755)
}

func copyFile(source, target string, mode os.FileMode) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// launch starts the init of the namespaces and lets go of it.
func (l *Lab) launch(listener *net.TCPListener) error {
	socket, err := listener.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	events, err := os.OpenFile(l.eventsFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer events.Close()
	log, err := os.Create(filepath.Join(l.logDir(), "cluster.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(l.Run(), "lab"), string(StageClusterInit), l.Run())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{events, socket}
	cmd.SysProcAttr = namespaces()
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("creating namespaces: %w", err)
	}
	go cmd.Wait() // so that an early death shows as one
	p, err := findProcess(cmd.Process.Pid)
	if err != nil {
		return err
	}
	return p.write(l.pidFile())
}

// await polls until done succeeds, and gives up at once when a component or
// the whole lab has died.
func (l *Lab) await(ctx context.Context, timeout time.Duration, done func(context.Context) error) error {
	return poll(ctx, timeout, 200*time.Millisecond, func(ctx context.Context) error {
		err := done(ctx)
		if err == nil {
			return nil
		}
		if failure := l.failure(); failure != nil {
			return &fatalError{failure}
		}
		return err
	})
}

// failure tells of the first component that ended, or of the init's end.
func (l *Lab) failure() error {
	events, err := l.events()
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Failed {
			return fmt.Errorf("%s", e.describe())
		}
	}
	if p, err := readProcess(l.pidFile()); err == nil && !p.alive() {
		return fmt.Errorf("the lab's init has ended:\n%s", tail(filepath.Join(l.logDir(), "cluster.log"), 20))
	}
	return nil
}

// events reads what the processes inside have reported so far, those in guests
// to files of their own.
func (l *Lab) events() ([]event, error) {
	data, err := os.ReadFile(l.eventsFile())
	if err != nil {
		return nil, err
	}
	ofGuests, err := filepath.Glob(filepath.Join(l.nodesDir(), "*", filepath.Base(l.eventsFile())))
	if err != nil {
		return nil, err
	}
	for _, file := range ofGuests {
		more, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		data = append(append(data, '\n'), more...)
	}
	var events []event
	for line := range strings.Lines(string(data)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			continue // the last line may be half written
		}
		events = append(events, e)
	}
	return events, nil
}

func (e event) describe() string {
	where := e.Name
	if e.Node != "" {
		where += " on " + e.Node
	}
	text := fmt.Sprintf("%s: %s at %s", where, e.Message, e.Time.Format(time.TimeOnly))
	if e.Log != "" {
		text += "; its log ends:\n" + e.Log
	}
	return text
}

// awaitNodes waits for the nodes and prints each when it is ready.
func (l *Lab) awaitNodes(ctx context.Context, api *apiClient, wanted int) error {
	seen := map[string]bool{}
	err := l.await(ctx, readyTimeout, func(ctx context.Context) error {
		nodes, err := api.nodes(ctx)
		if err != nil {
			return err
		}
		why := "no more registered"
		for _, n := range nodes {
			ready, message := n.condition("Ready")
			if !ready {
				why = n.Metadata.Name + ": " + message
			} else if !seen[n.Metadata.Name] {
				seen[n.Metadata.Name] = true
				l.Progress.Step("node %s ready", n.Metadata.Name)
			}
		}
		if len(seen) < wanted {
			return fmt.Errorf("%d of %d nodes ready; %s", len(seen), wanted, why)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("nodes do not become ready; see %s/*/root/var/log/kubelet.log: %w", l.nodesDir(), err)
	}
	return nil
}
