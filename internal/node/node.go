// Package node is what happens to a volume on the node that uses it: stage, publish, expand, stats
// and back, as a plain Go API over pools and the host. What was done to a volume is kept in a stage
// record on the node's disk, so that it can be undone from there alone.
package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/connect"
	"github.com/dozo-dev/dozo/internal/host/mnt"
	"github.com/dozo-dev/dozo/internal/keylock"
	"github.com/dozo-dev/dozo/internal/pool"
)

// Node is this machine as a user of volumes. It is safe for concurrent use.
type Node struct {
	host    *host.Host
	pools   *pool.Set
	opts    Options
	connect *connect.Connector
	logins  *mnt.Logins
	flushes flushes
	locks   *keylock.Locks // in this process, by volume
	files   *host.LockFile // against other processes, by volume
	log     *slog.Logger

	unlimited chan struct{} // a pod is without its limits
}

// Options configure a Node.
type Options struct {
	Name       string       // as Kubernetes knows it
	StateDir   string       // stage records; made if need be, must survive a restart of this process
	TargetRoot string       // staging and target paths below it are entered without following symlinks; "" = none
	Log        *slog.Logger // nil: slog.Default()
}

// StageRequest asks for a volume to be made ready on this node, once for all who use it here.
type StageRequest struct {
	Volume       string // the handle, as an opaque key
	Access       backend.Access
	Staging      string // directory to mount at; unused for a block volume
	Block        bool
	FSType       string   // "": ext4, or whatever is there already
	MountOptions []string // as for mount(8)
	MkfsOptions  []string
	ReadOnly     bool              // every use of it on this node only reads
	Secrets      map[string]string // of an encrypted volume: see package crypt; of a target that wants a login: see package iscsi; of a share by SMB: see package mnt
}

// PublishRequest asks for a staged volume to appear at a path.
type PublishRequest struct {
	Volume       string
	Staging      string
	Target       string
	Block        bool
	ReadOnly     bool
	SingleWriter bool // refuse a second target on this node
	MountOptions []string
}

// Stats is the use of a volume. Inodes and bytes but Total are 0 for a block volume.
type Stats struct {
	TotalBytes, UsedBytes, AvailableBytes    int64
	TotalInodes, UsedInodes, AvailableInodes int64
	Block                                    bool
}

// New returns the node. It makes the state directory.
func New(h *host.Host, pools *pool.Set, o Options) (*Node, error) {
	if !filepath.IsAbs(o.StateDir) {
		return nil, errs.E(errs.Invalid, "state directory: %.200q is not an absolute path", o.StateDir)
	}
	err := h.Do("node.statedir", func() error { return os.MkdirAll(o.StateDir, 0o700) })
	if err != nil {
		return nil, errs.E(errs.Unavailable, "state directory: %w", err)
	}
	files, err := host.OpenLockFile(filepath.Join(o.StateDir, "lock"))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "state directory: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Node{
		log: o.Log, unlimited: make(chan struct{}, 1),
		host: h, pools: pools, opts: o, files: files,
		connect: connect.New(h, locals{pools}, connect.Options{StateDir: o.StateDir, Locks: files, Log: o.Log}),
		logins:  mnt.NewLogins(time.Now),
		flushes: flushes{running: map[string]*flush{}},
		locks:   keylock.New(time.Now),
	}, nil
}

// Name is the node's name.
func (n *Node) Name() string { return n.opts.Name }

// Stage makes a volume ready. Called again with the same request it finds all done. If ctx ends
// first, the work goes on and a repeated call joins it (errs.Aborted says what is going on).
// errs.InUse if it is staged elsewhere or holds what is not ours to format, errs.Exists if it is
// staged with other options.
func (n *Node) Stage(ctx context.Context, r StageRequest) error {
	if err := r.check(); err != nil {
		return err
	}
	return n.operate(ctx, "stage", r.Volume, func(ctx context.Context) error { return n.stage(ctx, r) })
}

// Unstage undoes Stage from the local record alone; a volume that is not staged is no error.
// errs.InUse while it is published, or open.
func (n *Node) Unstage(ctx context.Context, volume, staging string) error {
	if err := checkVolume(volume); err != nil {
		return err
	}
	if err := mnt.CheckPath(fieldStaging, staging); err != nil {
		return err
	}
	return n.operate(ctx, "unstage", volume, func(ctx context.Context) error { return n.unstage(ctx, volume, staging) })
}

// Publish binds a staged volume to a target path. errs.InUse if the volume is not staged, or the
// target or (for a single writer) the volume is taken; errs.Exists if it is published there
// otherwise.
func (n *Node) Publish(ctx context.Context, r PublishRequest) error {
	if err := r.check(); err != nil {
		return err
	}
	return n.operate(ctx, "publish", r.Volume, func(ctx context.Context) error { return n.publish(ctx, r) })
}

// Unpublish undoes Publish and removes the target, which must be empty then.
func (n *Node) Unpublish(ctx context.Context, volume, target string) error {
	if err := checkVolume(volume); err != nil {
		return err
	}
	if err := mnt.CheckPath(fieldTarget, target); err != nil {
		return err
	}
	return n.operate(ctx, "unpublish", volume, func(ctx context.Context) error { return n.unpublish(ctx, volume, target) })
}

// Expand makes the device and the file system as large as the volume is, and returns the size of
// the device in bytes. errs.NotFound unless the volume is staged or published at path.
func (n *Node) Expand(ctx context.Context, volume, path string) (size int64, err error) {
	if err := checkVolume(volume); err != nil {
		return 0, err
	}
	if err := mnt.CheckPath(fieldPath, path); err != nil {
		return 0, err
	}
	err = n.operate(ctx, "expand", volume, func(ctx context.Context) error {
		got, err := n.expand(ctx, volume, path)
		if err == nil {
			size = got
		}
		return err
	})
	return size, err
}
