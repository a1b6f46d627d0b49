package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

func TestPathsThatCannotBe(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	b.seam.Ops(false)
	for _, bad := range []string{"", "/", "relative", "/a/../b", "/a//b", "/a/", "/a/\n"} {
		r := s
		r.Staging = bad
		errstest.Refused(t, bad, b.node.Stage(b.ctx, r), errs.Invalid, "staging_target_path")
		errstest.Refused(t, bad, b.node.Unstage(b.ctx, s.Volume, bad), errs.Invalid, "staging_target_path")
		p := b.publishRequest(s, "x")
		p.Target = bad
		errstest.Refused(t, bad, b.node.Publish(b.ctx, p), errs.Invalid, "target_path")
		errstest.Refused(t, bad, b.node.Unpublish(b.ctx, s.Volume, bad), errs.Invalid, "target_path")
		_, err := b.node.Stats(b.ctx, s.Volume, bad)
		errstest.Refused(t, bad, err, errs.Invalid, "volume_path")
	}
	r := s
	r.Staging = b.path("no/such/directory")
	errstest.Refused(t, "a directory that is not there", b.node.Stage(b.ctx, r), errs.Invalid, "staging_target_path")
	b.idle("refusing")
	r = s
	r.Volume = ""
	errstest.Refused(t, "no volume", b.node.Stage(b.ctx, r), errs.Invalid, "volume_id")
}

// TestSymlinks are what a pod that can write below the kubelet's directory may try.
func TestSymlinks(t *testing.T) {
	b := newBench(t)
	outside := t.TempDir()
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, b.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	link(outside, "last")
	link(outside, "above")
	link(".", "harmless")
	link("../../etc", "climbs")
	if err := os.Mkdir(filepath.Join(outside, "victim"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.stage(s)
	for _, name := range []string{"last", "above/victim", "above/new", "harmless/target", "climbs/target"} {
		p := b.publishRequest(s, name)
		errstest.Refused(t, name, b.node.Publish(b.ctx, p), errs.Invalid, "target_path", "symlink")
		errstest.Refused(t, name, b.node.Unpublish(b.ctx, p.Volume, p.Target), errs.Invalid, "target_path", "symlink")
		other := request(b, "v1", "ext4")
		other.Volume, other.Staging = "other", p.Target
		errstest.Refused(t, name, b.node.Stage(b.ctx, other), errs.Invalid, "staging_target_path", "symlink")
	}
	if _, err := os.Lstat(filepath.Join(outside, "victim")); err != nil {
		t.Errorf("the victim is gone: %v", err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
		t.Errorf("something was made outside: %v, %v", left, err)
	}
	b.unstage(s)
}

// TestTargetSwappedForASymlink is the race: what was a directory when it was published is a symlink
// when it is unpublished.
func TestTargetSwappedForASymlink(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	b.stage(s)
	if err := os.Mkdir(b.path("pod"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := b.publishRequest(s, "pod/target")
	b.publish(p)
	if err := os.Rename(b.path("pod"), b.path("moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("moved", b.path("pod")); err != nil {
		t.Fatal(err)
	}
	errstest.Refused(t, "Unpublish", b.node.Unpublish(b.ctx, p.Volume, p.Target), errs.Invalid, "symlink")
	if err := os.Remove(b.path("pod")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.path("moved"), b.path("pod")); err != nil {
		t.Fatal(err)
	}
	b.unpublish(p)
	b.unstage(s)
}

// TestRootBehindASymlink is a kubelet whose directory is elsewhere: that link is the administrator's.
func TestRootBehindASymlink(t *testing.T) {
	b := newBench(t)
	link := b.kubelet + "-link"
	if err := os.Symlink(b.kubelet, link); err != nil {
		t.Fatal(err)
	}
	b.node.opts.TargetRoot, b.kubelet = link, link
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	p := b.publishRequest(s, "target")
	b.stage(s)
	b.publish(p)
	b.seam.Ops(false)
	b.stage(s)
	b.publish(p)
	b.idle("a second Stage and Publish")
	if _, err := b.node.Expand(b.ctx, s.Volume, p.Target); err != nil {
		t.Error(err)
	}
	b.well(s)
	b.unpublish(p)
	b.unstage(s)
}

func TestTargetsThatHoldSomething(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	p := b.publishRequest(s, "target")
	b.stage(s)
	if err := os.Mkdir(p.Target, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, p.Target+"/precious", "data")
	errstest.Refused(t, "Publish on a full directory", b.node.Publish(b.ctx, p), errs.InUse, "not an empty directory")
	errstest.Refused(t, "Unpublish of a full directory", b.node.Unpublish(b.ctx, p.Volume, p.Target), errs.InUse, "not empty")
	read(t, p.Target+"/precious", "data")
	if err := os.Remove(p.Target + "/precious"); err != nil {
		t.Fatal(err)
	}
	b.publish(p) // an empty one may be there
	b.unpublish(p)

	write(t, p.Target, "data")
	errstest.Refused(t, "Publish on a file", b.node.Publish(b.ctx, p), errs.InUse, "not an empty directory")
	errstest.Refused(t, "Unpublish of a file", b.node.Unpublish(b.ctx, p.Volume, p.Target), errs.InUse, "neither")
	read(t, p.Target, "data")
	if err := os.Remove(p.Target); err != nil {
		t.Fatal(err)
	}
	b.unstage(s)

	if err := os.MkdirAll(s.Staging, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, s.Staging+"/precious", "data")
	errstest.Refused(t, "Stage on a full directory", b.node.Stage(b.ctx, s), errs.InUse, "not an empty directory")
	read(t, s.Staging+"/precious", "data")
}

func TestTargetWithSomethingElseMounted(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	p := b.publishRequest(s, "target")
	b.stage(s)
	if err := os.Mkdir(p.Target, 0o755); err != nil {
		t.Fatal(err)
	}
	hosttest.Command(t, "mount", "-t", "tmpfs", "none", p.Target)
	errstest.Refused(t, "Publish", b.node.Publish(b.ctx, p), errs.InUse, "tmpfs")
	errstest.Refused(t, "Unpublish", b.node.Unpublish(b.ctx, p.Volume, p.Target), errs.InUse, "tmpfs")
	if !strings.Contains(mountLine(t, p.Target), "tmpfs") {
		t.Error("the other mount is gone")
	}
	hosttest.Unmount(t, p.Target)
	b.publish(p)
	b.unpublish(p)
	b.unstage(s)
	// The staging path, with a directory that is not ours to remove.
	if err := os.Mkdir(s.Staging, 0o755); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	b.stage(s)
	b.unstage(s)
	if _, err := os.Lstat(s.Staging); err != nil {
		t.Errorf("a staging directory that was there before was removed: %v", err)
	}
}

func TestBusyVolumes(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	p := b.publishRequest(s, "target")
	b.stage(s)
	b.publish(p)
	f, err := os.Create(p.Target + "/open")
	if err != nil {
		t.Fatal(err)
	}
	errstest.Refused(t, "Unpublish while a file is open", b.node.Unpublish(b.ctx, p.Volume, p.Target), errs.InUse, "open")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b.unpublish(p)
	b.unstage(s)
}
