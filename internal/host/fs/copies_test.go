package fs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

const copySize = 320 << 20

// volume is a disk, and where it is mounted.
type volume struct {
	t      *testing.T
	host   *host.Host
	device string
	disk   string // its name
	at     string
	mkfs   []string
}

func newVolume(t *testing.T, h *host.Host, disk string, mkfs ...string) *volume {
	t.Helper()
	return &volume{t: t, host: h, device: loop(t, copySize), disk: disk, at: t.TempDir(), mkfs: mkfs}
}

// copied returns a copy as it is of a volume that is in use.
func (v *volume) copied(disk string) *volume {
	v.t.Helper()
	c := newVolume(v.t, v.host, disk)
	hosttest.Command(v.t, "dd", "if="+v.device, "of="+c.device, "bs=1M", "iflag=direct", "conv=sparse,fsync", "status=none")
	return c
}

// mount makes a volume ready and mounts it, as one that is a copy or none; raw says that its storage calls it so.
func (v *volume) mount(kind string, isCopy, raw bool) error {
	var marks Marks = NewOnDevice(v.host, v.device, v.disk, "")
	if raw {
		marks = Told{FS: Raw, Done: true}
	}
	kind, err := Ensure(v.t.Context(), v.host, Request{Device: v.device, Type: kind, MkfsOptions: v.mkfs, NoDiscard: true}, marks)
	if err != nil {
		return err
	}
	f := Found{Device: v.device, Type: kind}
	if isCopy {
		f.Copy = v.disk
	}
	if err := Distinguish(v.t.Context(), v.host, f, marks); err != nil {
		return err
	}
	if err := unix.Mount(v.device, v.at, kind, 0, strings.Join(Extra(kind), ",")); err != nil {
		return errs.E(errs.Internal, "mount: %w", err)
	}
	v.t.Cleanup(func() { _ = unix.Unmount(v.at, 0) })
	return nil
}

func (v *volume) unmount() {
	v.t.Helper()
	if err := unix.Unmount(v.at, 0); err != nil {
		v.t.Fatal(err)
	}
}

// put writes a file, which is then in the log.
func (v *volume) put(text string) {
	v.t.Helper()
	if err := hosttest.WriteThrough(filepath.Join(v.at, "file"), []byte(text)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *volume) has(text string) {
	v.t.Helper()
	if got, err := os.ReadFile(filepath.Join(v.at, "file")); err != nil || string(got) != text {
		v.t.Errorf("%s: %q, %v; want %q", v.disk, got, err, text)
	}
}

func (v *volume) uuid() string {
	v.t.Helper()
	s, err := readSuper(v.t.Context(), v.host, v.device, superOffsets()[0])
	if err != nil || !s.valid() {
		v.t.Fatalf("superblock of %s: valid %v, %v", v.disk, s.valid(), err)
	}
	return s.fsid()
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCopiesOnDevice: copies that nothing remembers anything of are used beside their source, whichever comes first, and in whatever
// state they were left.
func TestCopiesOnDevice(t *testing.T) {
	for _, kind := range Types() {
		t.Run(kind, func(t *testing.T) {
			var seam hosttest.Recorder
			h := host.New()
			h.Seam = seam.Seam
			source := newVolume(t, h, "source")
			ok(t, source.mount(kind, false, false))
			source.put("of the source")
			first, raw, later := source.copied("first"), source.copied("raw"), source.copied("later")
			for c, isRaw := range map[*volume]bool{first: false, raw: true} {
				if kind == "btrfs" {
					seam.Fail("stage.uuid", errors.New("killed"))
					if err := c.mount(kind, true, isRaw); err == nil {
						t.Fatal("it has the UUID of its source, and is mounted beside it")
					}
					seam.Fail("stage.uuid", nil)
				}
				ok(t, c.mount(kind, true, isRaw))
				c.has("of the source")
				c.put("of " + c.disk)
			}
			again := first.copied("again") // has a UUID already that is not the one in its metadata
			ok(t, again.mount(kind, true, false))
			again.has("of first")
			all := []*volume{source, first, raw, again}
			uuids := map[string]string{}
			for _, v := range all {
				v.unmount()
				if kind == "btrfs" {
					uuids[v.uuid()] = v.disk
					hosttest.Command(t, "btrfs", "check", "--readonly", v.device)
				}
			}
			if kind == "btrfs" && len(uuids) != len(all) {
				t.Errorf("UUIDs: %v", uuids)
			}
			ok(t, later.mount(kind, true, false)) // before its source
			for _, v := range all {
				ok(t, v.mount(kind, v != source, v == raw))
				if kind == "btrfs" && uuids[v.uuid()] != v.disk {
					t.Errorf("%s has another UUID than before", v.disk)
				}
			}
			source.has("of the source")
			later.has("of the source")
			raw.has("of raw")
			if kind == "btrfs" {
				unknown := first.copied("unknown")
				if err := unknown.mount(kind, false, false); !errs.Is(err, errs.InUse) {
					t.Errorf("a copy that nobody told of, beside its source: %v", err)
				}
				first.unmount()
				ok(t, unknown.mount(kind, false, false))
				if err := first.mount(kind, true, false); !errs.Is(err, errs.InUse) {
					t.Errorf("its source, beside it: %v", err)
				}
			}
		})
	}
}

// TestHalfNamed: who gave a copy its UUID was killed between two superblocks.
func TestHalfNamed(t *testing.T) {
	h := host.New()
	source := newVolume(t, h, "source")
	ok(t, source.mount("btrfs", false, false))
	source.put("of the source")
	c := source.copied("copy")
	at := superOffsets()[1]
	s, err := readSuper(t.Context(), h, c.device, at)
	ok(t, err)
	if !s.valid() {
		t.Fatal("there is no second superblock")
	}
	s.rename(uuidOn(c.disk))
	ok(t, writeDirect(c.device, at, s))
	ok(t, c.mount("btrfs", true, false))
	c.has("of the source")
	if c.uuid() != spell(uuidOn(c.disk)) {
		t.Errorf("its UUID is %s", c.uuid())
	}
}

// TestCopiesOfOtherChecksums: those that btrfstune has to change are used beside their source if they can be, and without it in any case.
func TestCopiesOfOtherChecksums(t *testing.T) {
	h := host.New()
	source := newVolume(t, h, "source", "--csum", "xxhash")
	ok(t, source.mount("btrfs", false, false))
	source.put("of the source")
	inUse := source.copied("copied in use")
	if err := inUse.mount("btrfs", true, false); !errs.Is(err, errs.Unsupported) {
		t.Errorf("with a log, beside its source: %v", err)
	}
	source.unmount()
	atRest := source.copied("copied at rest")
	ok(t, inUse.mount("btrfs", true, false))
	inUse.has("of the source")
	inUse.unmount()
	ok(t, source.mount("btrfs", false, false))
	for range 2 {
		ok(t, atRest.mount("btrfs", true, false))
		atRest.has("of the source")
		atRest.unmount()
	}
}
