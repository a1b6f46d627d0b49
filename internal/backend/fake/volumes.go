package fake

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Create is [backend.Backend].
func (b *Backend) Create(ctx context.Context, r backend.Request) (backend.Volume, error) {
	return do(ctx, b, "Create", func(e *Errors) *Step { return &e.Create }, func(d *disk) (backend.Volume, error) {
		return d.create(r)
	})
}

func (d *disk) create(r backend.Request) (backend.Volume, error) {
	if v := d.volumes[r.ID]; v != nil {
		if v.foreign {
			return backend.Volume{}, errs.E(errs.Exists, "name %q: %s is there and not ours", r.Name, r.ID)
		}
		if err := v.Satisfies(r); err != nil {
			return backend.Volume{}, err
		}
		return v.copy(), nil
	}
	data, mark, err := d.source(r.Source)
	if err != nil {
		return backend.Volume{}, err
	}
	if free := d.free(); r.Size > free {
		return backend.Volume{}, errs.E(errs.NoSpace, "pool %s: %d bytes are free, %d are required", d.o.Pool, free, r.Size)
	}
	v := &volume{data: data, mark: mark, Volume: backend.Volume{
		ID: r.ID, Name: r.Name, Size: r.Size, Source: r.Source, Nodes: d.nodes(), Access: d.access(r), Limits: r.Limits,
	}}
	d.volumes[r.ID] = v
	return v.copy(), nil
}

// source returns a copy of what a new volume starts with.
func (d *disk) source(s backend.Source) (*content, backend.Mark, error) {
	var data *content
	var mark backend.Mark
	switch {
	case s.IsZero():
		return newContent(), mark, nil
	case s.Snapshot != "":
		from, err := d.snapshot(s.Snapshot)
		if err != nil {
			return nil, mark, err
		}
		data, mark = from.data, from.mark
	default:
		from, err := d.volume(s.Volume)
		if err != nil {
			return nil, mark, err
		}
		data, mark = from.data, from.mark
	}
	mark.Copied = true
	return data.copy(), mark, nil
}

// Delete is [backend.Backend].
func (b *Backend) Delete(ctx context.Context, id backend.ID) error {
	_, err := do(ctx, b, "Delete", func(e *Errors) *Step { return &e.Delete }, func(d *disk) (none struct{}, _ error) {
		v := d.volumes[id]
		switch {
		case v == nil || v.foreign:
			return none, nil
		case v.opens > 0:
			return none, errs.E(errs.InUse, "volume %s: its device is open", id)
		case d.o.Linked && d.hasSnapshots(id):
			return none, errs.E(errs.InUse, "volume %s: it has snapshots", id)
		case len(v.admitted) > 0:
			return none, errs.E(errs.InUse, "volume %s: it is attached to %s", id, strings.Join(v.nodes(), ", "))
		}
		delete(d.volumes, id)
		return none, nil
	})
	return err
}

func (d *disk) hasSnapshots(id backend.ID) bool {
	for _, s := range d.snapshots {
		if s.Source == id {
			return true
		}
	}
	return false
}

// Get is [backend.Backend].
func (b *Backend) Get(ctx context.Context, id backend.ID) (backend.Volume, error) {
	return do(ctx, b, "Get", func(e *Errors) *Step { return &e.Get }, func(d *disk) (backend.Volume, error) {
		v, err := d.volume(id)
		if err != nil {
			return backend.Volume{}, err
		}
		return v.copy(), nil
	})
}

// List is [backend.Backend]. Volumes come sorted by ID.
func (b *Backend) List(ctx context.Context) iter.Seq2[backend.Volume, error] {
	return list(ctx, b, "List", func(e *Errors) *Step { return &e.List }, func(d *disk) []backend.Volume {
		var all []backend.Volume
		for _, id := range slices.Sorted(maps.Keys(d.volumes)) {
			if v := d.volumes[id]; !v.foreign {
				all = append(all, v.copy())
			}
		}
		return all
	})
}

// list yields what all returns. An armed After ends it halfway.
func list[T any](ctx context.Context, b *Backend, method string, step func(*Errors) *Step, all func(*disk) []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if err := b.begin(ctx, method, step); err != nil {
			yield(none, err)
			return
		}
		b.disk.mu.Lock()
		items := all(b.disk)
		b.disk.mu.Unlock()
		after := b.once(&step(&b.armed).After)
		if after != nil {
			items = items[:len(items)/2]
		}
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		if after != nil {
			yield(none, after)
		}
	}
}

// Capacity is [backend.Backend].
func (b *Backend) Capacity(ctx context.Context, node string) (backend.Capacity, error) {
	return do(ctx, b, "Capacity", func(e *Errors) *Step { return &e.Capacity }, func(d *disk) (backend.Capacity, error) {
		if d.o.NodeBound && node != "" && node != d.o.Node {
			return backend.Capacity{}, nil
		}
		free := d.free() / Granularity * Granularity
		return backend.Capacity{Total: d.o.Total, Available: free, MaxVolume: min(free, MaxSize)}, nil
	})
}

// Close is [backend.Backend]. Calls that come after it answer errs.Unavailable.
func (b *Backend) Close() error {
	err := b.begin(context.Background(), "Close", func(e *Errors) *Step { return &e.Close })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return err
}

// Expand is [backend.Expander].
func (b *Backend) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	return do(ctx, b, "Expand", func(e *Errors) *Step { return &e.Expand }, func(d *disk) (backend.Volume, error) {
		v, err := d.volume(id)
		if err != nil {
			return backend.Volume{}, err
		}
		if free := d.free(); size-v.Size > free {
			return backend.Volume{}, errs.E(errs.NoSpace, "pool %s: %d bytes are free, %d more are required", d.o.Pool, free, size-v.Size)
		}
		v.Size = max(v.Size, size)
		return v.copy(), nil
	})
}

// Modify is [backend.Modifier].
func (b *Backend) Modify(ctx context.Context, id backend.ID, l backend.Limits) (backend.Volume, error) {
	return do(ctx, b, "Modify", func(e *Errors) *Step { return &e.Modify }, func(d *disk) (backend.Volume, error) {
		v, err := d.volume(id)
		if err != nil {
			return backend.Volume{}, err
		}
		v.Limits = l
		return v.copy(), nil
	})
}

// CloneSource is [backend.Cloner].
func (b *Backend) CloneSource(ctx context.Context, id backend.ID) error {
	_, err := do(ctx, b, "CloneSource", func(e *Errors) *Step { return &e.CloneSource }, func(d *disk) (struct{}, error) {
		_, err := d.volume(id)
		return struct{}{}, err
	})
	return err
}

// AddForeign puts a volume on the storage that Dozo did not make.
func (b *Backend) AddForeign(id backend.ID, size int64) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	b.disk.volumes[id] = &volume{data: newContent(), foreign: true, Volume: backend.Volume{ID: id, Size: size}}
}

// RemoveForeign removes it, or says that somebody else did.
func (b *Backend) RemoveForeign(id backend.ID) error {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	if v := b.disk.volumes[id]; v == nil || !v.foreign {
		return errs.E(errs.NotFound, "the foreign volume %s is gone", id)
	}
	delete(b.disk.volumes, id)
	return nil
}

// Leftovers returns what is still on the storage, in words: nothing once all is deleted.
func (b *Backend) Leftovers() []string {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	var left []string
	for id, v := range b.disk.volumes {
		if !v.foreign {
			left = append(left, "volume "+string(id))
		}
	}
	for id := range b.disk.snapshots {
		left = append(left, "snapshot "+string(id))
	}
	slices.Sort(left)
	return left
}

func (d *disk) volume(id backend.ID) (*volume, error) {
	if v := d.volumes[id]; v != nil && !v.foreign {
		return v, nil
	}
	return nil, errs.E(errs.NotFound, "volume %s", id)
}

// copy shares nothing that a caller could change.
func (v *volume) copy() backend.Volume {
	c := v.Volume
	c.Nodes = slices.Clone(c.Nodes)
	c.Access = copyAccess(c.Access)
	return c
}

// free counts snapshots as full copies.
func (d *disk) free() int64 {
	free := d.o.Total
	for _, v := range d.volumes {
		free -= v.Size
	}
	for _, s := range d.snapshots {
		free -= s.Size
	}
	return free
}

func (d *disk) nodes() []string {
	if d.o.NodeBound {
		return []string{d.o.Node}
	}
	return nil
}
