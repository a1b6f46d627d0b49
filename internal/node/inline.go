package node

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/mnt"
	"github.com/dozo-dev/dozo/internal/pool"
)

// InlineRequest asks for a volume that is made on this node for one pod and deleted with it.
type InlineRequest struct {
	Volume       string // the handle: also the volume's name in its pool
	Pool         string // "": the only one
	Size         int64  // bytes
	Target       string // where it is mounted; it has no staging path
	FSType       string // "": ext4
	MountOptions []string
	ReadOnly     bool
}

// inline is what a record says of such a volume. It is written before the volume is made, so that
// whatever happens then, Unpublish finds what to delete.
type inline struct {
	Size int64 `json:"size"` // bytes, counted against the pool's limit
}

// The fields of an [InlineRequest] that errors name.
const (
	fieldPool = "volume_context[\"pool\"]"
	fieldSize = "volume_context[\"size\"]"
)

// PublishInline makes a volume in a pool of this node and mounts it at the target. Called again it
// finds all done. errs.Unsupported if the pool makes no such volumes, errs.NoSpace if its limit for
// them is reached.
func (n *Node) PublishInline(ctx context.Context, r InlineRequest) error {
	p, err := n.inlinePool(r.Pool)
	if err != nil {
		return err
	}
	s := StageRequest{
		Volume: r.Volume, Access: backend.LocalAccess(p.Name(), backend.IDFor(r.Volume)), Staging: r.Target,
		FSType: r.FSType, MountOptions: r.MountOptions, ReadOnly: r.ReadOnly,
	}
	if err := s.check(); err != nil {
		return err
	}
	size, err := p.SizeFor(r.Size, r.FSType)
	if err != nil {
		return errs.E(errs.KindOf(err), "%s: %w", fieldSize, err)
	}
	return n.operate(ctx, "publish", r.Volume, func(ctx context.Context) error {
		return n.publishInline(ctx, p, s, size)
	})
}

// UnpublishInline deletes a volume that PublishInline made, from the local record alone; one that
// is not here is no error. errs.InUse while something has it open.
func (n *Node) UnpublishInline(ctx context.Context, volume, target string) error {
	if err := checkVolume(volume); err != nil {
		return err
	}
	if err := mnt.CheckPath(fieldTarget, target); err != nil {
		return err
	}
	return n.operate(ctx, "unpublish", volume, func(ctx context.Context) error {
		rec, err := n.load(volume)
		switch {
		case err != nil:
			return err
		case rec == nil:
			if err := n.unpublish(ctx, volume, target); err != nil {
				return err
			}
			return n.forgetLeft("unpublish.record", volume)
		case rec.Inline == nil || rec.Staging != target:
			return nil // it is not there
		}
		return n.discard(ctx, rec)
	})
}

// inlinePool is a pool that makes such volumes.
func (n *Node) inlinePool(name string) (*pool.Pool, error) {
	p, err := n.pools.Get(name)
	switch {
	case err != nil:
		return nil, errs.E(errs.KindOf(err), "%s: %w", fieldPool, err)
	case !p.Kind().NodeBound:
		return nil, errs.E(errs.Unsupported, "%s: pool %s is not on this node, and inline volumes are made by the node; use a claim (generic ephemeral volume)", fieldPool, p.Name())
	case p.InlineLimit() == 0:
		return nil, errs.E(errs.Unsupported, "%s: pool %s makes no inline volumes, since anyone who can make pods could fill it; set its option %s to the most that they may take on a node together, such as 10Gi", fieldPool, p.Name(), pool.OptionInlineLimit)
	}
	return p, nil
}

func (n *Node) publishInline(ctx context.Context, p *pool.Pool, s StageRequest, size int64) error {
	fresh, err := n.reserve(ctx, p, s, size)
	if err != nil {
		return err
	}
	if _, err = p.Create(ctx, pool.VolumeRequest{Name: s.Volume, Required: size, FileSystems: []string{s.FSType}}); err == nil {
		err = n.stage(ctx, s)
	}
	if err != nil {
		return n.undoInline(context.WithoutCancel(ctx), p, s, fresh, err)
	}
	return nil
}

// reserve writes the record of a volume about to be made. fresh is false if there was one: then the
// volume may be there, with data.
func (n *Node) reserve(ctx context.Context, p *pool.Pool, s StageRequest, size int64) (fresh bool, err error) {
	unlock, err := n.files.Lock(ctx, "inline volumes of pool "+p.Name())
	if err != nil {
		return false, err
	}
	defer unlock()
	rec, _, err := n.recordFor(s)
	if err != nil {
		return false, err
	}
	if rec.Inline != nil {
		return false, n.sameInline(s, size)
	}
	// What was not made by PublishInline must not be deleted by UnpublishInline.
	switch _, err := p.Get(ctx, s.Access.Local.ID); {
	case err == nil:
		return false, errs.E(errs.Exists, "%s: pool %s has a volume of the name %s that no record on this node knows; delete it if it is left over", fieldVolume, p.Name(), s.Volume)
	case !errs.Is(err, errs.NotFound):
		return false, err
	}
	if err := n.fitInline(p, size); err != nil {
		return false, err
	}
	rec.Version, rec.Inline = inlineRecord, &inline{Size: size}
	return true, n.save("inline.record", rec)
}

// sameInline refuses a request that differs from that of the record, which may be from before a restart
// of the node: the volume is there still.
func (n *Node) sameInline(s StageRequest, size int64) error {
	old, err := n.load(s.Volume)
	switch {
	case err != nil:
		return err
	case old.Access.Local.Pool != s.Access.Local.Pool:
		return errs.E(errs.InUse, "%s: %s was made in pool %s; name that", fieldPool, s.Volume, old.Access.Local.Pool)
	case old.Inline.Size != size:
		return errs.E(errs.Exists, "%s: %s is there with %d bytes, not %d", fieldSize, s.Volume, old.Inline.Size, size)
	}
	return nil
}

// fitInline holds the inline volumes of a pool to its limit.
func (n *Node) fitInline(p *pool.Pool, size int64) error {
	records, err := n.records()
	if err != nil {
		return err
	}
	left := p.InlineLimit()
	for _, r := range records {
		if r.Inline != nil && r.Access.Local.Pool == p.Name() {
			left -= r.Inline.Size
		}
	}
	if size > left {
		return errs.E(errs.NoSpace, "%s: %s is more than the %s that is left of pool %s's %s of %s on this node", fieldSize,
			backend.FormatSize(size), backend.FormatSize(max(0, left)), p.Name(), pool.OptionInlineLimit, backend.FormatSize(p.InlineLimit()))
	}
	return nil
}

// undoInline takes back what was begun: whoever gets an error that will stay does not call
// Unpublish. A volume that may have data from before the node restarted is kept.
func (n *Node) undoInline(ctx context.Context, p *pool.Pool, s StageRequest, fresh bool, err error) error {
	rec, loadErr := n.load(s.Volume)
	if loadErr != nil || rec == nil {
		return err
	}
	if mounted, mountErr := n.mounted(fieldTarget, rec.Staging); mountErr != nil || mounted {
		return err
	}
	if !fresh {
		mark, known, markErr := p.Mark(ctx, rec.Access.Local.ID)
		if markErr != nil && !errs.Is(markErr, errs.NotFound) || markErr == nil && (!known || mark.Done) {
			return err
		}
	}
	if undo := n.discard(ctx, rec); undo != nil {
		return errs.E(errs.KindOf(err), "%w (and to undo it: %v)", err, undo)
	}
	return err
}

// discard unmounts and deletes the volume of a record, each step of which may be done already.
func (n *Node) discard(ctx context.Context, rec *record) error {
	if err := n.teardown(ctx, rec); err != nil {
		return err
	}
	p, err := locals{n.pools}.get(rec.Access.Local.Pool)
	if err != nil {
		return err
	}
	if err := p.Delete(ctx, rec.Access.Local.ID); err != nil {
		return err
	}
	return n.forget("unpublish.record", rec.Volume)
}
