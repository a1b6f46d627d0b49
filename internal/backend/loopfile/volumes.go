package loopfile

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func (b *Backend) volume(i item) backend.Volume {
	return backend.Volume{
		ID: i.id, Name: i.meta.Name, Size: i.size, Source: i.meta.Source,
		Nodes: []string{b.node}, Access: backend.LocalAccess(b.pool, i.id), Limits: i.meta.Limits,
	}
}

// Create is [backend.Backend].
func (b *Backend) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	keys := []string{key(volumes, r.ID)}
	if r.Source.Volume != "" {
		keys = append(keys, key(volumes, r.Source.Volume))
	}
	if r.Source.Snapshot != "" {
		keys = append(keys, key(snapshots, r.Source.Snapshot))
	}
	unlock, err := b.lock(ctx, keys...)
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	i, err := b.load(volumes, r.ID)
	if errs.Is(err, errs.NotFound) {
		i, err = b.make(ctx, r)
	}
	if err != nil {
		return backend.Volume{}, err
	}
	v := b.volume(i)
	return v, v.Satisfies(r)
}

// make builds a volume and lets it come into being.
func (b *Backend) make(ctx context.Context, r backend.Request) (item, error) {
	sector, err := strconv.Atoi(r.Parameters["sectorSize"])
	if err != nil {
		return item{}, errs.E(errs.Invalid, "parameters[\"sectorSize\"]: %w", err)
	}
	i := item{id: r.ID, meta: meta{
		Version: 1, Name: r.Name, Created: time.Now().UTC(), Source: r.Source,
		Family: rand.Text(), Full: r.Parameters["allocation"] == "full", Sector: sector, Limits: r.Limits,
	}}
	source, err := b.source(r.Source)
	if err != nil {
		return i, err
	}
	return b.build(ctx, "create", volumes, i, r.Size, func(i *item) error {
		if source != nil {
			if err := b.copyStill(ctx, "create", []pair{{from: source, to: i}}); err != nil {
				return err
			}
			if err := b.resize("create", i.image(), r.Size, false); err != nil {
				return err
			}
		}
		if i.meta.Full {
			return b.resize("create", i.image(), r.Size, true)
		}
		return nil
	})
}

// adopt takes over what goes with a source's data.
func (i *item) adopt(source *item, shared bool) {
	i.meta.Mark = source.meta.Mark
	i.meta.Mark.Copied = true
	i.meta.Sector = source.meta.Sector
	if shared {
		i.meta.Family = source.meta.Family
	}
}

// source loads what a volume is copied from: nil for nothing.
func (b *Backend) source(s backend.Source) (*item, error) {
	var i item
	var err error
	switch {
	case s.IsZero():
		return nil, nil
	case s.Snapshot != "":
		i, err = b.load(snapshots, s.Snapshot)
	default:
		i, err = b.load(volumes, s.Volume)
	}
	return &i, err
}

// build makes an item of size bytes in a directory of its own, fills it, and renames it into place.
func (b *Backend) build(ctx context.Context, op, sort string, i item, size int64, fill func(*item) error) (item, error) {
	i.dir = b.path(sort, ".new-"+string(i.id))
	if err := b.stageItem(ctx, op, i, size, size); err != nil {
		return i, failed(op, err)
	}
	err := fill(&i)
	if err == nil {
		err = b.finish(op, &i)
	}
	if err == nil {
		final := b.path(sort, string(i.id))
		err = b.host.Rename(op+".commit", i.dir, final)
		if err == nil {
			i.dir = final
			return i, i.measure()
		}
	}
	if left := b.remove(op+".undo", i.dir); left != nil {
		err = errors.Join(err, left)
	}
	return i, failed(op, err)
}

// finish makes image and metadata durable, so that only the rename remains.
func (b *Backend) finish(op string, i *item) error {
	if err := b.syncImage(op, i.image()); err != nil {
		return err
	}
	return b.writeMeta(op, *i)
}

// stageItem makes the directory and an image of size bytes, empty, if there is room for need bytes
// more. From here on they count against the capacity, which is looked at under the pool's lock.
func (b *Backend) stageItem(ctx context.Context, op string, i item, size, need int64) error {
	unlock, err := b.locks.Lock(ctx, "capacity")
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.remove(op+".clear", i.dir); err != nil {
		return err
	}
	if err := b.room(need); err != nil {
		return err
	}
	if err := b.host.Mkdir(op+".mkdir", i.dir, 0o700); err != nil {
		return err
	}
	f, err := b.host.Create(op+".image", i.image(), 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.host.Do(op+".size", func() error { return f.Truncate(size) })
}

// Delete is [backend.Backend].
func (b *Backend) Delete(ctx context.Context, id backend.ID) error {
	unlock, err := b.lock(ctx, key(volumes, id))
	if err != nil {
		return err
	}
	defer unlock()
	i, err := b.load(volumes, id)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if err == nil {
		dev, err := b.attached(i.image())
		if err != nil {
			return err
		}
		if dev != "" {
			return errs.E(errs.InUse, "volume %s: attached on node %s as %s; unstage it first", id, b.node, dev)
		}
	}
	return b.destroy("delete", volumes, id)
}

// destroy removes an item, and what an earlier call left of it.
func (b *Backend) destroy(op, sort string, id backend.ID) error {
	old := b.path(sort, ".del-"+string(id))
	for _, left := range []string{old, b.path(sort, ".new-"+string(id))} {
		if err := b.remove(op+".left", left); err != nil {
			return failed(op, err)
		}
	}
	err := b.host.Rename(op+".begin", b.path(sort, string(id)), old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed(op, err)
	}
	if err := b.empty(op, old); err != nil {
		return failed(op, err)
	}
	return failed(op, b.remove(op, old))
}

// empty gives back the space of an image before it is removed: the room is there when the call
// returns, and not when xfs or btrfs come around to it.
func (b *Backend) empty(op, dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "image"), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := b.host.Do(op+".empty", func() error { return f.Truncate(0) }); err != nil {
		return err
	}
	return b.settle(op, f)
}

// Get is [backend.Backend].
func (b *Backend) Get(_ context.Context, id backend.ID) (backend.Volume, error) {
	i, err := b.load(volumes, id)
	if err != nil {
		return backend.Volume{}, err
	}
	return b.volume(i), nil
}

// List is [backend.Backend].
func (b *Backend) List(context.Context) iter.Seq2[backend.Volume, error] {
	return list(b, volumes, b.volume)
}

func list[T any](b *Backend, sort string, as func(item) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		items, err := b.all(sort)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		for _, i := range items {
			if !yield(as(i), nil) {
				return
			}
		}
	}
}

// Expand is [backend.Expander]. A device that is attached grows with the next Activate.
func (b *Backend) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	unlock, err := b.lock(ctx, key(volumes, id))
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	i, err := b.load(volumes, id)
	if err != nil {
		return backend.Volume{}, err
	}
	if i.size < size {
		if err := b.grow(ctx, i, size); err != nil {
			return backend.Volume{}, failed("expand "+string(id), err)
		}
		i.size = size
	}
	return b.volume(i), nil
}

func (b *Backend) grow(ctx context.Context, i item, size int64) error {
	unlock, err := b.locks.Lock(ctx, "capacity")
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.room(size - i.size); err != nil {
		return err
	}
	if err := b.resize("expand", i.image(), size, i.meta.Full); err != nil {
		return err
	}
	return b.syncImage("expand", i.image())
}

// CloneSource is [backend.Cloner]: any volume can be copied, in use or not.
func (b *Backend) CloneSource(_ context.Context, id backend.ID) error {
	_, err := b.load(volumes, id)
	return err
}

// Mark is [backend.Marker].
func (b *Backend) Mark(_ context.Context, id backend.ID) (backend.Mark, error) {
	i, err := b.load(volumes, id)
	return i.meta.Mark, err
}

// SetMark is [backend.Marker].
func (b *Backend) SetMark(ctx context.Context, id backend.ID, m backend.Mark) error {
	unlock, err := b.lock(ctx, key(volumes, id))
	if err != nil {
		return err
	}
	defer unlock()
	i, err := b.load(volumes, id)
	if err != nil {
		return err
	}
	i.meta.Mark = m
	return failed("mark "+string(id), b.writeMeta("mark", i))
}

// Modify is [backend.Modifier].
func (b *Backend) Modify(ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
	unlock, err := b.lock(ctx, key(volumes, id))
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	i, err := b.load(volumes, id)
	if err != nil {
		return backend.Volume{}, err
	}
	i.meta.Limits = l
	return b.volume(i), failed("modify "+string(id), b.writeMeta("modify", i))
}
