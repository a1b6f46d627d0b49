package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procDir is the /proc directory, as seen from here, of the init in question.
// A node's process number is one of the cluster's namespace, so it is looked
// up through the cluster's own /proc.
func (l *Lab) procDir(node string) (string, error) {
	p, err := readProcess(l.pidFile())
	if err != nil {
		return "", err
	}
	if !p.alive() {
		return "", fmt.Errorf("lab %q is not up", l.Name)
	}
	top := filepath.Join("/proc", strconv.Itoa(p.PID))
	if node == "" {
		return top, nil
	}
	data, err := os.ReadFile(filepath.Join(l.node(node), "init.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the lab has no node %q", node)
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(top, "root", "proc", strings.TrimSpace(string(data))), nil
}

// enterNamespaces moves the calling thread. Every file is opened first: after
// the first move, the paths mean something else.
func enterNamespaces(proc string) error {
	kinds := []struct {
		name string
		flag int
	}{{"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC}, {"mnt", unix.CLONE_NEWNS}}
	files := make([]*os.File, len(kinds))
	for i, kind := range kinds {
		f, err := os.Open(filepath.Join(proc, "ns", kind.name))
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	// Threads share their root and working directory; one that does may not
	// change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for i, kind := range kinds {
		if err := unix.Setns(int(files[i].Fd()), kind.flag); err != nil {
			return fmt.Errorf("entering the %s namespace: %w", kind.name, err)
		}
	}
	return nil
}
