package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// nodeBin is where a node sees the built binaries, and nodeProgram this one.
const (
	nodeBin     = "/opt/dozo-lab/bin"
	nodeProgram = "/opt/dozo-lab/lab"
	cniBinDir   = "/usr/lib/cni"
)

// makePrivate cuts the mount namespace off from the host's: nothing that is
// mounted here shows there.
func makePrivate() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	return mountProc("/proc")
}

func mountProc(target string) error {
	if err := unix.Mount("proc", target, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", target, err)
	}
	return nil
}

// nodeRoot builds a node's root directory: the host's programs, read-only; its
// /etc below a layer of the node's own; and everything else empty and private
// to the node. What a node writes therefore never lands on the host, and two
// nodes never see each other's files.
type nodeRoot struct {
	dir  string // the node's directory
	root string // the root directory inside it
}

func newNodeRoot(dir string) nodeRoot {
	return nodeRoot{dir: dir, root: filepath.Join(dir, "root")}
}

func (r nodeRoot) path(name string) string { return filepath.Join(r.root, name) }

// assemble mounts the parts. The caller has private mounts.
func (r nodeRoot) assemble(s *spec) error {
	dirs := []string{"usr", "etc", "proc", "sys", "dev", "run", "root", "home", "mnt", "srv", "opt/dozo-lab/bin",
		"var/lib/kubelet", "var/lib/cni", "var/log/pods", "var/cache"}
	if err := makeDirs(r.root, 0o755, dirs...); err != nil {
		return err
	}
	if err := makeDirs(r.root, 0o1777, "tmp", "var/tmp"); err != nil {
		return err
	}
	if err := os.WriteFile(r.path(nodeProgram), nil, 0o755); err != nil {
		return err
	}
	if err := symlink("/run", r.path("var/run")); err != nil {
		return err
	}
	return inOrder(
		func() error { return bind(r.root, r.root, 0) },
		func() error { return bind("/usr", r.path("usr"), unix.MS_RDONLY) },
		r.linkTopDirs,
		r.etc,
		func() error { return bind(s.Bin, r.path(nodeBin), unix.MS_RDONLY) },
		func() error { return bind(filepath.Join(s.Run, "lab"), r.path(nodeProgram), unix.MS_RDONLY) },
		r.kernel,
	)
}

// inOrder runs steps until one fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// linkTopDirs repeats /bin, /lib and the like: links into /usr on a current
// Debian, directories elsewhere.
func (r nodeRoot) linkTopDirs() error {
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		info, err := os.Lstat("/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink("/" + name)
			if err != nil {
				return err
			}
			if err := symlink(target, r.path(name)); err != nil {
				return err
			}
			continue
		}
		if err := makeDirs(r.root, 0o755, name); err != nil {
			return err
		}
		if err := bind("/"+name, r.path(name), unix.MS_RDONLY); err != nil {
			return err
		}
	}
	return nil
}

// etc lays a writable layer over the host's /etc.
func (r nodeRoot) etc() error {
	if err := makeDirs(r.dir, 0o755, "etc", "etc.work"); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s", filepath.Join(r.dir, "etc"), filepath.Join(r.dir, "etc.work"))
	if err := unix.Mount("overlay", r.path("etc"), "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting the node's /etc: %w", err)
	}
	return nil
}

// kernel mounts the file systems that show kernel state. Devices are the
// host's: loop devices have no namespace.
func (r nodeRoot) kernel() error {
	if err := mountProc(r.path("proc")); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", r.path("sys"), "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting the node's /sys: %w", err)
	}
	if err := bind("/sys/fs/cgroup", r.path("sys/fs/cgroup"), unix.MS_REC); err != nil {
		return err
	}
	if err := bind("/dev", r.path("dev"), 0); err != nil {
		return err
	}
	if err := bind("/dev/pts", r.path("dev/pts"), 0); err != nil {
		return err
	}
	for _, dir := range []string{"dev/shm", "run"} {
		if err := unix.Mount("tmpfs", r.path(dir), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mounting the node's /%s: %w", dir, err)
		}
	}
	return makeDirs(r.root, 0o755, "run/lock", "run/netns", "run/containerd", "run/sysctl")
}

// enter makes the assembled directory the root of the mount namespace, drops
// the old one, and makes mounts propagate: containers with Bidirectional
// propagation (CSI drivers) need a shared root.
func (r nodeRoot) enter() error {
	if err := os.Chdir(r.root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root directory: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("dropping the old root directory: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// maskSysctls hides the kernel-wide settings that the kubelet changes behind
// files: the node then writes its own copy and not the host's.
func maskSysctls() error {
	for name, value := range map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	} {
		target := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		file := filepath.Join("/run/sysctl", filepath.Base(name))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(file, target, 0); err != nil {
			return err
		}
	}
	return nil
}

// bind mounts source on target. Read-only takes a second call: the kernel
// ignores the flag on the first.
func bind(source, target string, flags uintptr) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|flags&unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", source, target, err)
	}
	if flags&unix.MS_RDONLY == 0 {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("making %s read-only: %w", target, err)
	}
	return nil
}

func makeDirs(parent string, mode fs.FileMode, names ...string) error {
	for _, name := range names {
		dir := filepath.Join(parent, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if mode != 0o755 {
			if err := os.Chmod(dir, mode&fs.ModePerm|fs.ModeSticky); err != nil {
				return err
			}
		}
	}
	return nil
}

// symlink is os.Symlink that does not mind an equal link.
func symlink(target, name string) error {
	if present, err := os.Readlink(name); err == nil && present == target {
		return nil
	}
	return os.Symlink(target, name)
}
