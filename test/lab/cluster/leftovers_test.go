package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const loopFileName = "dozo-lab-selftest.img"

// attachLoop makes a node leave what a crashed driver would: a loop device on
// one of its files, with a file system that is mounted; and the file deleted
// if so asked.
func attachLoop(t *testing.T, lab *Lab, mountpoint string, deleted bool) string {
	t.Helper()
	name := filepath.Base(mountpoint) + loopFileName
	run := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(onNode(t, lab, "n1", args...))
	}
	run("truncate", "--size", "32M", "/var/lib/"+name)
	device := run("losetup", "--find", "--show", "/var/lib/"+name)
	run("mkfs.ext4", "-q", device)
	run("mkdir", "-p", mountpoint)
	run("mount", device, mountpoint)
	if deleted {
		time.Sleep(2 * time.Second) // the lab notes whose it is, twice a second
		run("rm", "/var/lib/"+name)
	}
	return device
}

// loopBacking is the file behind a loop device, empty if it is free.
func loopBacking(device string) string {
	data, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// namespacesOf collects the lab's namespaces, by the kernel's names for them.
func namespacesOf(t *testing.T, lab *Lab) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	roots := []string{""}
	if s, err := lab.spec(); err != nil {
		t.Fatal(err)
	} else if s.Guest == nil {
		roots = append(roots, "n1", "n2")
	}
	for _, node := range roots {
		proc, err := lab.procDir(node)
		if err != nil {
			t.Fatal(err)
		}
		addNamespaces(t, all, proc)
	}
	// Nodes' kernels are in the cluster's network, and in namespaces of their own besides.
	for _, link := range processesIn(t, all) {
		addNamespaces(t, all, filepath.Dir(filepath.Dir(link)))
	}
	return all
}

func addNamespaces(t *testing.T, all map[string]bool, proc string) {
	t.Helper()
	for _, kind := range []string{"pid", "net", "mnt"} {
		name, err := os.Readlink(filepath.Join(proc, "ns", kind))
		if errors.Is(err, os.ErrNotExist) {
			continue // the process has ended meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		all[name] = true
	}
}

// processesIn lists the processes that are in one of the namespaces.
func processesIn(t *testing.T, namespaces map[string]bool) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if name, err := os.Readlink(link); err == nil && namespaces[name] {
			found = append(found, link)
		}
	}
	return found
}
