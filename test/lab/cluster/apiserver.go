package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// APIServer is the API of a cluster without one: etcd and the API server, as
// processes on this machine. It serves tests of what speaks to the API alone,
// and is up in seconds. Both end with the process that started them.
type APIServer struct {
	// Kubeconfig is the administrator's.
	Kubeconfig string

	store  apiStore
	logs   string
	etcd   *child
	server *child
}

// StartAPIServer starts one with its files in dir, and returns when it is
// ready. It builds the two binaries if this cache has none: minutes, once.
func (l *Lab) StartAPIServer(ctx context.Context, dir string) (*APIServer, error) {
	tools, err := l.toolchain(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.buildSome(ctx, tools, "etcd", "kube-apiserver"); err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s := &spec{Run: dir, Bin: tools.dir, HostPort: ports[0]}
	if err := s.writeCredentials(); err != nil {
		return nil, err
	}
	a := &APIServer{
		Kubeconfig: filepath.Join(dir, "admin.kubeconfig"),
		logs:       dir,
		store: apiStore{
			bin: tools.dir, pki: s.pkiDir(), data: filepath.Join(dir, "etcd"), bind: "127.0.0.1", address: "127.0.0.1", port: ports[0],
			etcd: "http://127.0.0.1:" + strconv.Itoa(ports[1]), peer: "http://127.0.0.1:" + strconv.Itoa(ports[2]),
		},
	}
	if a.etcd, err = startChild(filepath.Join(dir, "etcd.log"), a.store.etcdCommand()); err != nil {
		return nil, err
	}
	if err := a.Resume(ctx); err != nil {
		a.Stop()
		return nil, err
	}
	return a, nil
}

// buildSome makes the binaries with the names, if need be.
func (l *Lab) buildSome(ctx context.Context, tools toolchain, names ...string) error {
	wanted := slices.DeleteFunc(clusterBinaries(), func(b binary) bool { return !slices.Contains(names, b.name) })
	if len(tools.missingBinaries(wanted)) == 0 {
		return nil
	}
	unlock, err := l.lock(ctx, "cache")
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(tools.dir, 0o755); err != nil {
		return err
	}
	for _, b := range wanted {
		if len(tools.missingBinaries([]binary{b})) == 0 {
			continue
		}
		if err := l.buildOne(ctx, tools, b); err != nil {
			return err
		}
	}
	return nil
}

// Resume starts the API server, after [APIServer.Interrupt] with all that it
// knew, and waits until it is ready.
func (a *APIServer) Resume(ctx context.Context) error {
	log := filepath.Join(a.logs, "kube-apiserver.log")
	var err error
	if a.server, err = startChild(log, a.store.serverCommand()); err != nil {
		return err
	}
	api, err := newAPIClient(a.store.pki, "https://127.0.0.1:"+strconv.Itoa(a.store.port))
	if err != nil {
		return err
	}
	return poll(ctx, readyTimeout, 50*time.Millisecond, func(ctx context.Context) error {
		err := api.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-a.server.ended:
			return &fatalError{fmt.Errorf("kube-apiserver ended: %w\n%s", a.server.err, tail(log, 15))}
		default:
			return err
		}
	})
}

// Interrupt kills the API server, and leaves etcd.
func (a *APIServer) Interrupt() { a.server.kill() }

// Stop ends both.
func (a *APIServer) Stop() {
	if a.server != nil {
		a.server.kill()
	}
	a.etcd.kill()
}

// child is a long-running process that the kernel kills when its parent dies.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended is closed
}

func startChild(log string, args []string) (*child, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c := &child{cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = file, file
	c.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started := make(chan error)
	go func() {
		// The signal comes when the thread ends that started the child, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = errors.Join(c.cmd.Wait(), errors.New("ended"))
			close(c.ended)
		}
	}()
	return c, <-started
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
}

// freePorts finds ports on the loopback that nobody listens at.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
