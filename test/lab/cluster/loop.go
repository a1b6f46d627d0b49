package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fileID identifies a file whatever path leads to it. A loop device's own
// record of the path is of no use: it is as seen inside a node.
type fileID struct{ Device, Inode uint64 }

// detachLoops detaches the loop devices whose files are below dir, and those
// on record whose files were. They are the one thing that a lab shares with the
// host and that outlives its end.
func detachLoops(dir, record string) error {
	files, err := filesBelow(dir)
	if err != nil {
		return err
	}
	recorded, err := readLoopRecord(record)
	if err != nil {
		return err
	}
	var left []string
	for range 100 {
		if left, err = attachedLoops(files, recorded); err != nil || len(left) == 0 {
			return err
		}
		for _, device := range left {
			if err := detachLoop(device); err != nil {
				return err
			}
		}
		// A device that is still mounted goes once the last mount has gone.
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("loop devices %v stay busy; find the mount with findmnt and detach them with losetup -d", left)
}

// filesBelow collects the identities of the files that volumes could be on.
func filesBelow(dir string) (map[fileID]bool, error) {
	files := map[fileID]bool{}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() && d.Name() == "containerd" {
			return fs.SkipDir // images and containers: many files, no volumes
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // it has gone meanwhile
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			files[fileID{stat.Dev, stat.Ino}] = true
		}
		return nil
	})
	return files, err
}

// attachedLoops lists the devices backed by one of the files, or still by the
// file that the record has for them.
func attachedLoops(files map[fileID]bool, recorded map[string]fileID) ([]string, error) {
	attached, err := loopBackings()
	if err != nil {
		return nil, err
	}
	var devices []string
	for device := range attached {
		id, err := loopFile(device)
		if err != nil {
			continue // detached meanwhile
		}
		if files[id] || recorded[device] == id {
			devices = append(devices, device)
		}
	}
	return devices, nil
}

func loopFile(device string) (fileID, error) {
	f, err := os.Open(device)
	if err != nil {
		return fileID{}, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return fileID{}, err
	}
	return fileID{info.Device, info.Inode}, nil
}

func detachLoop(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
	if err != nil && !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("detaching %s: %w", device, err)
	}
	return nil
}
