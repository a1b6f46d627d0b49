package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

func TestParseProbe(t *testing.T) {
	for export, want := range map[string]content{
		"DEVNAME=/dev/x\nUUID=1\nTYPE=ext4\nUSAGE=filesystem\n": {name: "ext4", kind: "ext4"},
		"PTTYPE=dos\n": {what: "a partition table (dos)"},
		"TYPE=vfat\nUSAGE=filesystem\nPTTYPE=dos\n":   {what: "a partition table (dos)"},
		"TYPE=LVM2_member\nUSAGE=raid\n":              {name: "LVM2_member", what: "LVM2_member (raid)"},
		"TYPE=crypto_LUKS\nUSAGE=crypto\nVERSION=2\n": {name: "crypto_LUKS", what: "crypto_LUKS (crypto)"},
		"":                   {what: "something that blkid has no type for"},
		"USAGE=filesystem\n": {what: "something that blkid has no type for"},
	} {
		if got := parseProbe(export); got != want {
			t.Errorf("%q: %+v, want %+v", export, got, want)
		}
	}
}

func TestMkfsOptions(t *testing.T) {
	if err := checkMkfsOptions([]string{"-i", "size=512", "-m", "reflink=1", "--csum", "xxhash"}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"-F", "-f", "--force", "--", "/dev/sda", "logdev=/dev/sda", "dev/sda", "a\nb", "\x00"} {
		if err := checkMkfsOptions([]string{bad}); !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "mkfs_options: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestFsckCodes(t *testing.T) {
	for code, want := range map[int]string{0: "", 1: "", 2: "internal", 3: "internal", 4: "internal", 5: "internal", 8: "unavailable", 12: "unavailable", 16: "unavailable", 32: "unavailable", 128: "unavailable", -1: "unavailable"} {
		h := host.New()
		h.Runner = &hosttest.Script{Answers: map[string]hosttest.Answer{"stage.fsck": {Code: code}}}
		err := Fsck(context.Background(), h, "/dev/x", "ext4")
		got := ""
		if err != nil {
			got = errs.KindOf(err).String()
		}
		if got != want {
			t.Errorf("e2fsck exits with %d: %v, want kind %q", code, err, want)
		}
	}
	h := host.New()
	h.Runner = &hosttest.Script{}
	for _, kind := range []string{"xfs", "btrfs"} {
		if err := Fsck(context.Background(), h, "/dev/x", kind); err != nil {
			t.Errorf("%s is not checked before it is mounted: %v", kind, err)
		}
	}
	if err := Fsck(context.Background(), h, "/dev/x", "ext4"); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a check that could not be made: %v", err)
	}
}

func TestSuperblockRename(t *testing.T) {
	s := superblock(make([]byte, superSize))
	copy(s[superMagic:], "_BHRfS_M")
	old := bytes.Repeat([]byte{0xab}, 16)
	copy(s[superFSID:], old)
	if s.valid() {
		t.Error("valid without a checksum")
	}
	for _, fsid := range []string{"0123456789abcdef", "fedcba9876543210"} { // the second time it has a UUID of its own
		s.rename([]byte(fsid))
		if !s.valid() || string(s[superFSID:superFSID+16]) != fsid || !bytes.Equal(s[superMetadataUUID:superMetadataUUID+16], old) ||
			s.u64(superIncompat) != incompatMetadataUUID {
			t.Errorf("renamed to %q: %x", fsid, []byte(s[:0x300]))
		}
	}
	if got := s.fsid(); got != "66656463-6261-3938-3736-353433323130" {
		t.Errorf("fsid %s", got)
	}
	binary.LittleEndian.PutUint64(s[superLogRoot:], 1)
	if s.valid() {
		t.Error("valid with a wrong checksum")
	}
}
