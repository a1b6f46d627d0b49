package cluster

import (
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
	image := filepath.Join(nodeRootPath(t, lab, "n1"), "var/lib", name)
	file, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(32 << 20); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := command{args: append([]string{"nsenter", "--mount=" + mountNamespace(t, lab, "n1"), "--"}, args...), timeout: time.Minute}.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
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

func mountNamespace(t *testing.T, lab *Lab, node string) string {
	t.Helper()
	proc, err := lab.procDir(node)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(proc, "ns", "mnt")
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
	for _, node := range []string{"", "n1", "n2"} {
		proc, err := lab.procDir(node)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"pid", "net", "mnt"} {
			name, err := os.Readlink(filepath.Join(proc, "ns", kind))
			if err != nil {
				t.Fatal(err)
			}
			all[name] = true
		}
	}
	return all
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
