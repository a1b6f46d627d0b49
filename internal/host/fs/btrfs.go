package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// A btrfs superblock: 4 KiB at these offsets of the device, the first being the one that counts and
// the others spares. Offsets of the fields are those of struct btrfs_super_block.
const (
	superSize = 4096

	superFSID         = 0x20
	superFlags        = 0x38
	superMagic        = 0x40
	superLogRoot      = 0x60
	superNumDevices   = 0x88
	superIncompat     = 0xbc
	superChecksumType = 0xc4
	superMetadataUUID = 0x23b

	incompatMetadataUUID = 1 << 10
	flagsChanging        = 1<<35 | 1<<36 // a btrfstune that was interrupted
)

func superOffsets() []int64 { return []int64{64 << 10, 64 << 20, 256 << 30} }

type superblock []byte

func (s superblock) u64(at int) uint64 { return binary.LittleEndian.Uint64(s[at:]) }

func (s superblock) fsid() string { return spell(s[superFSID : superFSID+16]) }

// spell writes a UUID as everybody does.
func spell(uuid []byte) string {
	x := hex.EncodeToString(uuid)
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}

func (s superblock) crc() uint32 {
	return crc32.Checksum(s[superFSID:superSize], crc32.MakeTable(crc32.Castagnoli))
}

func (s superblock) hasCRC() bool {
	return binary.LittleEndian.Uint16(s[superChecksumType:]) == 0
}

// valid reports whether it is one, with the checksum that mkfs.btrfs chooses unless told otherwise.
func (s superblock) valid() bool {
	return len(s) == superSize && bytes.Equal(s[superMagic:superMagic+8], []byte("_BHRfS_M")) &&
		(!s.hasCRC() || binary.LittleEndian.Uint32(s) == s.crc())
}

// editable reports whether [superblock.rename] may be used.
func (s superblock) editable() bool { return s.hasCRC() && s.u64(superFlags)&flagsChanging == 0 }

// rename gives the file system another UUID. The one it was made with, which is in every block of
// its metadata, moves to a field of its own: this is what btrfstune -m does, and one block is all
// that changes.
func (s superblock) rename(fsid []byte) {
	if s.u64(superIncompat)&incompatMetadataUUID == 0 {
		copy(s[superMetadataUUID:], s[superFSID:superFSID+16])
		binary.LittleEndian.PutUint64(s[superIncompat:], s.u64(superIncompat)|incompatMetadataUUID)
	}
	copy(s[superFSID:], fsid)
	binary.LittleEndian.PutUint32(s, s.crc())
}

// renewBtrfs gives a file system that is not mounted a new UUID: this one, or one that btrfstune chooses.
//
// btrfstune -m would be the tool. But it commits transactions without replaying the log, where the
// last fsyncs of a database are, and a copy taken of a volume in use then no longer mounts ("parent
// transid verify failed"). So the superblock is edited here, which leaves the log in force; only for
// the rare checksums that are not CRC32C is btrfstune called, and only if there is no log.
func renewBtrfs(ctx context.Context, h *host.Host, device string, uuid []byte) error {
	first, err := readSuper(ctx, h, device, superOffsets()[0])
	if err != nil {
		return err
	}
	if !first.valid() {
		return errs.E(errs.Internal, "device %s: its btrfs superblock is damaged; look at it with btrfs inspect-internal dump-super -fa, and btrfs rescue super-recover", device)
	}
	if n := first.u64(superNumDevices); n != 1 {
		return errs.E(errs.InUse, "device %s: is one of %d devices of a btrfs; a copy of one alone cannot be used", device, n)
	}
	// The kernel may have seen the device with its old UUID (udev shows it every new one). That it
	// does not know it, or has no btrfs yet, is as good.
	_, err = h.Run(ctx, host.Cmd{Op: "stage.uuid.forget", Name: "btrfs", Args: []string{"device", "scan", "--forget", device}, Timeout: uuidTimeout})
	if _, ran := host.ExitCode(err); !ran {
		return err
	}
	if first.editable() {
		return renameSupers(ctx, h, device, uuid)
	}
	if first.u64(superLogRoot) != 0 {
		return errs.E(errs.Unsupported, "device %s: a copy of a btrfs in use whose checksums are not CRC32C cannot be told from its source; make the snapshot while the volume is not in use", device)
	}
	_, err = h.Run(ctx, host.Cmd{Op: "stage.uuid", Name: "btrfstune", Args: []string{"-f", "-m", device}, Timeout: uuidTimeout})
	if _, ran := host.ExitCode(err); err != nil && ran {
		return errs.E(errs.Internal, "device %s: its UUID cannot be changed, and it must not be mounted beside its source: %w", device, err)
	}
	return err
}

// nameBtrfs gives a copy the UUID that it is to have, unless it has it. One that only btrfstune can change, which chooses a UUID itself
// and so would again each time, is changed when it has to be: while its source, or another copy, is mounted.
func nameBtrfs(ctx context.Context, h *host.Host, device string, uuid []byte) error {
	s, err := readSuper(ctx, h, device, superOffsets()[0])
	switch {
	case err != nil:
		return err
	case !s.valid() || s.fsid() == spell(uuid):
		return refuseTwin(ctx, h, device) // which may be a copy of this one
	case !s.editable():
		if err := refuseTwin(ctx, h, device); !errs.Is(err, errs.InUse) {
			return err
		}
	}
	return renewBtrfs(ctx, h, device, uuid)
}

// renameSupers writes the spare superblocks first: with the one that counts the deed is done.
func renameSupers(ctx context.Context, h *host.Host, device string, uuid []byte) error {
	size, err := h.DeviceSize("stage.uuid.size", device)
	if err != nil {
		return errs.E(errs.Unavailable, "device %s: its size: %w", device, err)
	}
	offsets := superOffsets()
	for i := len(offsets) - 1; i >= 0; i-- {
		if offsets[i]+superSize > size {
			continue
		}
		s, err := readSuper(ctx, h, device, offsets[i])
		if err != nil {
			return err
		}
		if !s.valid() {
			continue // a spare that was never written
		}
		s.rename(uuid)
		err = h.Do("stage.uuid", func() error { return writeDirect(device, offsets[i], s) })
		if err != nil {
			return errs.E(errs.Unavailable, "device %s: write its UUID: %w", device, err)
		}
	}
	return nil
}

func readSuper(ctx context.Context, h *host.Host, device string, off int64) (superblock, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	b, err := h.ReadDevice(ctx, "stage.uuid.read", device, off, superSize)
	if err == nil && len(b) < superSize {
		err = errs.E(errs.Unavailable, "device %s: ends at %d bytes", device, off+int64(len(b)))
	}
	return superblock(b), err
}

// writeDirect writes a block to the medium. The device is opened exclusively: nobody may have it
// mounted.
func writeDirect(device string, off int64, data []byte) error {
	f, err := os.OpenFile(device, os.O_WRONLY|os.O_EXCL|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := host.AlignedBuffer(len(data))
	copy(b, data)
	_, err = f.WriteAt(b, off)
	return errors.Join(err, f.Sync())
}

// refuseTwin returns errs.InUse if a btrfs of the same UUID is mounted from another device: the
// kernel could show that one instead.
func refuseTwin(ctx context.Context, h *host.Host, device string) error {
	s, err := readSuper(ctx, h, device, superOffsets()[0])
	if err != nil {
		return err
	}
	if !s.valid() {
		return nil // mounting it fails, and says why
	}
	number, err := h.DeviceNumber(device)
	if err != nil {
		return err
	}
	dir := h.Sys("fs", "btrfs", s.fsid(), "devices")
	entries, err := h.ReadDir("stage.twin", dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errs.E(errs.Unavailable, "%s: %w", dir, err)
	}
	for _, e := range entries {
		other, err := sysDevice(h, filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if other != number {
			return errs.E(errs.InUse, "device %s: its btrfs has the UUID %s, which is mounted from %s: it is a copy that Dozo did not make. Give it another UUID with btrfstune -m while it is not in use", device, s.fsid(), e.Name())
		}
	}
	return nil
}
