package node

import (
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
)

// TestKilledWhileGivingAUUID stages a copy beside its source and is killed before and after each
// effect, the writing of each superblock among them.
func TestKilledWhileGivingAUUID(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			for _, after := range []bool{false, true} {
				for k := 0; killedCopyAt(t, kind, k, after); k++ {
				}
			}
		})
	}
}

func killedCopyAt(t *testing.T, kind string, at int, after bool) (more bool) {
	b := newBench(t)
	b.disk("v1", size)
	source, c := request(b, "v1", kind), request(b, "c1", kind)
	b.stage(source)
	write(t, source.Staging+"/file", "of the source")
	b.copyDisk("v1", "c1")
	if kind == "xfs" { // with a clean log, so that it gets its UUID at once
		b.unstage(source)
		b.copyDisk("v1", "c1")
		b.stage(source)
	}
	k := &killer{left: at, after: after}
	b.host.Seam = k.Seam
	err := b.node.Stage(b.ctx, c)
	b.host.Seam = nil
	if !k.dead && err != nil {
		t.Fatal(err)
	}
	b.node = b.open(b.disks)
	b.stage(c)
	read(t, c.Staging+"/file", "of the source")
	write(t, c.Staging+"/file", "of the copy")
	read(t, source.Staging+"/file", "of the source")
	b.unstage(source)
	b.unstage(c)
	if got, want := b.disks.marks["c1"], (backend.Mark{FS: kind, Done: true}); got != want {
		t.Errorf("killed at %s: mark %+v, want %+v", k.at, got, want)
	}
	if uuidOf(t, b, "v1") == uuidOf(t, b, "c1") {
		t.Errorf("killed at %s: the copy has the UUID of its source", k.at)
	}
	return k.dead
}

// TestGivenUp stages a volume, is killed before and after each effect, and unstages it: nothing of it may be left, not even the
// half of a record.
func TestGivenUp(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := 0; givenUpAt(t, k, after); k++ {
		}
	}
}

func givenUpAt(t *testing.T, at int, after bool) (more bool) {
	b := newBench(t)
	b.disk("v1", size)
	r := request(b, "v1", "xfs")
	k := &killer{left: at, after: after}
	b.host.Seam = k.Seam
	err := b.node.Stage(b.ctx, r)
	b.host.Seam = nil
	if !k.dead && err != nil {
		t.Fatal(err)
	}
	b.node = b.open(b.disks)
	b.unstage(r)
	left, err := filepath.Glob(filepath.Join(b.state, "*.json*"))
	if err != nil || len(left) > 0 {
		t.Errorf("killed at %s, after it %v: left %v, %v", k.at, after, left, err)
	}
	return k.dead
}
