package loopfile

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

func (b *Backend) snapshot(i item) backend.Snapshot {
	return backend.Snapshot{
		ID: i.id, Name: i.meta.Name, Source: i.meta.Source.Volume, Size: i.size,
		Created: i.meta.Created, Group: i.meta.Group, Nodes: []string{b.node},
	}
}

// CreateSnapshot is [backend.Snapshotter].
func (b *Backend) CreateSnapshot(ctx context.Context, r backend.SnapshotRequest) (backend.Snapshot, error) {
	made, err := b.snapshotAll(ctx, []backend.SnapshotRequest{r})
	if err != nil {
		return backend.Snapshot{}, err
	}
	return made[0], nil
}

// CreateGroup is [backend.GroupSnapshotter]: writers of all volumes are held back while each is copied.
func (b *Backend) CreateGroup(ctx context.Context, rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	return b.snapshotAll(ctx, rs)
}

// snapshotAll takes snapshots at one instant: all or none. A group that a crash cut short after its
// commit is completed, one cut short before is taken anew.
func (b *Backend) snapshotAll(ctx context.Context, rs []backend.SnapshotRequest) ([]backend.Snapshot, error) {
	var keys []string
	for _, r := range rs {
		keys = append(keys, key(snapshots, r.ID), key(volumes, r.Source))
	}
	unlock, err := b.lock(ctx, keys...)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := b.completeGroups(ctx); err != nil {
		return nil, err
	}
	made, missing, err := b.taken(rs)
	if err != nil {
		return nil, err
	}
	switch {
	case missing == 0:
		return made, nil
	case missing < len(rs):
		return nil, errs.E(errs.Exists, "group %s exists without some of the volumes asked for; choose another name", rs[0].Group)
	}
	if err := b.takeAll(ctx, rs); err != nil {
		return nil, failed("snapshot", err)
	}
	made, _, err = b.taken(rs)
	return made, err
}

// taken returns the snapshots asked for that exist, and how many do not.
func (b *Backend) taken(rs []backend.SnapshotRequest) (made []backend.Snapshot, missing int, err error) {
	for _, r := range rs {
		i, err := b.load(snapshots, r.ID)
		if errs.Is(err, errs.NotFound) {
			missing++
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		s := b.snapshot(i)
		if err := s.Satisfies(r); err != nil {
			return nil, 0, err
		}
		made = append(made, s)
	}
	return made, missing, nil
}

// takeAll copies every source into a snapshot being built, and lets them all come into being.
func (b *Backend) takeAll(ctx context.Context, rs []backend.SnapshotRequest) (err error) {
	var pairs []pair
	committed := false
	defer func() {
		if err == nil || committed {
			return
		}
		for _, p := range pairs {
			err = errors.Join(err, b.remove("snapshot.undo", p.to.dir))
		}
	}()
	for _, r := range rs {
		source, err := b.load(volumes, r.Source)
		if err != nil {
			return err
		}
		made := &item{id: r.ID, dir: b.path(snapshots, ".new-"+string(r.ID)), meta: meta{
			Version: 1, Name: r.Name, Source: backend.Source{Volume: r.Source}, Group: r.Group, Family: rand.Text(),
		}}
		pairs = append(pairs, pair{from: &source, to: made})
		if err := b.stageItem(ctx, "snapshot", *made, source.size, source.alloc); err != nil {
			return err
		}
	}
	if err := b.copyStill(ctx, "snapshot", pairs); err != nil {
		return err
	}
	for _, p := range pairs {
		if err := b.finish("snapshot", p.to); err != nil {
			return err
		}
	}
	committed, err = b.commit(ctx, rs[0].Group, pairs)
	return err
}

// commit renames the built snapshots into place; those of a group by way of a manifest, from whose
// writing on they all exist: a crash between two renames is made good by completeGroups.
func (b *Backend) commit(ctx context.Context, group backend.ID, built []pair) (committed bool, err error) {
	if group == "" {
		i := built[0].to
		err := b.host.Rename("snapshot.commit", i.dir, b.path(snapshots, string(i.id)))
		return err == nil, err
	}
	var ids []backend.ID
	for _, p := range built {
		ids = append(ids, p.to.id)
	}
	data, err := json.Marshal(ids)
	if err != nil {
		return false, err
	}
	manifest := filepath.Join(b.dir, groups, string(group)+".json")
	if err := b.host.WriteFile("group.commit", manifest, data, 0o600); err != nil {
		return false, err
	}
	return true, b.completeGroups(ctx)
}

const groups = "groups"

// completeGroups brings the snapshots of every committed group into being. There is a manifest only
// while a group is being committed, or after a crash in that.
func (b *Backend) completeGroups(ctx context.Context) error {
	entries, err := b.host.ReadDir("groups.list", filepath.Join(b.dir, groups))
	if err != nil {
		return errs.E(errs.Unavailable, "groups: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		if err := b.completeGroup(ctx, filepath.Join(b.dir, groups, e.Name())); err != nil {
			return errs.E(errs.Unavailable, "groups: %w", err)
		}
	}
	return nil
}

// completeGroup renames what a manifest lists and has not been renamed, and removes the manifest.
// The lock is held so that nobody acts on a manifest read long ago.
func (b *Backend) completeGroup(ctx context.Context, manifest string) error {
	unlock, err := b.locks.Lock(ctx, groups)
	if err != nil {
		return err
	}
	defer unlock()
	data, err := b.host.ReadFile("group.read", manifest, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var ids []backend.ID
	if err == nil {
		err = json.Unmarshal(data, &ids)
	}
	if err != nil {
		return err
	}
	for _, id := range ids {
		err := b.host.Rename("group.rename", b.path(snapshots, ".new-"+string(id)), b.path(snapshots, string(id)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return b.host.Remove("group.done", manifest)
}

// DeleteSnapshot is [backend.Snapshotter]. Volumes made from it share nothing that would be lost.
func (b *Backend) DeleteSnapshot(ctx context.Context, id backend.ID) error {
	unlock, err := b.lock(ctx, key(snapshots, id))
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.ready(); err != nil {
		return err
	}
	return b.destroy("delete-snapshot", snapshots, id)
}

// GetSnapshot is [backend.Snapshotter].
func (b *Backend) GetSnapshot(_ context.Context, id backend.ID) (backend.Snapshot, error) {
	i, err := b.load(snapshots, id)
	if err != nil {
		return backend.Snapshot{}, err
	}
	return b.snapshot(i), nil
}

// ListSnapshots is [backend.Snapshotter].
func (b *Backend) ListSnapshots(ctx context.Context) iter.Seq2[backend.Snapshot, error] {
	return func(yield func(backend.Snapshot, error) bool) {
		if err := b.completeGroups(ctx); err != nil {
			yield(backend.Snapshot{}, err)
			return
		}
		list(b, snapshots, b.snapshot)(yield)
	}
}
