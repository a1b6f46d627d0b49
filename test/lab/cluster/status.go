package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"
)

// Status prints what is up, what died, and where to look.
func (l *Lab) Status(ctx context.Context, out io.Writer) error {
	p, err := readProcess(l.pidFile())
	if err != nil {
		return err
	}
	if !p.alive() {
		fmt.Fprintf(out, "lab %q is down (%s)\n", l.Name, l.Run())
		return nil
	}
	fmt.Fprintf(out, "lab %q is up: process %d, logs in %s\n", l.Name, p.PID, l.logDir())
	fmt.Fprintf(out, "KUBECONFIG=%s\n", l.Kubeconfig())
	s, err := readSpec(l.Run())
	if err != nil {
		return err
	}
	if err := l.printNodes(ctx, out, s); err != nil {
		fmt.Fprintln(out, "the API server does not answer:", err)
	}
	if err := l.printPower(ctx, out, s); err != nil {
		return err
	}
	events, err := l.events()
	if err != nil {
		return err
	}
	failed := 0
	for _, e := range events {
		if e.Failed {
			failed++
			fmt.Fprintln(out, e.describe())
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d components have ended", failed)
	}
	return nil
}

// printPower prints which nodes have none, which the API server notices late.
func (l *Lab) printPower(ctx context.Context, out io.Writer, s *spec) error {
	if s.Guest == nil {
		return nil
	}
	for _, n := range s.machines() {
		state, err := l.power(ctx, http.MethodGet, n.Name, "")
		if err != nil {
			return err
		}
		if state == powerOff {
			fmt.Fprintf(out, "node %s has no power\n", n.Name)
		}
	}
	return nil
}

func (l *Lab) printNodes(ctx context.Context, out io.Writer, s *spec) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	api, err := newAPIClient(filepath.Join(l.Run(), "pki"), l.hostURL(s))
	if err != nil {
		return err
	}
	nodes, err := api.nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		ready, message := n.condition("Ready")
		if ready {
			message = "ready"
		}
		fmt.Fprintf(out, "node %s  kubelet %s  %s  Linux %s  %s\n", n.Metadata.Name,
			n.Status.NodeInfo.KubeletVersion, n.Status.NodeInfo.ContainerRuntimeVersion, n.Status.NodeInfo.KernelVersion, message)
	}
	return nil
}
