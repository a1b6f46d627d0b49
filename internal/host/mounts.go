package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	mount "k8s.io/mount-utils"
)

// MountInfo is one line of the kernel's mount table.
type MountInfo = mount.MountInfo

// Mounts reads the mount table of this process's namespace.
func (h *Host) Mounts() (table []MountInfo, err error) {
	err = h.Ask("mounts", func() error {
		table, err = mount.ParseMountInfo(h.Proc("self", "mountinfo"))
		return err
	})
	// The kernel writes these four as octal numbers (proc(5)), which the library leaves as they are.
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for i := range table {
		m := &table[i]
		m.Root, m.Source, m.MountPoint = plain.Replace(m.Root), plain.Replace(m.Source), plain.Replace(m.MountPoint)
	}
	return table, err
}

// MountsOf returns the mounts of a block device. It goes by the device's number and by the source as
// mounted: btrfs shows a number of its own in the table.
func (h *Host) MountsOf(device string) ([]MountInfo, error) {
	var st unix.Stat_t
	if err := h.Ask("device.stat", func() error { return unix.Stat(device, &st) }); err != nil {
		return nil, err
	}
	table, err := h.Mounts()
	if err != nil {
		return nil, err
	}
	var of []MountInfo
	for _, m := range table {
		number := m.Major == int(unix.Major(st.Rdev)) && m.Minor == int(unix.Minor(st.Rdev))
		if number || m.Source == device {
			of = append(of, m)
		}
	}
	return of, nil
}

// BindsOf returns where the file of a device, as the kernel has made it in /dev, is mounted: that is how a pod is given a
// block device, on which nothing is mounted then. It asks the table only, and so also of a device that does not answer.
func (h *Host) BindsOf(device string) ([]MountInfo, error) {
	table, err := h.Mounts()
	return slices.DeleteFunc(table, func(m MountInfo) bool {
		return m.FsType != "devtmpfs" || m.Root != "/"+filepath.Base(device)
	}), err
}

// The ioctls of linux/fs.h that x/sys/unix does not name: _IOWR('X', 119, int) and 120.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// Freeze makes the file system mounted at path write out all it holds and hold back every writer
// until [Host.Thaw]. unix.EBUSY: it is frozen already.
func (h *Host) Freeze(op, path string) error {
	return h.Do(op, func() error { return ioctlDir(path, fiFreeze) })
}

// Thaw undoes Freeze. unix.EINVAL: it was not frozen.
func (h *Host) Thaw(op, path string) error {
	return h.Do(op, func() error { return ioctlDir(path, fiThaw) })
}

func ioctlDir(path string, request uint) error {
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.IoctlSetInt(int(d.Fd()), request, 0)
}
