package node

import (
	"context"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/mnt"
)

func (r PublishRequest) check() error {
	_, optionsErr := mnt.ParseOptions(fieldOptions, r.MountOptions)
	for _, err := range []error{
		checkVolume(r.Volume), mnt.CheckPath(fieldStaging, r.Staging), mnt.CheckPath(fieldTarget, r.Target), optionsErr,
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// staged returns the record of a volume that is staged for the request.
func (n *Node) staged(r PublishRequest) (*record, error) {
	rec, err := n.load(r.Volume)
	if err != nil {
		return nil, err
	}
	boot, err := n.boot()
	switch {
	case err != nil:
		return nil, err
	case rec == nil || rec.Boot != boot:
		return nil, errs.E(errs.InUse, "%s: %s is not staged on this node; stage it first", fieldVolume, r.Volume)
	case rec.Staging != r.Staging:
		return nil, errs.E(errs.InUse, "%s: %s is staged at %s", fieldStaging, r.Volume, rec.Staging)
	case rec.Block != r.Block:
		return nil, errs.E(errs.InUse, "volume_capability: %s is staged with block=%v", r.Volume, rec.Block)
	}
	return rec, nil
}

func (n *Node) publish(ctx context.Context, r PublishRequest) error {
	rec, err := n.staged(r)
	if err != nil {
		return err
	}
	if r.SingleWriter {
		if other, err := n.live(rec, r.Target); err != nil {
			return err
		} else if other != "" {
			return errs.E(errs.InUse, "volume_capability: %s is for a single writer and is published at %s", r.Volume, other)
		}
	}
	if owner, err := n.owner(r.Target, r.Volume); err != nil {
		return err
	} else if owner != "" {
		return errs.E(errs.InUse, "%s: %s is taken by volume %s", fieldTarget, r.Target, owner)
	} else if r.Target == rec.Staging {
		return errs.E(errs.Invalid, "%s: is the staging path", fieldTarget)
	}
	at, err := n.place(fieldTarget, r.Target)
	if errs.Is(err, errs.NotFound) {
		return errs.E(errs.Invalid, "%w", err) // the volume was not looked for
	}
	if err != nil {
		return err
	}
	defer at.Close()
	options, _ := mnt.ParseOptions(fieldOptions, r.MountOptions)
	p := publication{
		node: n, rec: rec, at: at, options: options,
		want: target{Path: r.Target, ReadOnly: r.ReadOnly || options.ReadOnly || rec.readOnly()},
	}
	if err := p.run(ctx); err != nil {
		return err
	}
	n.limitTarget(ctx, rec, r.Target)
	return nil
}

// publication is one target on its way.
type publication struct {
	node    *Node
	rec     *record
	at      *mnt.Place
	options mnt.Options
	want    target
}

func (p *publication) run(ctx context.Context) error {
	m, err := p.at.Mounted()
	if err != nil {
		return err
	}
	if p.rec.Block {
		return p.block(ctx, m)
	}
	from, err := p.node.place(fieldStaging, p.rec.Staging)
	if err != nil {
		return err
	}
	defer from.Close()
	staged, err := from.Mounted()
	if err != nil {
		return err
	}
	if staged == nil {
		return errs.E(errs.InUse, "%s: %s is not mounted at %s; stage it again", fieldVolume, p.rec.Volume, p.rec.Staging)
	}
	if m != nil {
		return p.found(m, mnt.Same(m, staged) && m.Source == staged.Source)
	}
	if p.rec.Access.Mount != nil { // to bind it is to ask it, and a server that is away would hold us
		if err := p.node.alive(ctx, p.rec, from); err != nil {
			return err
		}
	}
	return p.add(ctx, func() (*host.MountInfo, error) {
		return mnt.Bind(p.node.host, "publish.bind", from, p.at, p.options, p.want.ReadOnly)
	})
}

func (p *publication) block(ctx context.Context, m *host.MountInfo) error {
	n := p.node
	d, err := n.found(ctx, p.rec, false)
	if err != nil {
		return err
	}
	device := d.path
	number, err := n.host.DeviceNumber(device)
	if err != nil {
		return err
	}
	p.rec.Device = device
	if m != nil {
		there, err := p.at.Device()
		return p.found(m, err == nil && there == number)
	}
	return p.add(ctx, func() (*host.MountInfo, error) {
		return mnt.BindDevice(n.host, "publish.bind", device, p.at, p.want.ReadOnly)
	})
}

// found deals with a target at which something is mounted already.
func (p *publication) found(m *host.MountInfo, ours bool) error {
	if !ours {
		return errs.E(errs.InUse, "%s: %s has something else mounted: %s (%s)", fieldTarget, p.want.Path, m.Source, m.FsType)
	}
	// The mount's own flag: a file system that turned read-only by an error is for Health to tell.
	t := p.rec.target(p.want.Path)
	ro := t != nil && t.ReadOnly
	if t == nil {
		ro = mnt.IsReadOnly(m)
	}
	if ro != p.want.ReadOnly {
		return errs.E(errs.Exists, "%s: %s is published at %s with read-only=%v; unpublish it to change that", fieldTarget, p.rec.Volume, p.want.Path, ro)
	}
	return p.note()
}

// note puts the target into the record.
func (p *publication) note() error {
	p.rec.drop(p.want.Path)
	p.rec.Targets = append(p.rec.Targets, p.want)
	return p.node.save("publish.record", p.rec)
}

func (p *publication) add(ctx context.Context, bind func() (*host.MountInfo, error)) error {
	shape, err := p.at.Look()
	if err != nil {
		return err
	}
	right := mnt.Dir
	if p.rec.Block {
		right = mnt.File
	}
	if shape != mnt.Absent && shape != right {
		return errs.E(errs.InUse, "%s: %s is there and is not an empty %s; it is left as it is", fieldTarget, p.want.Path, map[bool]string{false: "directory", true: "file"}[p.rec.Block])
	}
	if err := p.note(); err != nil {
		return err
	}
	if shape == mnt.Absent {
		if err := p.at.Make("publish.make", p.rec.Block); err != nil {
			return err
		}
	}
	if _, err := bind(); err != nil {
		return p.undo(context.WithoutCancel(ctx), err)
	}
	return nil
}

// undo takes back what was begun: whoever gets an error that will stay does not call Unpublish.
func (p *publication) undo(ctx context.Context, err error) error {
	if undo := p.node.unpublishAt(ctx, p.rec, p.at); undo != nil {
		return errs.E(errs.KindOf(err), "%w (and to undo it: %v)", err, undo)
	}
	return err
}

func (n *Node) unpublish(ctx context.Context, volume, path string) error {
	rec, err := n.load(volume)
	if err != nil {
		return err
	}
	if rec == nil || rec.target(path) == nil {
		if owner, err := n.owner(path, volume); err != nil {
			return err
		} else if owner != "" {
			return errs.E(errs.InUse, "%s: %s belongs to volume %s and not to %s", fieldTarget, path, owner, volume)
		}
		if rec != nil && rec.Staging == path {
			return errs.E(errs.Invalid, "%s: is the staging path", fieldTarget)
		}
	}
	at, err := n.place(fieldTarget, path)
	if errs.Is(err, errs.NotFound) { // then nothing is there to be mounted at
		return n.unnote(rec, path)
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if rec != nil && rec.target(path) == nil && !rec.Block {
		m, err := at.Mounted()
		if err != nil {
			return err
		}
		if m != nil && !n.ours(m, rec) {
			return errs.E(errs.InUse, "%s: %s has something else mounted: %s (%s)", fieldTarget, path, m.Source, m.FsType)
		}
	}
	return n.unpublishAt(ctx, rec, at)
}

// unpublishAt undoes a Publish in reverse, each step of which may be undone or never have been done.
// rec is nil for a volume without a record.
func (n *Node) unpublishAt(ctx context.Context, rec *record, at *mnt.Place) error {
	if err := n.unmount(ctx, rec, at, "unpublish.unmount"); err != nil {
		return err
	}
	if err := at.Remove("unpublish.remove"); err != nil {
		return err
	}
	n.unlimit(ctx, rec, at.String())
	return n.unnote(rec, at.String())
}

func (n *Node) unnote(rec *record, path string) error {
	if rec == nil || rec.target(path) == nil {
		return nil
	}
	rec.drop(path)
	return n.save("unpublish.record", rec)
}
