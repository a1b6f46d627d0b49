// Package loopfile keeps volumes as image files in a directory and attaches them as loop devices:
// the embedded default, for any machine with a disk, and the reference for other backends.
//
// The directory is all the state there is:
//
//	dozo-pool.json                  whose directory this is
//	lock                            one lock for each volume and snapshot (host.LockFile)
//	volumes/ID/volume.json, image   a volume; its size is the size of the image
//	snapshots/ID/snapshot.json, image
//	groups/ID.json                  a group snapshot being committed
//
// A volume or snapshot is built in a directory named ".new-ID", and comes into being when that is
// renamed to ID; it ceases to be when it is renamed to ".del-ID". What a crash leaves under those
// names is cleared by the next call for the same ID and when the pool is opened.
package loopfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	mount "k8s.io/mount-utils"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// KindName is the kind's name.
const KindName = "loopfile"

// Kind describes the backend on a host.
func Kind(h *host.Host) backend.Kind {
	return backend.Kind{
		Name: KindName,
		Options: []backend.Parameter{
			{Name: "path", Required: true, Check: absolute, Help: "the directory for the images; it must exist and be empty at first"},
			{Name: "reserve", Default: "true", Check: backend.OneOf("true", "false"),
				Help: "true keeps room for all that sparse images may still grow; false promises the same room to many"},
			{Name: "spare", Default: "1Gi", Check: isSize, Help: "room on the file system that is never given to volumes, such as 10Gi"},
			{Name: "maxFreeze", Default: "30s", Check: isDuration,
				Help: "the longest that writers may be held back while a mounted volume is copied on a file system without reflinks, such as 30s"},
			{Name: "requireMount", Default: "false", Check: backend.OneOf("true", "false"),
				Help: "true refuses to work unless path is a mount point, so that a disk that failed to mount is noticed"},
		},
		Parameters: []backend.Parameter{
			{Name: "allocation", Default: "sparse", Check: backend.OneOf("sparse", "full"),
				Help: "sparse takes disk space as it is written to; full takes all of it at once"},
			{Name: "sectorSize", Default: "512", Check: backend.OneOf("512", "4096"),
				Help: "logical sector size of the device in bytes: 512 suits everything, 4096 is faster for copies on xfs and on disks with 4096-byte sectors"},
		},
		Granularity: 1 << 20, // mkfs.xfs and btrfs waste what is not a multiple
		MinSize:     1 << 20,
		MaxSize:     16<<40 - 1<<20, // ext4's largest file with 4 KiB blocks, rounded down to the granularity
		NodeBound:   true,
		Mask: func(map[string]string) backend.Mask {
			m := backend.FullMask()
			m.Attacher, m.Gauger, m.Importer = false, false, false
			return m
		},
		Open: func(ctx context.Context, c backend.Config) (backend.Backend, error) {
			return open(ctx, h, c)
		},
	}
}

func absolute(v string) error {
	if !filepath.IsAbs(v) || filepath.Clean(v) != v || v == "/" {
		return fmt.Errorf("%.200q is not a clean absolute path", v)
	}
	return nil
}

func isSize(v string) error { _, err := backend.ParseSize(v); return err }

func isDuration(v string) error {
	if d, err := time.ParseDuration(v); err != nil || d <= 0 {
		return fmt.Errorf("%.40q is not a positive duration", v)
	}
	return nil
}

// Backend is a pool of image files.
type Backend struct {
	host      *host.Host
	pool      string
	node      string
	dir       string
	locks     *host.LockFile
	reserve   bool
	spare     int64 // bytes
	maxFreeze time.Duration
	mounted   bool // dir has to be a mount point
	known     metas
}

func open(ctx context.Context, h *host.Host, c backend.Config) (*Backend, error) {
	b := &Backend{
		host: h, pool: c.Pool, node: c.Node, dir: c.Options["path"],
		reserve: c.Options["reserve"] == "true", mounted: c.Options["requireMount"] == "true",
	}
	b.spare, _ = backend.ParseSize(c.Options["spare"]) // checked by the declaration
	b.maxFreeze, _ = time.ParseDuration(c.Options["maxFreeze"])
	if err := b.claim(); err != nil {
		return nil, err
	}
	locks, err := host.OpenLockFile(filepath.Join(b.dir, "lock"))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "path: %w", err)
	}
	b.locks = locks
	return b, b.recover(ctx)
}

const markerFile = "dozo-pool.json"

// marker says whose directory it is.
type marker struct {
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	Pool    string `json:"pool"`
}

// claim makes the directory this pool's. Only an empty one is taken.
func (b *Backend) claim() error {
	err := b.here()
	if !errs.Is(err, errs.NotFound) {
		return err
	}
	entries, err := b.host.ReadDir("pool.look", b.dir)
	if err != nil {
		return errs.E(errs.Unavailable, "path: %w; make the directory first", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "lost+found", markerFile + ".tmp", "volumes", "snapshots", "groups":
		default:
			return errs.E(errs.Invalid, "path: %s is not empty (it has %q) and is not a pool; choose an empty directory", b.dir, e.Name())
		}
	}
	for _, sub := range []string{"volumes", "snapshots", "groups"} {
		if err := b.host.Mkdir("pool.mkdir", filepath.Join(b.dir, sub), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return errs.E(errs.Unavailable, "path: %w", err)
		}
	}
	data, err := json.Marshal(marker{Version: 1, Kind: KindName, Pool: b.pool})
	if err != nil {
		return err
	}
	if err := b.host.WriteFile("pool.mark", filepath.Join(b.dir, markerFile), data, 0o600); err != nil {
		return errs.E(errs.Unavailable, "path: %w", err)
	}
	return nil
}

// here checks that the directory is there and this pool's. Without it an unmounted disk would look
// like a pool whose volumes are all gone. errs.NotFound only if the directory has no marker.
func (b *Backend) here() error {
	if b.mounted {
		if ok, err := mount.New("").IsMountPoint(b.dir); err != nil || !ok {
			return errs.E(errs.Unavailable, "path: nothing is mounted at %s, which requireMount demands", b.dir)
		}
	}
	data, err := b.host.ReadFile("pool.read", filepath.Join(b.dir, markerFile), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return errs.E(errs.NotFound, "path: %s has no %s", b.dir, markerFile)
	}
	if err != nil {
		return errs.E(errs.Unavailable, "path: %w", err)
	}
	var m marker
	if err := json.Unmarshal(data, &m); err != nil {
		return errs.E(errs.Unavailable, "path: %s/%s: %w", b.dir, markerFile, err)
	}
	if m.Kind != KindName || m.Pool != b.pool || m.Version != 1 {
		return errs.E(errs.Invalid, "path: %s belongs to the %s pool %q (version %d), not to %q", b.dir, m.Kind, m.Pool, m.Version, b.pool)
	}
	return nil
}

// ready is here for all but the first use: a missing marker is then a pool that cannot be asked.
func (b *Backend) ready() error {
	err := b.here()
	if errs.Is(err, errs.NotFound) {
		return errs.E(errs.Unavailable, "%w any more; is its disk mounted?", err)
	}
	return err
}

// Close is [backend.Backend]. There is nothing to release.
func (b *Backend) Close() error { return nil }

// failed turns an error of the file system into one of ours: absence is NotFound, anything else is
// a storage that could not be asked.
func failed(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errs.KindOf(err) != errs.Internal:
		return err
	case errors.Is(err, fs.ErrNotExist):
		return errs.E(errs.NotFound, "%s: %w", what, err)
	case isNoSpace(err):
		return errs.E(errs.NoSpace, "%s: %w", what, err)
	default:
		return errs.E(errs.Unavailable, "%s: %w", what, err)
	}
}

var _ interface {
	backend.Backend
	backend.Expander
	backend.Cloner
	backend.Snapshotter
	backend.GroupSnapshotter
	backend.Activator
	backend.Marker
	backend.Checker
} = (*Backend)(nil)

var _ backend.Modifier = (*Backend)(nil)

// remove clears a directory of the pool and the files that are ever in one: nothing is removed that
// this package did not make.
func (b *Backend) remove(op, dir string) error {
	for _, name := range []string{"image", metaFile, metaFile + ".tmp", frozenFile} {
		if err := b.host.Remove(op+"."+name, filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := b.host.Remove(op+".dir", dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
