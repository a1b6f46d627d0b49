package fs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"

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

// Found is the file system that is on a device, which is not mounted.
type Found struct {
	Device   string
	Type     string
	ReadOnly bool
	// Copy is the name of the disk, which no other one has, where the volume is a copy and its marks do not say whether it has a UUID of its own.
	Copy string
}

// Distinguish gives the file system of a copied volume a UUID of its own, so that it can be used beside
// its source. For btrfs that has to be before the first mount: the kernel takes two devices of one UUID
// for two paths to one file system. For xfs it can wait until the log is clean, that is until the next
// time: the mount option of [Extra] serves until then, and for good where nothing would remember that
// it was done. ext4 does not care.
func Distinguish(ctx context.Context, h *host.Host, f Found, marks Marks) error {
	m, known, err := marks.Mark(ctx)
	if err != nil {
		return err
	}
	switch {
	case f.Type == "btrfs" && known && m.Copied:
		if err := renewBtrfs(ctx, h, f.Device, randomUUID()); err != nil {
			return err
		}
	case f.Type == "btrfs" && f.Copy != "":
		return nameBtrfs(ctx, h, f.Device, uuidOn(f.Copy))
	case f.Type == "btrfs":
		return refuseTwin(ctx, h, f.Device)
	case f.Type == "xfs" && known && m.Copied && !f.ReadOnly:
		if done, err := renewXFS(ctx, h, f.Device); err != nil || !done {
			return err
		}
	default:
		return nil
	}
	return marks.SetMark(ctx, backend.Mark{FS: f.Type, Done: true})
}

// uuidOn is the UUID of a copy on a disk. No other disk's copy has it, so that it says by itself that it was given.
func uuidOn(disk string) []byte {
	sum := sha256.Sum256([]byte("dozo copy on " + disk))
	return ofVersion(8, sum[:16])
}

func randomUUID() []byte {
	uuid := make([]byte, 16)
	rand.Read(uuid) // which never fails
	return ofVersion(4, uuid)
}

// ofVersion has a UUID say how it came to be (RFC 9562): 4 by chance, 8 in a way of one's own.
func ofVersion(v byte, uuid []byte) []byte {
	uuid[6], uuid[8] = uuid[6]&0x0f|v<<4, uuid[8]&0x3f|0x80
	return uuid
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
