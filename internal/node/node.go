// Package node is what happens to a volume on the node that uses it: stage, publish, expand, stats
// and back, as a plain Go API over pools and the host. What was done to a volume is kept in a stage
// record on the node's disk, so that it can be undone from there alone.
package node

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
)

// Node is this machine as a user of volumes. It is safe for concurrent use.
type Node struct {
	host  *host.Host
	pools *pool.Set
	opts  Options
}

// Options configure a Node.
type Options struct {
	Name       string // as Kubernetes knows it
	StateDir   string // stage records; made if need be, must survive a restart of this process
	TargetRoot string // staging and target paths below it are entered without following symlinks; "" = none
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
	ReadOnly     bool // every use of it on this node only reads
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
func New(h *host.Host, pools *pool.Set, o Options) (*Node, error) { panic("TODO") }

// Name is the node's name.
func (n *Node) Name() string { return n.opts.Name }

// Stage makes a volume ready. Called again with the same request it finds all done.
func (n *Node) Stage(ctx context.Context, r StageRequest) error { panic("TODO") }

// Unstage undoes Stage from the local record alone; a volume that is not staged is no error.
func (n *Node) Unstage(ctx context.Context, volume, staging string) error { panic("TODO") }

// Publish binds a staged volume to a target path.
func (n *Node) Publish(ctx context.Context, r PublishRequest) error { panic("TODO") }

// Unpublish undoes Publish and removes the target, which must be empty then.
func (n *Node) Unpublish(ctx context.Context, volume, target string) error { panic("TODO") }

// Expand makes the device and the file system as large as the volume is, and returns the size of
// the device in bytes.
func (n *Node) Expand(ctx context.Context, volume, path string) (int64, error) { panic("TODO") }

// Stats returns the use of the volume published or staged at path.
func (n *Node) Stats(ctx context.Context, volume, path string) (Stats, error) { panic("TODO") }

// Health returns what is wrong with a volume as seen from this node.
func (n *Node) Health(ctx context.Context, volume string) ([]backend.Problem, error) { panic("TODO") }
