package fs

import (
	"bytes"
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// Extra returns mount options that a type has unless its user says otherwise. xfs refuses a file
// system whose UUID is mounted already, and that may be the case for a copy and for its source,
// whichever comes second. ext4 goes on after an error as if nothing were wrong, and what a database
// writes after that may be lost; read-only it is seen, by the database and by us.
func Extra(kind string) []string {
	switch kind {
	case "xfs":
		return []string{"nouuid"}
	case "ext4":
		return []string{"errors=remount-ro"}
	}
	return nil
}

// Distinguish gives the file system of a copied volume, which is not mounted, a UUID of its own, so
// that it can be used beside its source. For btrfs that has to be before the first mount: the kernel
// takes two devices of one UUID for two paths to one file system. For xfs it can wait until the log
// is clean, that is until the next time: the mount option of [Extra] serves until then. ext4 does
// not care.
func Distinguish(ctx context.Context, h *host.Host, device, kind string, readOnly bool, marks Marks) error {
	m, known, err := marks.Mark(ctx)
	if err != nil {
		return err
	}
	switch {
	case kind == "btrfs" && known && m.Copied:
		if err := renewBtrfs(ctx, h, device); err != nil {
			return err
		}
	case kind == "btrfs":
		return refuseTwin(ctx, h, device)
	case kind == "xfs" && known && m.Copied && !readOnly:
		if done, err := renewXFS(ctx, h, device); err != nil || !done {
			return err
		}
	default:
		return nil
	}
	return marks.SetMark(ctx, backend.Mark{FS: kind, Done: true})
}

// renewXFS reports whether it could; a log that must be replayed is no error. It runs what xfs_admin, a
// shell script, runs.
func renewXFS(ctx context.Context, h *host.Host, device string) (done bool, err error) {
	before, err := xfsUUID(ctx, h, device)
	if err != nil {
		return false, err
	}
	_, err = h.Run(ctx, host.Cmd{Op: "stage.uuid", Name: "xfs_db", Args: []string{"-x", "-c", "uuid generate", "--", device}, Timeout: uuidTimeout})
	if _, ran := host.ExitCode(err); !ran {
		return false, err
	}
	// Its exit status is 0 also when it refused because of the log.
	after, err := xfsUUID(ctx, h, device)
	return err == nil && !bytes.Equal(before, after), err
}

// xfsUUID reads the UUID in the first superblock.
func xfsUUID(ctx context.Context, h *host.Host, device string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	b, err := h.ReadDevice(ctx, "stage.uuid.read", device, 0, 4096)
	if err == nil && (len(b) < 48 || !bytes.HasPrefix(b, []byte("XFSB"))) {
		err = errs.E(errs.Internal, "device %s: has no xfs superblock", device)
	}
	if err != nil {
		return nil, err
	}
	return b[32:48], nil
}
