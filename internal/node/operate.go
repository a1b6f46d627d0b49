package node

import (
	"context"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/fs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
	"github.com/dozo-dev/dozo/internal/keylock"
	"github.com/dozo-dev/dozo/internal/pool"
)

// budget is the longest that one operation may take: an fsck of an hour, and what is around it.
const budget = 2 * time.Hour

// The fields that errors name.
const (
	fieldVolume  = "volume_id"
	fieldStaging = "staging_target_path"
	fieldTarget  = "target_path"
	fieldPath    = "volume_path"
	fieldOptions = "mount_options"
)

// operate runs one operation on a volume, which nobody else does anything to meanwhile: nobody in
// this process, and no other process of ours, of which there are two during an update. It goes on
// when the caller gives up: a mkfs that is killed at the kubelet's deadline would never be done.
func (n *Node) operate(ctx context.Context, op, volume string, do func(context.Context) error) error {
	wait := ctx // the work's context is another one
	_, err := keylock.Run(ctx, n.locks, keylock.Work[struct{}]{
		Op: op + " " + volume, Keys: keylock.Keys{Alone: []string{volume}}, Budget: budget,
		Do: func(ctx context.Context) (struct{}, error) {
			unlock, err := n.files.Lock(wait, volume)
			if err != nil {
				return struct{}{}, err
			}
			defer unlock()
			return struct{}{}, do(ctx)
		},
	})
	return err
}

// place holds a path of the volume's.
func (n *Node) place(field, path string) (*mnt.Place, error) {
	return mnt.Open(n.host, field, n.opts.TargetRoot, path)
}

// locals is the pools as connect wants them.
type locals struct{ pools *pool.Set }

func (l locals) get(name string) (*pool.Pool, error) {
	p, err := l.pools.Get(name)
	if err != nil {
		// That is not for the caller to set right, and no proof that the volume is gone.
		return nil, errs.E(errs.Unavailable, "this node: %w", err)
	}
	return p, nil
}

// Activate is [connect.Local].
func (l locals) Activate(ctx context.Context, name string, id backend.ID) (string, error) {
	p, err := l.get(name)
	if err != nil {
		return "", err
	}
	return p.Activate(ctx, id)
}

// Deactivate is [connect.Local].
func (l locals) Deactivate(ctx context.Context, name string, id backend.ID) error {
	p, err := l.get(name)
	if err != nil {
		return err
	}
	return p.Deactivate(ctx, id)
}

// marks is what a volume's storage remembers of its formatting.
type marks struct {
	pool *pool.Pool
	id   backend.ID
}

// Mark is [fs.Marks].
func (m marks) Mark(ctx context.Context) (backend.Mark, bool, error) { return m.pool.Mark(ctx, m.id) }

// SetMark is [fs.Marks].
func (m marks) SetMark(ctx context.Context, v backend.Mark) error {
	return m.pool.SetMark(ctx, m.id, v)
}

// marks are those that a volume's pool keeps, and of a disk whose storage this node cannot ask those on the
// disk itself.
func (n *Node) marks(a backend.Access, device string) (fs.Marks, error) {
	if a.ISCSI != nil && a.ISCSI.Raw {
		return fs.Told(backend.Mark{FS: backend.Raw, Done: true}), nil
	}
	if a.Local == nil {
		first := ""
		if a.Encryption != nil {
			first = a.Encryption.Type
		}
		return fs.NewOnDevice(n.host, device, a.ISCSI.WWID, first), nil
	}
	p, err := locals{n.pools}.get(a.Local.Pool)
	if err != nil {
		return nil, err
	}
	return marks{pool: p, id: a.Local.ID}, nil
}
