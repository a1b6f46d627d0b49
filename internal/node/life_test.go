package node

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host"
)

// size is enough for any of the file systems: xfs wants 300 MiB.
const size = 320 * mib

func TestLifeOfAFileSystem(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.disk("v1", size)
			s := request(b, "v1", kind)
			s.MountOptions = []string{"noatime", "nosuid"}
			p := b.publishRequest(s, "target")
			b.stage(s)
			b.publish(p)
			write(t, p.Target+"/file", "hello")
			b.seam.Ops(false)
			b.stage(s)
			b.publish(p)
			if _, err := b.node.Expand(b.ctx, s.Volume, p.Target); err != nil {
				t.Error(err)
			}
			b.idle("a second Stage, Publish and Expand")
			if line := mountLine(t, p.Target); !strings.Contains(line, "noatime") || !strings.Contains(line, "nosuid") {
				t.Errorf("the target lacks the options: %s", line)
			}
			if got, want := b.disks.marks["v1"], (backend.Mark{FS: kind, Done: true}); got != want {
				t.Errorf("mark %+v, want %+v", got, want)
			}
			b.well(s)
			b.statsOfFS(s, p)
			errstest.Refused(t, "Unstage while published", b.node.Unstage(b.ctx, s.Volume, s.Staging), errs.InUse, p.Target)

			b.unpublish(p)
			if _, err := os.Lstat(p.Target); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the target is still there: %v", err)
			}
			b.unstage(s)
			b.seam.Ops(false)
			b.unpublish(p)
			b.unstage(s)
			b.idle("a second Unpublish and Unstage")

			b.stage(s)
			read(t, s.Staging+"/file", "hello")
			b.unstage(s)
		})
	}
}

func (b *bench) well(s StageRequest) {
	b.t.Helper()
	if problems, err := b.node.Health(b.ctx, s.Volume); err != nil || len(problems) > 0 {
		b.t.Errorf("Health: %+v, %v", problems, err)
	}
}

func (b *bench) statsOfFS(s StageRequest, p PublishRequest) {
	b.t.Helper()
	for _, path := range []string{s.Staging, p.Target} {
		st, err := b.node.Stats(b.ctx, s.Volume, path)
		if err != nil {
			b.t.Fatal(err)
		}
		if st.Block || st.TotalBytes < size/2 || st.TotalBytes > size || st.UsedBytes <= 0 || st.UsedBytes > st.TotalBytes ||
			st.AvailableBytes <= 0 || st.AvailableBytes > st.TotalBytes {
			b.t.Errorf("Stats of %s: %+v", path, st)
		}
	}
	_, err := b.node.Stats(b.ctx, s.Volume, b.kubelet)
	errstest.Refused(b.t, "Stats of another path", err, errs.NotFound)
	_, err = b.node.Stats(b.ctx, "nobody", p.Target)
	errstest.Refused(b.t, "Stats of another volume", err, errs.NotFound)
}

// statsOfMapped asks as the kubelet does: where it has bound the published device for itself.
func (b *bench) statsOfMapped(s StageRequest, p PublishRequest) {
	b.t.Helper()
	ours, other := b.path("mapped"), b.path("unmapped")
	for _, path := range []string{ours, other} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	for path, source := range map[string]string{ours: p.Target, other: "/dev/null"} {
		if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
			b.t.Fatal(err)
		}
	}
	if st, err := b.node.Stats(b.ctx, s.Volume, ours); err != nil || st != (Stats{TotalBytes: 8 * mib, Block: true}) {
		b.t.Errorf("Stats where the kubelet asks: %+v, %v", st, err)
	}
	_, err := b.node.Stats(b.ctx, s.Volume, other)
	errstest.Refused(b.t, "Stats of another device", err, errs.NotFound)
	for _, path := range []string{ours, other} {
		if err := unix.Unmount(path, 0); err != nil {
			b.t.Fatal(err)
		}
		_, err := b.node.Stats(b.ctx, s.Volume, path)
		errstest.Refused(b.t, "Stats where nothing is mounted", err, errs.NotFound)
		if err := os.Remove(path); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestLifeOfABlockVolume(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 8*mib)
	s := request(b, "v1", "block")
	p := b.publishRequest(s, "device")
	errstest.Refused(t, "Publish before Stage", b.node.Publish(b.ctx, p), errs.InUse, "not staged")
	b.stage(s)
	b.publish(p)
	b.seam.Ops(false)
	b.stage(s)
	b.publish(p)
	b.idle("a second Stage and Publish")

	f, err := os.OpenFile(p.Target, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("a database of its own"); err != nil {
		t.Fatal(err)
	}
	b.well(s)
	if st, err := b.node.Stats(b.ctx, s.Volume, p.Target); err != nil || st != (Stats{TotalBytes: 8 * mib, Block: true}) {
		t.Errorf("Stats: %+v, %v", st, err)
	}
	b.statsOfMapped(s, p)
	if err := os.Truncate(b.disks.image("v1"), 16*mib); err != nil {
		t.Fatal(err)
	}
	if got, err := b.node.Expand(b.ctx, s.Volume, p.Target); err != nil || got != 16*mib {
		t.Errorf("Expand: %d, %v", got, err)
	}
	errstest.Refused(t, "Unpublish of an open device", b.node.Unpublish(b.ctx, s.Volume, p.Target), errs.InUse, "open")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b.unpublish(p)
	device, err := b.disks.attached("v1")
	if err != nil {
		t.Fatal(err)
	}
	if f, err = os.OpenFile(device, os.O_RDWR|os.O_EXCL, 0); err != nil {
		t.Fatal(err)
	}
	errstest.Refused(t, "Unstage of an open device", b.node.Unstage(b.ctx, s.Volume, s.Staging), errs.InUse)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b.unstage(s)

	before := b.content("v1")
	err = b.node.Stage(b.ctx, b.stageRequest("v1", "ext4"))
	errstest.Refused(t, "Stage of a raw volume as a file system", err, errs.InUse, "block device before")
	b.unchanged("v1", before)
}

func TestReadOnlyPublishing(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.disk("v1", size)
			s := request(b, "v1", kind)
			b.stage(s)
			rw, ro := b.publishRequest(s, "rw"), b.publishRequest(s, "ro")
			ro.ReadOnly = true
			b.publish(rw)
			b.publish(ro)
			b.publish(ro)
			write(t, rw.Target+"/file", "hello")
			read(t, ro.Target+"/file", "hello")
			if err := os.WriteFile(ro.Target+"/other", nil, 0o600); err == nil {
				t.Error("the read-only target can be written to")
			}
			otherwise := ro
			otherwise.ReadOnly = false
			errstest.Refused(t, "Publish with another mode", b.node.Publish(b.ctx, otherwise), errs.Exists, "read-only")
			single := b.publishRequest(s, "third")
			single.SingleWriter = true
			errstest.Refused(t, "Publish for a single writer", b.node.Publish(b.ctx, single), errs.InUse, rw.Target)
			if got, err := b.node.Expand(b.ctx, s.Volume, ro.Target); err != nil || got != size {
				t.Errorf("Expand through the read-only target: %d, %v", got, err)
			}
			b.unpublish(rw)
			b.unpublish(ro)
			b.unstage(s)

			s.ReadOnly = true
			b.stage(s)
			b.publish(rw)
			read(t, rw.Target+"/file", "hello")
			if line := mountLine(t, rw.Target); !strings.Contains(line, " ro,") {
				t.Errorf("what is staged read-only is published so: %s", line)
			}
			b.well(s)
			b.unpublish(rw)
			b.unstage(s)
		})
	}
}

func TestStageConflicts(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	b.disk("v2", 32*mib)
	s := request(b, "v1", "ext4")
	b.stage(s)
	for name, c := range map[string]struct {
		change func(*StageRequest)
		kind   errs.Kind
	}{
		"another path":    {func(r *StageRequest) { r.Staging = b.path("elsewhere") }, errs.InUse},
		"another access":  {func(r *StageRequest) { r.Access = backend.LocalAccess("p", "v2") }, errs.InUse},
		"as a device":     {func(r *StageRequest) { r.Block = true; r.FSType = "" }, errs.InUse},
		"other options":   {func(r *StageRequest) { r.MountOptions = []string{"noatime"} }, errs.Exists},
		"another type":    {func(r *StageRequest) { r.FSType = "xfs" }, errs.Exists},
		"only to be read": {func(r *StageRequest) { r.ReadOnly = true }, errs.Exists},
	} {
		r := s
		c.change(&r)
		errstest.Refused(t, name, b.node.Stage(b.ctx, r), c.kind)
	}
	other := request(b, "v2", "ext4")
	other.Staging = s.Staging
	errstest.Refused(t, "another volume at the same path", b.node.Stage(b.ctx, other), errs.InUse, "something else")
	errstest.Refused(t, "another volume at the target", b.node.Unpublish(b.ctx, "handle/v2", s.Staging), errs.InUse, "handle/v1")
	if err := b.node.Unstage(b.ctx, "handle/v2", s.Staging); err != nil {
		t.Error(err)
	}
	if mountLine(t, s.Staging) == "[]" {
		t.Error("Unstage of one volume unmounted another")
	}
	b.unstage(s)
}

func TestTwoStagesAtOnce(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 64*mib)
	s := request(b, "v1", "ext4")
	second := b.open(b.disks) // as in a rolling update
	var wg sync.WaitGroup
	for i := range 8 {
		n := []*Node{b.node, second}[i%2]
		wg.Go(func() {
			if err := n.Stage(b.ctx, s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mountLine(t, s.Staging)
	if n := count(b.seam.Ops(false), "stage.mkfs"); n != 1 {
		t.Errorf("mkfs ran %d times", n)
	}
	p := b.publishRequest(s, "target")
	for i := range 8 {
		n := []*Node{b.node, second}[i%2]
		wg.Go(func() {
			if err := n.Publish(b.ctx, p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mountLine(t, p.Target)
	b.unpublish(p)
	b.unstage(s)
}

func count(ops []string, op string) (n int) {
	for _, o := range ops {
		if o == op {
			n++
		}
	}
	return n
}

// TestImpatientCaller is the kubelet whose deadline is shorter than mkfs.
func TestImpatientCaller(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 64*mib)
	s := request(b, "v1", "ext4")
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.host.Seam = func(e host.Effect, do func() error) error {
		if e.Op == "stage.mkfs" {
			once.Do(func() { close(begun); <-goOn })
		}
		return b.seam.Seam(e, do)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	go func() { <-begun; cancel() }()
	errstest.Refused(t, "Stage for a caller who leaves", b.node.Stage(ctx, s), errs.Aborted, "stage handle/v1", "mkfs.ext4")
	ctx, cancel = context.WithTimeout(b.ctx, 100*time.Millisecond)
	defer cancel()
	errstest.Refused(t, "Stage meanwhile", b.node.Stage(ctx, s), errs.Aborted, "waiting for stage")
	ctx, cancel = context.WithTimeout(b.ctx, 100*time.Millisecond)
	defer cancel()
	errstest.Refused(t, "Stage by another process", b.open(b.disks).Stage(ctx, s), errs.Aborted)
	close(goOn)
	b.stage(s)
	if n := count(b.seam.Ops(false), "stage.mkfs"); n != 1 {
		t.Errorf("mkfs ran %d times", n)
	}
	b.unstage(s)
}

// TestKilledAnywhere ends a call before each of its effects in turn, without any undoing, as a kill
// does, and calls again from a new process.
func TestKilledAnywhere(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs", "btrfs", "block"} {
		t.Run(kind, func(t *testing.T) {
			for _, after := range []bool{false, true} {
				for k := 0; killedAt(t, kind, k, after); k++ {
				}
			}
		})
	}
}

var errKilled = errors.New("killed")

// killer is a seam that stops all effects from the k-th on, which it lets happen only if after is
// set.
type killer struct {
	mu    sync.Mutex
	left  int
	after bool
	dead  bool
	at    string
}

func (k *killer) Seam(e host.Effect, do func() error) error {
	if e.Reads {
		k.mu.Lock()
		dead := k.dead
		k.mu.Unlock()
		if dead {
			return errKilled
		}
		return do()
	}
	k.mu.Lock()
	if k.dead {
		k.mu.Unlock()
		return errKilled
	}
	k.left--
	mine := k.left < 0
	if mine {
		k.dead, k.at = true, e.Op
	}
	k.mu.Unlock()
	if mine && !k.after {
		return errKilled
	}
	if err := do(); err != nil || !mine {
		return err
	}
	return errKilled
}

func killedAt(t *testing.T, kind string, at int, after bool) (more bool) {
	b := newBench(t)
	b.disk("v1", size)
	s := request(b, "v1", kind)
	p := b.publishRequest(s, "target")
	steps := []func(*Node) error{
		func(n *Node) error { return n.Stage(b.ctx, s) },
		func(n *Node) error { return n.Publish(b.ctx, p) },
		func(n *Node) error { return n.Unpublish(b.ctx, p.Volume, p.Target) },
		func(n *Node) error { return n.Unstage(b.ctx, s.Volume, s.Staging) },
	}
	k := &killer{left: at, after: after}
	for i, step := range steps {
		b.host.Seam = k.Seam
		err := step(b.node)
		b.host.Seam = nil
		if k.dead && err != nil {
			b.node = b.open(b.disks)
			if err := step(b.node); err != nil {
				t.Fatalf("step %d, killed at %s (after: %v), called again: %v", i, k.at, after, err)
			}
			k = &killer{left: 1 << 30} // once is enough
			more = true
		} else if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if i == 1 {
			mountLine(t, p.Target)
		}
	}
	return more
}

func TestLostRecord(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	p := b.publishRequest(s, "target")
	b.stage(s)
	b.publish(p)
	if err := os.Remove(b.node.recordPath(s.Volume)); err != nil {
		t.Fatal(err)
	}
	b.unpublish(p)
	b.stage(s) // finds its mount and adopts it
	b.unstage(s)
}

func TestFailedStageLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	ops := []string{"stage.device.write", "stage.mkfs", "stage.mkfs.sync", "stage.fsck", "stage.mkdir", "stage.mount"}
	for _, op := range ops {
		b.seam.Fail(op, errs.E(errs.Unavailable, "injected"))
		errstest.Refused(t, op, b.node.Stage(b.ctx, s), errs.Unavailable)
		b.seam.Fail(op, nil)
		b.nothingLeft(b.disks.dir)
	}
	b.stage(s)
	p := b.publishRequest(s, "target")
	b.seam.Fail("publish.bind", errors.New("injected"))
	errstest.Refused(t, "publish", b.node.Publish(b.ctx, p), errs.Unavailable)
	b.seam.Fail("publish.bind", nil)
	if _, err := os.Lstat(p.Target); err == nil {
		t.Error("a failed Publish left its target")
	}
	rec, err := b.node.load(s.Volume)
	if err != nil || slices.ContainsFunc(rec.Targets, func(target) bool { return true }) {
		t.Errorf("a failed Publish left its record: %+v, %v", rec, err)
	}
	b.unstage(s)
}
