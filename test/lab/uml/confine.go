package uml

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Confine makes the host's files read-only for the calling thread and what it
// starts, but for dir, and gives them memory for machines. The thread must
// have a mount namespace of its own, with which all of it ends.
func Confine(dir string) error {
	memory := filepath.Join(dir, memoryDir)
	steps := []struct {
		what string
		do   func() error
	}{
		{"make mounts private", func() error {
			// Not private: a copy of somebody's mount would keep its device busy after they unmounted it.
			return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		}},
		{"make " + memory, func() error { return os.MkdirAll(memory, 0o755) }},
		{"bind " + dir, func() error { return unix.Mount(dir, dir, "", unix.MS_BIND, "") }},
		{"make the host's files read-only", func() error {
			return unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		}},
		{"make " + dir + " writable", func() error {
			return unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		}},
		{"mount the guests' memory", func() error {
			return unix.Mount("lab", memory, "tmpfs", 0, "size=90%,mode=0700")
		}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}
