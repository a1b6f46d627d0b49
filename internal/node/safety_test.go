package node

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// fill puts bytes at the beginning of a volume.
func (b *bench) fill(id backend.ID, at int64, data string) {
	b.t.Helper()
	f, err := os.OpenFile(b.disks.image(id), os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(data), at); err != nil {
		b.t.Fatal(err)
	}
}

// tool runs a program on a volume's image.
func tool(b *bench, id backend.ID, name string, args ...string) {
	b.t.Helper()
	hosttest.Command(b.t, name, append(args, b.disks.image(id))...)
}

func TestNeverFormats(t *testing.T) {
	failed := errors.New("I/O error, as if")
	for name, c := range map[string]struct {
		on      func(b *bench) // what is on the volume v1
		mark    backend.Mark
		ask     string // ext4 if empty
		ro      bool
		failing string // an effect
		kind    errs.Kind
		says    string
	}{
		"data without a format": {
			on:   func(b *bench) { b.fill("v1", 0, strings.Repeat("a database's own ", 4096)) },
			kind: errs.InUse, says: "not blank",
		},
		"a partition table": {
			on: func(b *bench) {
				cmd := exec.Command("sfdisk", "-q", b.disks.image("v1"))
				cmd.Stdin = strings.NewReader("label: gpt\nsize=8M\n")
				if out, err := cmd.CombinedOutput(); err != nil {
					b.t.Fatalf("sfdisk: %v: %s", err, out)
				}
			},
			kind: errs.InUse, says: "partition table (gpt)",
		},
		"swap": {
			on:   func(b *bench) { tool(b, "v1", "mkswap", "-q") },
			kind: errs.InUse, says: "swap",
		},
		"two things at once": {
			on: func(b *bench) {
				tool(b, "v1", "mkfs.ext4", "-q")
				b.fill("v1", 64<<10+0x40, "_BHRfS_M")
			},
			kind: errs.InUse, says: "it is left as it is",
		},
		"another file system": {
			on:   func(b *bench) { tool(b, "v1", "mkfs.xfs", "-q") },
			kind: errs.InUse, says: "ext4 was asked for, and device",
		},
		"a file system that we do not know": {
			on:   func(b *bench) { tool(b, "v1", "mkfs.ext2", "-q") },
			ask:  "any",
			kind: errs.InUse, says: "holds ext2",
		},
		"formatted before and blank now": {
			mark: backend.Mark{FS: "ext4", Done: true},
			kind: errs.Internal, says: "will not be formatted again",
		},
		"a copy that was formatted and is blank": {
			mark: backend.Mark{FS: "ext4", Done: true, Copied: true},
			kind: errs.Internal, says: "will not be formatted again",
		},
		"begun by us and then another's": {
			on:   func(b *bench) { tool(b, "v1", "mkfs.xfs", "-q") },
			mark: backend.Mark{FS: "ext4"},
			kind: errs.InUse, says: "which Dozo did not make",
		},
		"only to be read": {ro: true, kind: errs.InUse, says: "only read"},
		"the device cannot be read": {
			failing: "probe.read", kind: errs.Unavailable, says: "I/O error, as if",
		},
		"blkid fails": {failing: "probe.blkid", kind: errs.Internal, says: "I/O error, as if"},
		"blkid is stopped": {
			on:      func(b *bench) { b.seam.Fail("probe.blkid", &host.ExitError{Name: "blkid", Code: -1}) },
			failing: "-", kind: errs.Unavailable, says: "blkid",
		},
		"blkid has an error of its own": {
			on:      func(b *bench) { b.seam.Fail("probe.blkid", &host.ExitError{Name: "blkid", Code: 4}) },
			failing: "-", kind: errs.Unavailable, says: "blkid",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.disk("v1", size)
			if c.on != nil {
				c.on(b)
			}
			b.disks.marks["v1"] = c.mark
			s := request(b, "v1", "ext4")
			if c.ask != "" {
				s.FSType = ""
			}
			s.ReadOnly = c.ro
			if c.failing != "" && c.failing != "-" {
				b.seam.Fail(c.failing, failed)
			}
			before := b.content("v1")
			errstest.Refused(t, "Stage", b.node.Stage(b.ctx, s), c.kind, c.says)
			errstest.Refused(t, "Stage again", b.node.Stage(b.ctx, s), c.kind, c.says)
			b.unchanged("v1", before)
			if got := b.disks.marks["v1"]; got != c.mark {
				t.Errorf("the mark became %+v", got)
			}
		})
	}
}

// TestDeviceThatCannotBeRead has a real one: the end of its file is gone.
func TestDeviceThatCannotBeRead(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 64*mib)
	device, err := b.disks.Activate(b.ctx, "v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.disks.image("v1"), 0); err != nil {
		t.Fatal(err)
	}
	// Its size stays what it was until somebody asks for the new one, as Activate does.
	stuck := &stuckDisks{disks: b.disks, device: device}
	b.node = b.open(stuck)
	errstest.Refused(t, "Stage", b.node.Stage(b.ctx, request(b, "v1", "ext4")), errs.Unavailable)
	if len(b.disks.marks) > 0 {
		t.Errorf("marks: %+v", b.disks.marks)
	}
	hosttest.Command(t, "losetup", "--detach", device)
}

type stuckDisks struct {
	*disks
	device string
}

func (d *stuckDisks) Activate(ctx context.Context, _ backend.ID) (string, error) {
	return d.device, nil
}
func (d *stuckDisks) Deactivate(context.Context, backend.ID) error { return nil }

func TestInterruptedMkfs(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.disk("v1", size)
			tool(b, "v1", "mkfs."+kind, "-q")
			b.fill("v1", 1<<20, strings.Repeat("garbage", 1000))
			b.disks.marks["v1"] = backend.Mark{FS: kind}
			s := request(b, "v1", kind)
			s.FSType = "" // then it is the one that was begun
			b.stage(s)
			b.well(s)
			b.unstage(s)
			if got, want := b.disks.marks["v1"], (backend.Mark{FS: kind, Done: true}); got != want {
				t.Errorf("mark %+v, want %+v", got, want)
			}
		})
	}
	t.Run("halfway and blank to a probe", func(t *testing.T) {
		b := newBench(t)
		b.disk("v1", 64*mib)
		b.fill("v1", 0, strings.Repeat("half an inode table", 1000))
		b.disks.marks["v1"] = backend.Mark{FS: "ext4"}
		s := request(b, "v1", "ext4")
		b.stage(s)
		b.unstage(s)
	})
}

// TestWithoutMarks is storage that remembers nothing.
func TestWithoutMarks(t *testing.T) {
	b := newBench(t)
	b.node = b.open(markless{b.disks, b.disks})
	b.disk("v1", 64*mib)
	s := request(b, "v1", "")
	b.stage(s)
	write(t, s.Staging+"/file", "hello")
	b.unstage(s)
	s.FSType = "ext4"
	b.stage(s)
	read(t, s.Staging+"/file", "hello")
	b.unstage(s)
	s.FSType = "xfs"
	errstest.Refused(t, "another type", b.node.Stage(b.ctx, s), errs.InUse, "holds ext4")
	b.disk("v2", 64*mib)
	b.fill("v2", 100, "x")
	errstest.Refused(t, "not blank", b.node.Stage(b.ctx, request(b, "v2", "ext4")), errs.InUse, "not blank")
	if len(b.disks.marks) > 0 {
		t.Errorf("marks: %+v", b.disks.marks)
	}
}

// TestImported is a file system that somebody else made.
func TestImported(t *testing.T) {
	for _, ask := range []string{"", "xfs"} {
		b := newBench(t)
		b.disk("v1", size)
		tool(b, "v1", "mkfs.xfs", "-q")
		s := request(b, "v1", ask)
		b.stage(s)
		if got, want := b.disks.marks["v1"], (backend.Mark{FS: "xfs", Done: true}); got != want {
			t.Errorf("mark %+v, want %+v", got, want)
		}
		b.unstage(s)
	}
}

func TestDamagedExt4IsNotMounted(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 64*mib)
	s := request(b, "v1", "ext4")
	b.stage(s)
	if err := os.MkdirAll(s.Staging+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	b.unstage(s)
	// The root directory's inode becomes a file: nothing that e2fsck repairs unasked.
	tool(b, "v1", "debugfs", "-w", "-R", "set_inode_field <2> mode 0100644")
	tool(b, "v1", "debugfs", "-w", "-R", "set_super_value state 2")
	errstest.Refused(t, "Stage", b.node.Stage(b.ctx, s), errs.Internal, "e2fsck -f")
}

func TestMountedByAnother(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 64*mib)
	s := request(b, "v1", "ext4")
	b.stage(s)
	b.unstage(s)
	device, err := b.disks.Activate(b.ctx, "v1")
	if err != nil {
		t.Fatal(err)
	}
	point := t.TempDir()
	hosttest.Command(t, "mount", device, point)
	errstest.Refused(t, "Stage of what is mounted elsewhere", b.node.Stage(b.ctx, s), errs.InUse, point)
	hosttest.Unmount(t, point)
	b.stage(s)
	b.unstage(s)
}

func TestMountOptionsThatTheKernelRefuses(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		b := newBench(t)
		b.disk("v1", size)
		s := request(b, "v1", kind)
		s.MountOptions = []string{"noatime", "no_such_option"}
		errstest.Refused(t, kind, b.node.Stage(b.ctx, s), errs.Invalid, "mount_options", "no_such_option")
		s.MountOptions = []string{"bind"}
		errstest.Refused(t, kind, b.node.Stage(b.ctx, s), errs.Invalid, "mount_options", "bind")
		s.MountOptions = nil
		b.stage(s)
		b.unstage(s)
	}
}
