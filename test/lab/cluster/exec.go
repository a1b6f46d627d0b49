package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/lab/agent"
)

// Exec runs a program as root inside a node, or beside the control plane when
// node is empty. One that fails gives an *exec.ExitError, or an
// *agent.ExitError from a node with a kernel of its own.
func (l *Lab) Exec(ctx context.Context, node string, args []string, streams agent.Streams) error {
	s, err := l.spec()
	if err != nil {
		return err
	}
	if node != "" {
		n, err := s.node(node)
		if err != nil {
			return err
		}
		if s.Guest != nil {
			return l.execGuest(ctx, s, n, args, streams)
		}
	}
	proc, err := l.procDir(node)
	if err != nil {
		return err
	}
	return onOwnThread(func() error {
		if err := enterNamespaces(proc); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = streams.In, streams.Out, streams.Err
		return cmd.Run()
	})
}

// execGuest has the node's agent run the program.
func (l *Lab) execGuest(ctx context.Context, s *spec, n nodeSpec, args []string, streams agent.Streams) error {
	if state, err := l.power(ctx, http.MethodGet, n.Name, ""); err != nil || state == powerOff {
		return cmp.Or(err, fmt.Errorf("node %s has no power: lab boot %s", n.Name, n.Name))
	}
	conn, err := l.dialInside(net.JoinHostPort(n.address(), agentPort))
	if err != nil {
		return fmt.Errorf("node %s does not answer: %w", n.Name, err)
	}
	config, err := agentTLS(s.pkiDir(), adminUser)
	if err != nil {
		conn.Close()
		return err
	}
	config.ServerName = n.Name
	return agent.Run(ctx, tls.Client(conn, config), args, streams)
}

// dialInside connects to an address in the cluster's network.
func (l *Lab) dialInside(address string) (conn net.Conn, err error) {
	proc, err := l.procDir("")
	if err != nil {
		return nil, err
	}
	network, err := unix.Open(filepath.Join(proc, "ns", "net"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(network)
	err = onOwnThread(func() error {
		if err := unix.Setns(network, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering the cluster's network: %w", err)
		}
		// An address needs no resolver, so the socket is made on this thread.
		conn, err = net.DialTimeout("tcp", address, 10*time.Second)
		return err
	})
	return conn, err
}

// onOwnThread calls fn on a thread that ends with it, and may be moved to other
// namespaces therefore. It is never the main one, whose files below /proc/self
// are the process'.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// It cannot end: hold it while another one is found.
			err := onOwnThread(fn)
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}
