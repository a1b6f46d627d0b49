package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// teardown undoes all of the story that was done, and proves it.
func (d *demo) teardown() []step {
	return []step{
		{"unpublish and unstage all", d.unuse},
		{"delete all volumes and snapshots", d.delete},
		{"look for anything left", d.prove},
	}
}

func (d *demo) unuse(ctx context.Context) (string, error) {
	for _, v := range slices.Backward(d.volumes) {
		if _, err := d.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.handle, TargetPath: d.target(v)}); err != nil {
			return "", err
		}
		if _, err := d.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.handle, StagingTargetPath: d.staging(v)}); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (d *demo) delete(ctx context.Context) (string, error) {
	for _, v := range slices.Backward(d.volumes) {
		if _, err := d.controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.handle}); err != nil {
			return "", err
		}
	}
	for _, s := range d.snapshots {
		if _, err := d.controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s}); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d and %d", len(d.volumes), len(d.snapshots)), nil
}

// prove looks for loop devices, mounts and files that the demo could have left.
func (d *demo) prove(context.Context) (string, error) {
	if err := d.removeDirs(); err != nil {
		return "", err
	}
	left, err := d.left()
	if err != nil {
		return "", err
	}
	if len(left) > 0 {
		return "", fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return "nothing", nil
}

// removeDirs removes what a kubelet makes and removes itself: empty directories.
func (d *demo) removeDirs() error {
	for _, v := range d.volumes {
		for _, dir := range []string{d.staging(v), filepath.Dir(d.target(v)), filepath.Dir(d.staging(v)), filepath.Dir(filepath.Dir(d.target(v)))} {
			err := os.Remove(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !isNotEmpty(dir) {
				return err
			}
		}
	}
	return nil
}

func isNotEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

// left lists the loop devices and mounts below the demo's directory, and the files there other than
// the few of an empty pool.
func (d *demo) left() ([]string, error) {
	left := d.devices()
	table, err := d.Host.Mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range table {
		if strings.HasPrefix(m.MountPoint, d.Dir+"/") {
			left = append(left, "mount "+m.MountPoint)
		}
	}
	err = filepath.WalkDir(d.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() && !slices.Contains([]string{"dozo-pool.json", "lock", "csi.sock"}, e.Name()) {
			left = append(left, "file "+path)
		}
		return nil
	})
	return left, err
}

// devices lists the loop devices over files below the demo's directory.
func (d *demo) devices() (found []string) {
	devices, _ := d.Host.LoopDevices() // fails only for a pattern that is not well-formed
	for _, l := range devices {
		if strings.HasPrefix(l.File, d.Dir+"/") {
			found = append(found, "loop device "+l.Path)
		}
	}
	return found
}

// printKept tells where the volumes are, and how to be rid of them.
func (d *demo) printKept() {
	fmt.Fprintf(d.Out, "\nKept, as asked. The volumes are mounted at:\n")
	for _, v := range d.volumes {
		fmt.Fprintf(d.Out, "  %s\n", d.target(v))
	}
	fmt.Fprintf(d.Out, "To remove them, as root:\n")
	for _, v := range d.volumes {
		fmt.Fprintf(d.Out, "  umount %s\n", d.target(v))
		if d.FS != BlockFS {
			fmt.Fprintf(d.Out, "  umount %s\n", d.staging(v))
		}
	}
	for _, device := range d.devices() {
		fmt.Fprintf(d.Out, "  losetup -d %s\n", strings.TrimPrefix(device, "loop device "))
	}
	fmt.Fprintf(d.Out, "  rm -r %s\n", d.Dir)
}
