// Package devices finds the disks and partitions of a node that a volume group may be made of: those that
// were asked for and that nobody uses. Whatever cannot be told is a reason against a device. Nothing here
// writes.
package devices

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// Wanted says which devices are asked for.
type Wanted struct {
	Patterns   []string // of paths, as of [filepath.Match]
	Min, Max   int64    // bytes; Max 0: any size from Min on
	Model      string   // pattern of the disk's model; "": any
	Rotational string   // "true" for hard disks, "false" for flash, "": both
}

// Device is a device that one of the patterns matches.
type Device struct {
	Path string // as the kernel calls it, "/dev/nvme0n1"
	Why  string // why it may not be used, for people; "": nothing speaks against it so far, see [Empty]

	identity string // the same for all the ways to one disk or partition; "" if it has none
}

// Find returns what the patterns match, sorted by path, each device once whatever names it has.
func Find(h *host.Host, w Wanted) ([]Device, error) {
	found := map[host.DeviceNumber]Device{}
	for _, p := range w.Patterns {
		names, err := filepath.Glob(p)
		if err != nil {
			return nil, errs.E(errs.Invalid, "options[\"devices\"]: %q: %w", p, err)
		}
		for _, name := range names {
			n, err := h.DeviceNumber(name)
			if err != nil {
				continue // a symlink that leads nowhere, or no block device
			}
			if _, known := found[n]; !known {
				found[n] = look(h, n, w)
			}
		}
	}
	var all []Device
	for _, d := range found {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Device) int { return strings.Compare(a.Path, b.Path) })
	refuseTwins(all)
	return all, nil
}

// refuseTwins refuses a disk that is there by several paths: which of them is right is multipath's to say.
func refuseTwins(all []Device) {
	paths := map[string][]string{}
	for _, d := range all {
		if d.identity != "" {
			paths[d.identity] = append(paths[d.identity], d.Path)
		}
	}
	for i, d := range all {
		if same := paths[d.identity]; len(same) > 1 && d.Why == "" {
			all[i].Why = fmt.Sprintf("is one disk by several paths (%s); use multipath", strings.Join(same, ", "))
		}
	}
}

// look judges a device by what the kernel says of it.
func look(h *host.Host, n host.DeviceNumber, w Wanted) Device {
	dir, err := filepath.EvalSymlinks(h.Sys("dev", "block", fmt.Sprintf("%d:%d", n.Major, n.Minor)))
	if err != nil {
		return Device{Path: fmt.Sprintf("device %d:%d", n.Major, n.Minor), Why: "is not in /sys: " + err.Error()}
	}
	d := Device{Path: h.Dev(strings.ReplaceAll(filepath.Base(dir), "!", "/"))}
	s := sys{dir: dir, disk: dir}
	if s.is("partition") {
		s.disk = filepath.Dir(dir)
	}
	d.identity = s.identity()
	if d.Why = s.against(w); d.Why != "" {
		return d
	}
	mounts, err := h.MountsOf(d.Path)
	switch {
	case err != nil:
		d.Why = "whether it is mounted cannot be told: " + err.Error()
	case len(mounts) > 0:
		d.Why = "is mounted at " + mounts[0].MountPoint
	}
	return d
}

// sys is a device in sysfs, and the disk that it is or is a part of.
type sys struct{ dir, disk string }

func (s sys) is(elem ...string) bool {
	_, err := os.Stat(filepath.Join(append([]string{s.dir}, elem...)...))
	return err == nil
}

// text is what an attribute of a device says; "" if it has none.
func text(dir string, elem ...string) string {
	b, _ := os.ReadFile(filepath.Join(append([]string{dir}, elem...)...))
	return strings.TrimSpace(string(b))
}

// identity is what a disk says that it is by every path to it, with the number of the partition.
func (s sys) identity() string {
	for _, id := range []string{text(s.disk, "wwid"), text(s.disk, "device", "wwid")} {
		if id != "" {
			return id + " " + text(s.dir, "partition")
		}
	}
	return ""
}

// virtual are devices that are made of others, of memory or of the network.
func virtual() []string {
	return []string{"loop", "dm-", "md", "ram", "zram", "nbd", "rbd", "drbd", "bcache", "mtdblock", "sr", "fd"}
}

// against is what speaks against a device, "" if nothing does. An attribute that should be there and is
// not does.
func (s sys) against(w Wanted) string {
	name := filepath.Base(s.disk)
	size, err := strconv.ParseInt(text(s.dir, "size"), 10, 64)
	size *= 512 // sectors, whatever the disk calls one
	held := holders(s.dir)
	if s.disk != s.dir {
		held = append(held, holders(s.disk)...)
	}
	parts, _ := filepath.Glob(filepath.Join(s.dir, "*", "partition"))
	model := text(s.disk, "device", "model")
	fits, _ := path.Match(w.Model, model)
	rotational := map[string]string{"0": "false", "1": "true"}[text(s.disk, "queue", "rotational")]
	switch {
	case slices.ContainsFunc(virtual(), func(v string) bool { return strings.HasPrefix(name, v) }) || !(sys{dir: s.disk}).is("device"):
		return "is no disk"
	case text(s.disk, "removable") != "0":
		return "is removable"
	case text(s.dir, "ro") != "0" || text(s.disk, "ro") != "0":
		return "is read-only"
	case err != nil || !s.is("holders"):
		return "the kernel does not say how large it is and who uses it"
	case size < w.Min:
		return fmt.Sprintf("has %d bytes, less than minDeviceSize", size)
	case w.Max > 0 && size > w.Max:
		return fmt.Sprintf("has %d bytes, more than maxDeviceSize", size)
	case w.Model != "" && !fits:
		return fmt.Sprintf("is of the model %q, not of deviceModel", model)
	case w.Rotational != "" && rotational != w.Rotational:
		return "is not as rotational says"
	case len(parts) > 0:
		return "has partitions"
	case len(held) > 0:
		return "is used by " + strings.Join(held, ", ")
	}
	return ""
}

// holders are the devices that stand on one.
func holders(dir string) (names []string) {
	entries, _ := os.ReadDir(filepath.Join(dir, "holders"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
