package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// hierarchies are the cgroup trees: several on version 1, one on version 2.
func hierarchies() ([]string, error) {
	if unified() {
		return []string{cgroupMount}, nil
	}
	entries, err := os.ReadDir(cgroupMount)
	if err != nil {
		return nil, fmt.Errorf("no cgroups: %w", err)
	}
	var dirs []string
	for _, entry := range entries {
		if entry.IsDir() { // links name one hierarchy twice
			dirs = append(dirs, filepath.Join(cgroupMount, entry.Name()))
		}
	}
	return dirs, nil
}

// unified says whether the machine has version 2 only.
func unified() bool {
	var stat unix.Statfs_t
	return unix.Statfs(cgroupMount, &stat) == nil && stat.Type == unix.CGROUP2_SUPER_MAGIC
}

// makeCgroups creates the lab's cgroup and one below it per node. The kubelet
// wants its root to exist, with every controller in it.
func makeCgroups(name string, nodes []nodeSpec) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range dirs {
		levels := []string{name}
		for _, n := range nodes {
			levels = append(levels, filepath.Join(name, n.Name))
		}
		for _, level := range levels {
			if err := makeCgroup(filepath.Join(hierarchy, level)); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeCgroup creates one group and gives it what its parent has: version 2
// enables controllers level by level, and a version 1 cpuset starts out with
// no processor and no memory.
func makeCgroup(dir string) error {
	if unified() {
		if err := enableControllers(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		if unified() {
			break
		}
		data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // not the cpuset hierarchy
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// enableControllers lets the children of a version 2 group have what it has.
func enableControllers(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for controller := range strings.FieldsSeq(string(data)) {
		control := filepath.Join(dir, "cgroup.subtree_control")
		if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("enabling the cgroup controller %s: %w", controller, err)
		}
	}
	return nil
}

// removeCgroups removes the lab's groups. A group stays busy for a moment
// after its last process was killed.
func removeCgroups(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, hierarchy := range dirs {
		for {
			err := removeTree(filepath.Join(hierarchy, name))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("removing cgroups: %w", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// removeTree removes groups from the leaves up; their files go with them.
func removeTree(dir string) error {
	var groups []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Reverse(groups)
	for _, group := range groups {
		if err := unix.Rmdir(group); err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "rmdir", Path: group, Err: err}
		}
	}
	return nil
}
