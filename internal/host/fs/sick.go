package fs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// sysDevice reads a device's number in its directory in sysfs.
func sysDevice(h *host.Host, dir string) (host.DeviceNumber, error) {
	var d host.DeviceNumber
	// The last element may be a symlink, but its file "dev" is none.
	text, err := h.ReadFile("sysfs.read", filepath.Join(dir, "dev"), 64)
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d:%d", &d.Major, &d.Minor)
	}
	if err != nil {
		return d, errs.E(errs.Unavailable, "%s: %w", dir, err)
	}
	return d, nil
}

// DeviceName returns the kernel's name of a device, "sda"; "" if there is none of that number.
func DeviceName(h *host.Host, d host.DeviceNumber) string {
	var name string
	err := h.Ask("sysfs.readlink", func() (err error) {
		name, err = os.Readlink(h.Sys("dev", "block", fmt.Sprintf("%d:%d", d.Major, d.Minor)))
		return err
	})
	if err != nil {
		return ""
	}
	return filepath.Base(name)
}

// DeviceSize returns the size of a device in bytes by its number, without opening it: 0 if there is
// none, or nothing is behind it.
func DeviceSize(h *host.Host, d host.DeviceNumber) int64 {
	text, err := h.ReadFile("sysfs.read", h.Sys("dev", "block", fmt.Sprintf("%d:%d", d.Major, d.Minor), "size"), 64)
	if err != nil {
		return 0
	}
	sectors, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return sectors * 512
}

// Errors returns what a mounted file system has counted of its own errors.
func Errors(h *host.Host, kind string, d host.DeviceNumber) []backend.Problem {
	name := DeviceName(h, d)
	if name == "" {
		return nil
	}
	switch kind {
	case "ext4":
		return ext4Errors(h, name)
	case "btrfs":
		return btrfsErrors(h, name)
	}
	return nil
}

func ext4Errors(h *host.Host, name string) []backend.Problem {
	text, err := h.ReadFile("sysfs.read", h.Sys("fs", "ext4", name, "errors_count"), 64)
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil || n == 0 {
		return nil
	}
	return []backend.Problem{{
		Severity: backend.Degraded, Reason: "FileSystemErrors",
		Message: fmt.Sprintf("ext4 on %s has met %d errors since it was last checked; see the kernel's log, then stop its pods and let them start again, which checks it", name, n),
	}}
}

// btrfsErrors reads the counters of the one device that a volume's btrfs has.
func btrfsErrors(h *host.Host, name string) []backend.Problem {
	found, _ := filepath.Glob(h.Sys("fs", "btrfs", "*", "devices", name))
	if len(found) != 1 {
		return nil
	}
	stats, err := h.ReadFile("sysfs.read", filepath.Join(filepath.Dir(filepath.Dir(found[0])), "devinfo", "1", "error_stats"), 4096)
	if err != nil {
		return nil
	}
	var counted []string
	for line := range strings.Lines(string(stats)) {
		if what, n, ok := strings.Cut(strings.TrimSpace(line), " "); ok && n != "0" {
			counted = append(counted, what+" "+n)
		}
	}
	if len(counted) == 0 {
		return nil
	}
	return []backend.Problem{{
		Severity: backend.Degraded, Reason: "FileSystemErrors",
		Message: fmt.Sprintf("btrfs on %s has met errors of its device: %s; see the kernel's log and run btrfs scrub", name, strings.Join(counted, ", ")),
	}}
}
