package loopfile

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// overhead is what the file system needs beside the data of a volume of the largest size, in bytes:
// directories, metadata files, extent trees. An ext4 extent tree takes about 1/30,000 of the data.
func overhead(free int64) int64 { return 4<<20 + free/4096 }

// Capacity is [backend.Backend].
func (b *Backend) Capacity(_ context.Context, _ string) (backend.Capacity, error) {
	if err := b.ready(); err != nil {
		return backend.Capacity{}, err
	}
	var st unix.Statfs_t
	if err := b.host.Ask("capacity.statfs", func() error { return unix.Statfs(b.dir, &st) }); err != nil {
		return backend.Capacity{}, errs.E(errs.Unavailable, "capacity: %w", err)
	}
	free := int64(st.Bavail)*st.Bsize - b.spare
	total := int64(st.Blocks)*st.Bsize - b.spare
	promised := int64(0)
	if b.reserve {
		var err error
		if promised, err = b.promised(); err != nil {
			return backend.Capacity{}, err
		}
	}
	free = max(0, free-overhead(free)-promised)
	return backend.Capacity{Total: max(0, total), Available: free, MaxVolume: free}, nil
}

// room refuses what there is no room for. The caller has the capacity lock, so that two cannot be
// given the same room.
func (b *Backend) room(size int64) error {
	c, err := b.Capacity(context.Background(), "")
	if err != nil {
		return err
	}
	if size > c.Available {
		return errs.E(errs.NoSpace, "pool %s: %s are asked for, %s of %s can still be given", b.pool,
			backend.FormatSize(size), backend.FormatSize(c.Available), backend.FormatSize(c.Total))
	}
	return nil
}

// promised returns the bytes that images may still take from the file system. An extent that
// is shared with another image is taken once now and may be taken again with the next write to it, so a
// volume with relatives is counted in full. Snapshots are never written to.
func (b *Backend) promised() (int64, error) {
	vols, err := b.all(volumes)
	if err != nil {
		return 0, err
	}
	snaps, err := b.all(snapshots)
	if err != nil {
		return 0, err
	}
	family := map[string]int{}
	for _, i := range append(vols, snaps...) {
		family[i.meta.Family]++
	}
	var sum int64
	for _, i := range vols {
		if family[i.meta.Family] > 1 {
			sum += i.size
		} else {
			sum += max(0, i.size-i.alloc)
		}
	}
	building, err := b.building()
	return sum + building, err
}

// building returns the bytes promised to what is being built now.
func (b *Backend) building() (int64, error) {
	var sum int64
	for _, sort := range []string{volumes, snapshots} {
		entries, err := b.host.ReadDir("capacity.building", b.path(sort, ""))
		if err != nil {
			return 0, errs.E(errs.Unavailable, "capacity: %w", err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".new-") {
				continue
			}
			i := item{dir: b.path(sort, e.Name())}
			if i.measure() == nil { // else it has no image yet, or is gone by now
				sum += max(0, i.size-i.alloc)
			}
		}
	}
	return sum, nil
}
