package node

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/test/lab"
)

func uuidOf(t *testing.T, b *bench, id backend.ID) string {
	t.Helper()
	out, err := exec.Command("blkid", "-p", "-o", "value", "-s", "UUID", b.disks.image(id)).Output()
	if err != nil || len(out) == 0 {
		t.Fatalf("blkid: %q, %v", out, err)
	}
	return strings.TrimSpace(string(out))
}

// TestCopiesBesideTheirSource mounts copies that were made while the source was in use, with what a
// database had last synced still in the log.
func TestCopiesBesideTheirSource(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.disk("v1", size)
			source := request(b, "v1", kind)
			b.stage(source)
			write(t, source.Staging+"/file", "of the source")
			b.copyDisk("v1", "c1")
			b.copyDisk("v1", "c2")
			all := []StageRequest{source}
			for _, id := range []backend.ID{"c1", "c2"} {
				c := request(b, id, kind)
				b.stage(c)
				b.stage(c)
				read(t, c.Staging+"/file", "of the source")
				write(t, c.Staging+"/file", "of "+string(id))
				b.well(c)
				all = append(all, c)
			}
			// A copy of a copy, which has a UUID that is not the one in its metadata.
			b.copyDisk("c1", "c3")
			c3 := request(b, "c3", kind)
			b.stage(c3)
			read(t, c3.Staging+"/file", "of c1")
			read(t, source.Staging+"/file", "of the source")
			for _, s := range append(all, c3) {
				b.unstage(s)
			}
			for _, s := range append(all, c3) { // xfs has its new UUID by now
				b.stage(s)
			}
			read(t, source.Staging+"/file", "of the source")
			read(t, all[1].Staging+"/file", "of c1")
			read(t, all[2].Staging+"/file", "of c2")
			for _, s := range append(all, c3) {
				b.unstage(s)
			}
			if kind != "ext4" && uuidOf(t, b, "v1") == uuidOf(t, b, "c1") {
				t.Error("the copy has the UUID of its source")
			}
			if kind == "btrfs" {
				for _, id := range []backend.ID{"v1", "c1", "c3"} {
					if out, err := exec.Command("btrfs", "check", "--readonly", b.disks.image(id)).CombinedOutput(); err != nil {
						t.Errorf("btrfs check: %v\n%s", err, out)
					}
				}
			}
		})
	}
}

// TestCopyBeforeSource mounts the copy while the source is attached and not mounted, and the source
// after it.
func TestCopyBeforeSource(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.disk("v1", size)
			source, c := request(b, "v1", kind), request(b, "c1", kind)
			b.stage(source)
			write(t, source.Staging+"/file", "of the source")
			b.copyDisk("v1", "c1")
			b.unstage(source)
			if _, err := b.disks.Activate(b.ctx, "v1"); err != nil {
				t.Fatal(err)
			}
			b.stage(c)
			write(t, c.Staging+"/file", "of the copy")
			b.stage(source)
			read(t, source.Staging+"/file", "of the source")
			read(t, c.Staging+"/file", "of the copy")
			b.unstage(source)
			b.unstage(c)
		})
	}
}

// TestUnmarkedTwin is a copy of a btrfs that nobody told us of.
func TestUnmarkedTwin(t *testing.T) {
	b := newBench(t)
	b.disk("v1", size)
	source := request(b, "v1", "btrfs")
	b.stage(source)
	b.copyDisk("v1", "c1")
	b.disks.marks["c1"] = backend.Mark{FS: "btrfs", Done: true}
	errstest.Refused(t, "Stage", b.node.Stage(b.ctx, request(b, "c1", "btrfs")), errs.InUse, "btrfstune")
	b.unstage(source)
}

// TestOtherChecksums is a btrfs whose superblock we do not write ourselves.
func TestOtherChecksums(t *testing.T) {
	b := newBench(t)
	b.disk("v1", size)
	source, c := request(b, "v1", "btrfs"), request(b, "c1", "btrfs")
	source.MkfsOptions = []string{"--csum", "xxhash"}
	b.stage(source)
	write(t, source.Staging+"/file", "hello")
	b.copyDisk("v1", "c1")
	errstest.Refused(t, "with a log", b.node.Stage(b.ctx, c), errs.Unsupported, "CRC32C")
	b.unstage(source)
	b.copyDisk("v1", "c1")
	b.stage(source)
	b.stage(c)
	read(t, c.Staging+"/file", "hello")
	b.unstage(source)
	b.unstage(c)
}

func TestGrowth(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "ext4" && !lab.WithCapability(t, unix.CAP_SYS_RESOURCE, lab.Guest{Modules: []string{"loop"}}) {
				return
			}
			b := newBench(t)
			b.disk("v1", size)
			s := request(b, "v1", kind)
			b.stage(s)
			small, err := b.node.Stats(b.ctx, s.Volume, s.Staging)
			if err != nil {
				t.Fatal(err)
			}
			b.seam.Ops(false)
			if err := os.Truncate(b.disks.image("v1"), 2*size); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got, err := b.node.Expand(b.ctx, s.Volume, s.Staging); err != nil || got != 2*size {
					t.Fatalf("Expand: %d, %v", got, err)
				}
			}
			if n := count(b.seam.Ops(false), "expand.grow"); n != 1 {
				t.Errorf("grown %d times", n)
			}
			large, err := b.node.Stats(b.ctx, s.Volume, s.Staging)
			if err != nil || large.TotalBytes < small.TotalBytes+size*3/4 {
				t.Errorf("from %d to %d bytes, %v", small.TotalBytes, large.TotalBytes, err)
			}
			b.unstage(s)

			if err := os.Truncate(b.disks.image("v1"), 3*size+12345*512); err != nil { // odd on purpose
				t.Fatal(err)
			}
			b.stage(s)
			b.stage(s)
			if n := count(b.seam.Ops(false), "stage.grow"); n != 1 {
				t.Errorf("grown %d times", n)
			}
			b.well(s)
			_, err = b.node.Expand(b.ctx, s.Volume, b.kubelet)
			errstest.Refused(t, "Expand at another path", err, errs.NotFound)
			_, err = b.node.Expand(b.ctx, "nobody", s.Staging)
			errstest.Refused(t, "Expand of another volume", err, errs.NotFound)
			b.unstage(s)
		})
	}
}

// TestGrowthWithoutCapability is for sandboxes: ext4 alone asks for CAP_SYS_RESOURCE.
func TestGrowthWithoutCapability(t *testing.T) {
	b := newBench(t)
	if b.host.HasCapability(unix.CAP_SYS_RESOURCE) {
		return // nobody refuses anything here
	}
	b.disk("v1", size)
	s := request(b, "v1", "ext4")
	b.stage(s)
	if err := os.Truncate(b.disks.image("v1"), 2*size); err != nil {
		t.Fatal(err)
	}
	_, err := b.node.Expand(b.ctx, s.Volume, s.Staging)
	errstest.Refused(t, "Expand", err, errs.Unsupported, "CAP_SYS_RESOURCE")
	b.unstage(s)
	errstest.Refused(t, "Stage", b.node.Stage(b.ctx, s), errs.Unsupported, "CAP_SYS_RESOURCE")
}
