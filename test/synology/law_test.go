package synology_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	kind "github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/synology"
)

// TestLaw is the law of backends, with bytes that a node writes: to disks that it logged in for, and to files on shares that it mounted.
func TestLaw(t *testing.T) {
	lab.Long(t, "5 to 10 minutes")
	for name, protocol := range map[string]string{"LUNs": "iscsi", "shares": "nfs", "shares by SMB": "smb"} {
		t.Run(name, func(t *testing.T) {
			if !lab.Run(t, synology.Guest()) {
				return
			}
			b := synology.Start(t, synology.Options{Pool: synology.Protocol(protocol), Log: slog.New(slog.DiscardHandler)})
			l := lawBed{Bed: b, node: newNode(t, b)}
			backendtest.Run(t, backendtest.Harness{
				Kind: kind.Kind(), Size: 4 * mib, Thin: true, Callers: 8, Timeout: 5 * time.Minute,
				// Who is attached to a share is in its description, which DSM overwrites without looking.
				Elected: protocol != "iscsi",
				Open:    l.open,
				Reopen:  func(t testing.TB, _ backend.Backend) backend.Backend { return l.open(t) },
				Data:    l.data,
				Unreachable: func(t testing.TB, _ backend.Backend) func() {
					must(t, b.Server.Stop())
					return func() { must(t, b.Server.Start()) }
				},
				Leaks: func(testing.TB, backend.Backend) []string { return b.Left() },
			})
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type lawBed struct {
	*synology.Bed
	node *node.Node
}

func newNode(t *testing.T, b *synology.Bed) *node.Node {
	t.Helper()
	pools, err := pool.NewSet()
	must(t, err)
	dir := filepath.Join(b.Dir, synology.Node1)
	n, err := node.New(host.New(), pools, node.Options{Name: synology.Node1, StateDir: filepath.Join(dir, "state"), TargetRoot: dir, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	return n
}

// volumes are a pool's, of one sort: shares have no snapshots.
type volumes struct {
	*kind.Backend
	shares bool
}

// Mask is [backend.Proxy].
func (v volumes) Mask() backend.Mask {
	m := kind.Kind().Mask(nil)
	m.Snapshotter = !v.shares
	return m
}

func (l lawBed) open(t testing.TB) backend.Backend {
	b, err := pool.OpenBackend(t.Context(), kind.Kind(), l.Spec, pool.Options{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	return &volumes{b.(*kind.Backend), l.Spec.Options["protocol"] != "iscsi"}
}

// data opens a volume as a pod of the node has it: the device, or a file on the share.
func (l lawBed) data(_ testing.TB, b backend.Backend, id backend.ID) (backendtest.Content, error) {
	ctx := context.Background()
	addresses, err := synology.Nodes(ctx, synology.Node1)
	if err != nil {
		return nil, err
	}
	a, err := b.(*volumes).Attach(ctx, id, backend.AttachRequest{Node: synology.Node1, Addresses: addresses})
	if err != nil {
		return nil, err
	}
	base := filepath.Join(l.Dir, synology.Node1, string(id))
	c := &content{lawBed: l, b: b.(*volumes), id: id, handle: "nas:" + string(id), staging: base + ".staging", target: base + ".pod", share: a.Mount != nil}
	if err := c.open(ctx, a); err != nil {
		return nil, errors.Join(err, c.release(ctx))
	}
	return c, nil
}

type content struct {
	lawBed
	*os.File
	b                       *volumes
	id                      backend.ID
	handle, staging, target string
	share                   bool
}

func (c *content) open(ctx context.Context, a backend.Access) (err error) {
	err = c.node.Stage(ctx, node.StageRequest{Volume: c.handle, Access: a, Staging: c.staging, Block: !c.share, Secrets: synology.NodeSecret()})
	if err != nil {
		return err
	}
	if err := c.node.Publish(ctx, node.PublishRequest{Volume: c.handle, Staging: c.staging, Target: c.target, Block: !c.share}); err != nil {
		return err
	}
	path := c.target
	if c.share {
		path = filepath.Join(path, "data")
	}
	c.File, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	return err
}

// ReadAt is that of a file, which in a share has zeros behind its end.
func (c *content) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.File.ReadAt(p, at)
	if c.share && errors.Is(err, io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

// Close has the pod end.
func (c *content) Close() error {
	return errors.Join(c.File.Close(), c.release(context.Background()))
}

func (c *content) release(ctx context.Context) error {
	if err := c.node.Unpublish(ctx, c.handle, c.target); err != nil {
		return err
	}
	if err := c.node.Unstage(ctx, c.handle, c.staging); err != nil {
		return err
	}
	return c.b.Detach(ctx, c.id, synology.Node1)
}
