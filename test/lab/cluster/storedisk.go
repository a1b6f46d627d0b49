package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

// storeDiskSize is the size in bytes of the disk with all that a guest keeps
// besides its root: images, containers, the kubelet's directories and Dozo's
// pool. It is sparse.
const storeDiskSize = 32 << 30

// storeDisk makes, once for each image store, a disk with the store on it,
// which guests copy on write; the caller holds the cache's lock.
func (l *Lab) storeDisk(ctx context.Context, store string) (string, error) {
	dir := filepath.Join(l.Cache, "disks", filepath.Base(store))
	disk := filepath.Join(dir, "store.ext4")
	// The disk itself is not touched: the kernel knows by its time of change what was copied of it.
	if _, err := os.Stat(disk); err == nil {
		return disk, use(dir)
	}
	l.Progress.Step("writing the image store to a disk for guests …")
	work, err := os.MkdirTemp(l.Cache, "disk-*.partial")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	tree := filepath.Join(work, "tree")
	if err := cloneImageStore(store, filepath.Join(tree, "containerd")); err != nil {
		return "", err
	}
	partial := filepath.Join(work, "store.ext4")
	if err := uml.MakeDisk(partial, storeDiskSize); err != nil {
		return "", err
	}
	_, err = command{
		args: []string{"mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=64",
			"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "-d", tree, partial},
		timeout: 10 * time.Minute,
	}.run(ctx)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return disk, errors.Join(os.Rename(partial, disk), use(dir))
}
