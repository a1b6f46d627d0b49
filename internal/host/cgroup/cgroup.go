// Package cgroup limits what the processes of a pod do to a block device, with the io controller of
// cgroup version 2: a limit on a pod's group holds for all of its containers together. Version 1 has
// no limit for more than a single container, and no say in buffered writes, so that it is not used.
package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// ioMax is the file of the io controller's limits.
const ioMax = "io.max"

// Check returns errs.Unsupported, with what would be right, unless this machine can limit I/O.
func Check(h *host.Host) error {
	controllers, err := h.ReadFile("cgroup.controllers", h.Cgroup("cgroup.controllers"), 4096)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errs.E(errs.Unsupported, "I/O limits need cgroup version 2, and %s is not that: boot the node with systemd.unified_cgroup_hierarchy=1", h.Roots.Cgroup)
	case err != nil:
		return errs.E(errs.Unavailable, "cgroups: %w", err)
	case !slices.Contains(strings.Fields(string(controllers)), "io"):
		return errs.E(errs.Unsupported, "I/O limits need the io controller (CONFIG_BLK_CGROUP), which this kernel's cgroups lack")
	}
	return nil
}

// pod matches the name of a pod's group: that of the cgroupfs driver and that of the systemd driver,
// which writes the UID's dashes as underscores.
var pod = regexp.MustCompile(`^(?:pod([0-9a-f-]{32,36})|(?:.*-)?kubepods(?:-[a-z]+)?-pod([0-9a-f_]{32,36})\.slice)$`)

// maxDepth bounds the search: /kubelet.slice/kubelet-kubepods.slice/…-burstable.slice/…-podUID.slice is
// 4 deep, and a kubelet may have a cgroupRoot of its own.
const maxDepth = 7

// maxGroups bounds the number of groups that are looked at.
const maxGroups = 20_000

// Pods returns the groups of all pods on this machine, as paths by the pod's UID. The tree is walked, since
// where a kubelet puts them depends on its cgroupRoot, its cgroup driver and the pod's QoS class.
func Pods(h *host.Host) (map[string]string, error) {
	if err := Check(h); err != nil {
		return nil, err
	}
	found := map[string]string{}
	level := []string{h.Roots.Cgroup}
	seen := 0
	for range maxDepth {
		var below []string
		for _, dir := range level {
			if seen++; seen > maxGroups {
				return nil, errs.E(errs.Unavailable, "cgroups: more than %d: gave up", maxGroups)
			}
			entries, err := h.ReadDir("cgroup.list", dir)
			if errors.Is(err, fs.ErrNotExist) {
				continue // ended meanwhile
			}
			if err != nil {
				return nil, errs.E(errs.Unavailable, "cgroups: %w", err)
			}
			below = append(below, classify(dir, entries, found)...)
		}
		level = below
	}
	return found, nil
}

// classify puts the pods among a group's children into found, and returns the others that can have pods
// below. Services and scopes have processes in them, or containers.
func classify(dir string, entries []os.DirEntry, found map[string]string) (others []string) {
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() {
			continue
		}
		if m := pod.FindStringSubmatch(name); m != nil {
			found[m[1]+strings.ReplaceAll(m[2], "_", "-")] = filepath.Join(dir, name)
			continue
		}
		if !strings.HasSuffix(name, ".service") && !strings.HasSuffix(name, ".scope") {
			others = append(others, filepath.Join(dir, name))
		}
	}
	return others
}

// Limits returns those that a group has on a device; none is the zero Limits.
func Limits(h *host.Host, group string, device host.DeviceNumber) (backend.Limits, error) {
	data, err := h.ReadFile("cgroup.read", filepath.Join(group, ioMax), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(group); errors.Is(err, fs.ErrNotExist) {
			return backend.Limits{}, errs.E(errs.NotFound, "cgroup %s: is gone", group)
		}
		return backend.Limits{}, errs.E(errs.Unsupported, "cgroup %s: has no %s: the io controller is not on for it (cgroup.subtree_control of the groups above)", group, ioMax)
	}
	if err != nil {
		return backend.Limits{}, errs.E(errs.Unavailable, "cgroup: %w", err)
	}
	for line := range bytes.Lines(data) {
		words := strings.Fields(string(line))
		if len(words) > 0 && words[0] == key(device) {
			return parse(words[1:])
		}
	}
	return backend.Limits{}, nil
}

// SetLimits gives a group limits on a device, all of them: the zero Limits takes back what it has. It
// changes nothing if they are right. errs.NotFound if the group or the device is gone.
func SetLimits(h *host.Host, op, group string, device host.DeviceNumber, l backend.Limits) error {
	have, err := Limits(h, group, device)
	if err != nil || have == l {
		return err
	}
	line := fmt.Sprintf("%s rbps=%s wbps=%s riops=%s wiops=%s\n", key(device), value(l.ReadBPS), value(l.WriteBPS), value(l.ReadIOPS), value(l.WriteIOPS))
	err = h.Do(op, func() error {
		f, err := os.OpenFile(filepath.Join(group, ioMax), os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(line)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
		return errs.E(errs.NotFound, "cgroup %s: device %s: %w", group, key(device), err)
	case err != nil:
		return errs.E(errs.Unavailable, "cgroup %s: set %q: %w", group, strings.TrimSpace(line), err)
	}
	return nil
}

func key(d host.DeviceNumber) string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

func value(n int64) string {
	if n == 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// parse reads "rbps=1048576 wbps=max riops=max wiops=max".
func parse(words []string) (l backend.Limits, err error) {
	fields := map[string]*int64{"rbps": &l.ReadBPS, "wbps": &l.WriteBPS, "riops": &l.ReadIOPS, "wiops": &l.WriteIOPS}
	for _, w := range words {
		name, v, _ := strings.Cut(w, "=")
		if field := fields[name]; field != nil && v != "max" {
			if *field, err = strconv.ParseInt(v, 10, 64); err != nil {
				return l, errs.E(errs.Unavailable, "cgroup: %s: %q: %w", ioMax, w, err)
			}
		}
	}
	return l, nil
}
