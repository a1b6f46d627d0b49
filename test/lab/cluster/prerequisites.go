package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

// Prerequisites says what the lab needs of the machine and does not find.
func (l *Lab) Prerequisites(kernel Kernel) error {
	var missing []error
	if os.Geteuid() != 0 {
		missing = append(missing, errors.New("root: namespaces, mounts and loop devices need it"))
	}
	programs := []string{"go", "ip", "iptables", "mount", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "busybox"}
	if kernel == KernelGuest {
		programs = append(programs, uml.Kernel, "mmdebstrap", "mkfs.ext4")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Errorf("program %s", program))
		}
	}
	if _, err := os.Stat(filepath.Join(cniBinDir, "bridge")); err != nil {
		missing = append(missing, fmt.Errorf("CNI plugins in %s", cniBinDir))
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(l.Cache, &stat); err == nil && stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		missing = append(missing, fmt.Errorf("a cache directory that is not on overlayfs (%s is): nodes lay overlays over it; set DOZO_LAB_CACHE", l.Cache))
	}
	for _, system := range []string{"overlay", "proc", "sysfs", "tmpfs"} {
		if !kernelHas(system) {
			missing = append(missing, fmt.Errorf("file system %s in the kernel", system))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the lab lacks prerequisites; make lab-packages installs the programs:\n%w", errors.Join(missing...))
}

// kernelHas looks a file system up in the kernel's list.
func kernelHas(system string) bool {
	data, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[len(fields)-1] == system {
			return true
		}
	}
	return false
}
