// Package demo drives a CSI driver through the life of a few volumes, exactly as a kubelet and the
// Kubernetes sidecars would, and proves that data survives and that nothing is left afterwards.
package demo

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/host"
)

// Options say what to drive and where.
type Options struct {
	Conn *grpc.ClientConn // to the driver
	Pool string           // the pool of the demo, in parameters["pool"]
	FS   string           // ext4, xfs, btrfs, or block for a raw device
	Size int64            // bytes of the first volume
	Dir  string           // a fresh directory: paths of the "kubelet" are made in it
	Keep bool             // leave volumes mounted at the end
	Host *host.Host       // where to look for what is left
	Out  io.Writer        // progress and the closing tables
}

// BlockFS is the value of Options.FS for a raw block volume.
const BlockFS = "block"

// demo is one run.
type demo struct {
	Options
	controller csi.ControllerClient
	node       csi.NodeClient
	calls      calls
	volumes    []*volume // newest last: torn down in reverse
	snapshots  []string
	sum        string // of the data written
}

// step is a part of the demo that people see as one thing.
type step struct {
	what string
	do   func(context.Context) (note string, err error)
}

// stepTimeout is the deadline of one step: the longest of the sidecars' default timeouts, doubled.
const stepTimeout = 2 * time.Minute

// Run runs the demo. On failure it tears down what it can and returns the reason.
func Run(ctx context.Context, o Options) error {
	d := &demo{Options: o}
	d.calls.now = time.Now
	d.controller = csi.NewControllerClient(d.calls.on(o.Conn))
	d.node = csi.NewNodeClient(d.calls.on(o.Conn))
	if _, err := csi.NewIdentityClient(o.Conn).Probe(ctx, &csi.ProbeRequest{}); err != nil {
		return fmt.Errorf("the driver does not answer: %w", err)
	}
	began := time.Now()
	err := d.runAll(ctx, d.story())
	if err == nil && o.Keep {
		d.printKept()
		return nil
	}
	if down := d.runAll(context.WithoutCancel(ctx), d.teardown()); err == nil {
		err = down
	}
	d.calls.print(o.Out)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "\nAll is well: %d CSI calls in %v; no loop device, mount or file is left.\n",
		d.calls.count(), time.Since(began).Round(time.Millisecond))
	return nil
}

// runAll runs steps up to the first that fails.
func (d *demo) runAll(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if err := d.run(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

func (d *demo) run(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	began := time.Now()
	note, err := s.do(ctx)
	sign := "ok  "
	if err != nil {
		err = plain(err)
		sign, note = "FAIL", err.Error()
	}
	fmt.Fprintf(d.Out, "%s %-42s %10s  %s\n", sign, s.what, short(time.Since(began)), note)
	return err
}

// plain is an error as people want it: what the driver said, without the words of gRPC around it.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return fmt.Errorf("%s (%s)", s.Message(), s.Code())
	}
	return err
}

// volume is a volume on its way through the demo.
type volume struct {
	name    string
	size    int64
	handle  string
	context map[string]string
}

func (d *demo) staging(v *volume) string { return filepath.Join(d.Dir, "staging", v.name) }
func (d *demo) target(v *volume) string  { return filepath.Join(d.Dir, "pods", v.name, "mount") }
