package fs

import (
	"context"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

const (
	mkfsTimeout = 10 * time.Minute
	fsckTimeout = time.Hour
	growTimeout = 10 * time.Minute
	uuidTimeout = 2 * time.Minute
)

// checkMkfsOptions refuses what would make mkfs touch anything but the volume's device.
func checkMkfsOptions(options []string) error {
	for _, o := range options {
		switch {
		case strings.ContainsFunc(o, func(r rune) bool { return r < ' ' || r >= 0x7f && r <= 0x9f }):
			return errs.E(errs.Invalid, "mkfs_options: %.80q has a control character", o)
		case strings.Contains(o, "/"):
			return errs.E(errs.Invalid, "mkfs_options: %.80q names a path; all of a volume is on its own device", o)
		case o == "-f" || o == "-F" || o == "--force" || o == "--":
			return errs.E(errs.Invalid, "mkfs_options: %q: Dozo itself decides when it is safe to format", o)
		}
	}
	return nil
}

func mkfs(ctx context.Context, h *host.Host, r Request, kind string, force bool) error {
	device := r.Device
	var args []string
	switch kind {
	case "ext4":
		args = []string{"-q", "-m", "0"} // no blocks kept for root: a volume has one user
		if force {
			args = append(args, "-F")
		}
	default:
		args = []string{"-q"}
		if force {
			args = append(args, "-f")
		}
	}
	if r.NoDiscard {
		args = append(args, "-K") // all three know it; ext4's -E nodiscard would go with a second -E
	}
	args = append(append(args, r.MkfsOptions...), "--", device)
	_, err := h.Run(ctx, host.Cmd{Op: "stage.mkfs", Name: "mkfs." + kind, Args: args, Timeout: mkfsTimeout})
	if _, ran := host.ExitCode(err); err != nil && ran {
		return errs.E(errs.Internal, "device %s: %w", device, err)
	}
	if err != nil {
		return err
	}
	// The mark that follows is durable, so what it speaks of has to be.
	err = h.Do("stage.mkfs.sync", func() error { return syncDevice(device) })
	if err != nil {
		return errs.E(errs.Unavailable, "device %s: sync: %w", device, err)
	}
	return nil
}

func syncDevice(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Fsck makes a file system that is not mounted fit for mounting. ext4 is checked, which replays its
// journal and repairs what is safe to repair; xfs and btrfs do that when they are mounted, and have
// no check for before. One that is only to be read is not checked, since that writes: the kernel
// replays the journal itself, also for a read-only mount, and refuses if it cannot.
func Fsck(ctx context.Context, h *host.Host, device, kind string) error {
	if kind != "ext4" {
		return nil
	}
	_, err := h.Run(ctx, host.Cmd{Op: "stage.fsck", Name: "e2fsck", Args: []string{"-p", device}, Timeout: fsckTimeout})
	code, ran := host.ExitCode(err)
	switch {
	case !ran:
		return err
	case code == 0, code == 1: // 1: it repaired something
		return nil
	case code > 0 && code&^7 == 0:
		return errs.E(errs.Internal, "device %s: its ext4 has errors that are not safe to repair unasked; it is not mounted. Snapshot the volume, then run e2fsck -f %s on the node: %w", device, device, err)
	default:
		return errs.E(errs.Unavailable, "device %s: could not be checked and is not mounted: %w", device, err)
	}
}
