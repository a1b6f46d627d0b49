package loopfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

const metaFile = "meta.json"

// meta is what is known of a volume or snapshot beside its data.
type meta struct {
	Version int            `json:"version"`
	Name    string         `json:"name"`
	Created time.Time      `json:"created"`
	Source  backend.Source `json:"source,omitzero"` // of a snapshot: Volume is what it was taken of
	Group   backend.ID     `json:"group,omitempty"` // of a snapshot
	Family  string         `json:"family"`          // the same for all that may share extents, see promised
	Full    bool           `json:"full,omitempty"`  // all space was allocated at once
	Sector  int            `json:"sector"`          // bytes; a copy has its source's, or its file system would not mount
	Mark    backend.Mark   `json:"mark,omitzero"`
	Limits  backend.Limits `json:"limits,omitzero"` // of a volume
}

// The two sorts of thing in a pool, as names of the directories they are in.
const (
	volumes   = "volumes"
	snapshots = "snapshots"
)

// item is a volume or snapshot as it is on disk.
type item struct {
	id    backend.ID
	dir   string
	meta  meta
	size  int64 // bytes, as the image shows
	alloc int64 // bytes, as the image takes
}

func (i item) image() string { return filepath.Join(i.dir, "image") }

func (b *Backend) path(sort, name string) string { return filepath.Join(b.dir, sort, name) }

// load reads an item: errs.NotFound if the pool is there and the item is not.
func (b *Backend) load(sort string, id backend.ID) (item, error) {
	if err := b.ready(); err != nil {
		return item{}, err
	}
	return b.read(strings.TrimSuffix(sort, "s"), id, b.path(sort, string(id)))
}

func (b *Backend) read(what string, id backend.ID, dir string) (item, error) {
	i := item{id: id, dir: dir}
	m, err := b.known.read(b.host, filepath.Join(dir, metaFile))
	if errors.Is(err, fs.ErrNotExist) {
		return i, errs.E(errs.NotFound, "%s %s: there is none in pool %s", what, id, b.pool)
	}
	if err != nil {
		return i, errs.E(errs.Unavailable, "%s %s: %w", what, id, err)
	}
	i.meta = m
	if err := i.measure(); err != nil {
		if left, again := exists(filepath.Join(dir, metaFile)); again == nil && !left {
			return i, errs.E(errs.NotFound, "%s %s: deleted from pool %s just now", what, id, b.pool)
		}
		return i, errs.E(errs.Unavailable, "%s %s: its image is lost: %w", what, id, err)
	}
	return i, nil
}

// metas are metadata files read before. Such a file is never written to, only replaced by another: so
// one of the same inode and time of change has the same content.
type metas struct {
	mu   sync.Mutex
	seen map[string]metaSeen
}

type metaSeen struct {
	inode   uint64
	changed unix.Timespec
	meta    meta
}

// metasMost bounds the number kept: when there are more, all are forgotten and read again.
const metasMost = 20_000

func (k *metas) read(h *host.Host, path string) (m meta, err error) {
	var st unix.Stat_t
	if err := h.Ask("meta.stat", func() error { return unix.Lstat(path, &st) }); err != nil {
		return m, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	k.mu.Lock()
	old, ok := k.seen[path]
	k.mu.Unlock()
	if ok && old.inode == st.Ino && old.changed == st.Ctim {
		return old.meta, nil
	}
	data, err := h.ReadFile("meta.read", path, 64<<10)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Version != 1 {
		return m, fmt.Errorf("%s cannot be read (version %d): %v", path, m.Version, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seen == nil || len(k.seen) > metasMost {
		k.seen = map[string]metaSeen{}
	}
	k.seen[path] = metaSeen{inode: st.Ino, changed: st.Ctim, meta: m}
	return m, nil
}

// measure reads the size of the image.
func (i *item) measure() error {
	var st unix.Stat_t
	if err := unix.Lstat(i.image(), &st); err != nil {
		return &os.PathError{Op: "stat", Path: i.image(), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errs.E(errs.Unavailable, "%s is not a regular file", i.image())
	}
	i.size, i.alloc = st.Size, st.Blocks*512
	return nil
}

func (b *Backend) writeMeta(op string, i item) error {
	data, err := json.Marshal(i.meta)
	if err != nil {
		return err
	}
	return b.host.WriteFile(op+".meta", filepath.Join(i.dir, metaFile), data, 0o600)
}

// all reads every item of a sort. One that is deleted meanwhile is left out; one that cannot be
// read is an error, so that a list is whole or fails.
func (b *Backend) all(sort string) ([]item, error) {
	if err := b.ready(); err != nil {
		return nil, err
	}
	entries, err := b.host.ReadDir("list", b.path(sort, ""))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "list %s: %w", sort, err)
	}
	var items []item
	for _, e := range entries {
		id, err := backend.ParseID(e.Name())
		if err != nil {
			continue // being built or deleted, or not ours
		}
		i, err := b.read(strings.TrimSuffix(sort, "s"), id, b.path(sort, e.Name()))
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, nil
}

// lock takes the locks of volumes and snapshots, given as paths below the pool's directory, in one
// order for everybody. A volume that a crash left frozen is thawed before the caller has it.
func (b *Backend) lock(ctx context.Context, paths ...string) (unlock func(), err error) {
	var unlocks []func()
	unlock = func() {
		for _, u := range slices.Backward(unlocks) {
			u()
		}
	}
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		u, err := b.locks.Lock(ctx, p)
		if err != nil {
			unlock()
			return nil, err
		}
		unlocks = append(unlocks, u)
		if err := b.thawLeft(b.path(p, "")); err != nil {
			unlock()
			return nil, err
		}
	}
	return unlock, nil
}

func key(sort string, id backend.ID) string { return sort + "/" + string(id) }
