package nas

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Directories of a volume besides its shares, named as DSM's are.
const (
	imageDir    = "@iSCSI"
	snapshotDir = "@sharesnap"
)

// mount mounts a volume unless it is, and reports whether it was made now. Only a disk without any file system gets one:
// mkfs.btrfs refuses others.
func (p *Plane) mount(v Volume) (made bool, err error) {
	if on, err := mounted(v.Path); err != nil || on {
		return false, err
	}
	disk, err := p.disk(v)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(v.Path, 0o755); err != nil {
		return false, err
	}
	err = unix.Mount(disk, v.Path, "btrfs", unix.MS_NOATIME, "")
	if errors.Is(err, unix.EINVAL) {
		if _, err := run("mkfs.btrfs", "--quiet", "--nodiscard", disk); err != nil {
			return false, err
		}
		made, err = true, unix.Mount(disk, v.Path, "btrfs", unix.MS_NOATIME, "")
	}
	if err != nil {
		return false, &fs.PathError{Op: "mount", Path: disk, Err: err}
	}
	if _, err := run("btrfs", "quota", "enable", v.Path); err != nil {
		return false, err
	}
	for _, dir := range []string{imageDir, snapshotDir} {
		if err := os.MkdirAll(filepath.Join(v.Path, dir), 0o700); err != nil {
			return false, err
		}
	}
	return made, nil
}

// unmount leaves the disk or the file.
func (p *Plane) unmount(v Volume) error {
	if on, err := mounted(v.Path); err != nil || !on {
		return err
	}
	if err := unix.Unmount(v.Path, 0); err != nil {
		return &fs.PathError{Op: "unmount", Path: v.Path, Err: err}
	}
	return errors.Join(p.detach(v.Disk), os.Remove(v.Path))
}

// mounted reports whether a directory is on another file system than its parent.
func mounted(path string) (bool, error) {
	var here, above unix.Stat_t
	if err := unix.Stat(path, &here); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	err := unix.Stat(filepath.Dir(path), &above)
	return here.Dev != above.Dev, err
}

// disk returns the block device of a volume.
func (p *Plane) disk(v Volume) (string, error) {
	info, err := os.Stat(v.Disk)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeFile(v.Disk, v.Size); err != nil {
			return "", err
		}
		return p.attach(v.Disk)
	}
	if err != nil || info.Mode()&fs.ModeDevice != 0 {
		return v.Disk, err
	}
	return p.attach(v.Disk)
}

// makeFile makes a sparse file, or makes one larger.
func makeFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// attached returns the loop device of a file, "" if it has none.
func (p *Plane) attached(file string) (string, error) {
	all, err := p.host.LoopDevices()
	for _, d := range all {
		if d.File == file {
			return d.Path, nil
		}
	}
	return "", err
}

// attach makes a loop device of a file, or finds the one that it has.
func (p *Plane) attach(file string) (string, error) {
	device, err := p.attached(file)
	if err != nil || device != "" {
		return device, err
	}
	out, err := run("losetup", "--find", "--show", "--sector-size", "512", file)
	return strings.TrimSpace(out), err
}

// detach lets go of a file's loop device.
func (p *Plane) detach(file string) error {
	device, err := p.attached(file)
	if err != nil || device == "" {
		return err
	}
	_, err = run("losetup", "--detach", device)
	return err
}
