package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/pool"
)

// disks is a backend whose volumes are sparse files that tests make and look at, attached by losetup.
type disks struct {
	dir  string
	host *host.Host // its effects pass the seam, so that they can be killed too

	mu       sync.Mutex
	marks    map[backend.ID]backend.Mark
	problems []backend.Problem
	sick     error // what Activate returns
}

func (d *disks) image(id backend.ID) string { return filepath.Join(d.dir, string(id)+".img") }

func (d *disks) attached(id backend.ID) (string, error) {
	out, err := exec.Command("losetup", "--noheadings", "--output", "NAME", "--associated", d.image(id)).Output()
	return strings.TrimSpace(string(out)), err
}

func (d *disks) Activate(_ context.Context, id backend.ID) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sick != nil {
		return "", d.sick
	}
	device, err := d.attached(id)
	if err == nil && device != "" {
		return device, exec.Command("losetup", "--set-capacity", device).Run()
	}
	var out []byte
	err = d.host.Do("disks.attach", func() (err error) {
		out, err = exec.Command("losetup", "--find", "--show", d.image(id)).CombinedOutput()
		return err
	})
	if err != nil {
		return "", errs.E(errs.Unavailable, "losetup: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func (d *disks) Deactivate(_ context.Context, id backend.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	device, err := d.attached(id)
	if err != nil || device == "" {
		return err
	}
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return errs.E(errs.InUse, "%s: is open", device)
	}
	if err == nil {
		f.Close()
	}
	return d.host.Do("disks.detach", exec.Command("losetup", "--detach", device).Run)
}

func (d *disks) Mark(_ context.Context, id backend.ID) (backend.Mark, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.marks[id], nil
}

func (d *disks) SetMark(_ context.Context, id backend.ID, m backend.Mark) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.host.Do("disks.mark", func() error {
		d.marks[id] = m
		return nil
	})
}

func (d *disks) Check(context.Context, backend.ID) ([]backend.Problem, error) { return d.problems, nil }

func (d *disks) Create(context.Context, backend.Request) (backend.Volume, error) {
	return backend.Volume{}, errs.E(errs.Unsupported, "not in these tests")
}
func (d *disks) Delete(context.Context, backend.ID) error { return nil }
func (d *disks) Get(_ context.Context, id backend.ID) (backend.Volume, error) {
	at, err := os.Stat(d.image(id))
	if err != nil {
		return backend.Volume{}, errs.E(errs.NotFound, "%w", err)
	}
	return backend.Volume{ID: id, Size: at.Size()}, nil
}
func (d *disks) Expand(ctx context.Context, id backend.ID, size int64) (backend.Volume, error) {
	if size > 1<<31 {
		return backend.Volume{}, errs.E(errs.NoSpace, "disks: full")
	}
	if err := os.Truncate(d.image(id), size); err != nil {
		return backend.Volume{}, err
	}
	return d.Get(ctx, id)
}
func (d *disks) List(context.Context) iter.Seq2[backend.Volume, error] {
	return func(func(backend.Volume, error) bool) {}
}
func (d *disks) Capacity(context.Context, string) (backend.Capacity, error) {
	return backend.Capacity{}, nil
}
func (d *disks) Close() error { return nil }

// markless hides the marks of disks.
type markless struct {
	backend.Backend
	backend.Activator
}

// bench is a node with a pool of disks, and what a kubelet would have on its disk.
type bench struct {
	t       *testing.T
	ctx     context.Context
	node    *Node
	host    *host.Host
	seam    *hosttest.Recorder
	disks   *disks
	state   string
	kubelet string // the TargetRoot
}

const mib = 1 << 20

func newBench(t *testing.T) *bench {
	t.Helper()
	hosttest.NeedRoot(t)
	dir := t.TempDir()
	b := &bench{
		t: t, ctx: t.Context(), seam: &hosttest.Recorder{},
		disks:   &disks{dir: filepath.Join(dir, "disks"), marks: map[backend.ID]backend.Mark{}},
		state:   filepath.Join(dir, "state"),
		kubelet: filepath.Join(dir, "kubelet"),
	}
	for _, d := range []string{b.disks.dir, b.kubelet} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.host = host.New()
	b.host.Seam = b.seam.Seam
	b.disks.host = b.host
	b.node = b.open(b.disks)
	t.Cleanup(func() { b.nothingLeft(dir) })
	return b
}

// open starts another node process, as far as that can be had in one.
func (b *bench) open(d backend.Backend) *Node {
	b.t.Helper()
	pools, err := pool.NewSet(pool.New("p", backend.Kind{Name: "disks", Granularity: 512, MaxSize: 1 << 40}, d, pool.Options{Log: slog.New(slog.DiscardHandler)}))
	if err != nil {
		b.t.Fatal(err)
	}
	n, err := New(b.host, pools, Options{Name: "n1", StateDir: b.state, TargetRoot: b.kubelet})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// nothingLeft takes away what a test left, having complained.
func (b *bench) nothingLeft(dir string) {
	for range 5 {
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			b.t.Fatal(err)
		}
		at := ""
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); strings.HasPrefix(f[4], dir+"/") {
				at = f[4]
			}
		}
		if at == "" {
			break
		}
		b.t.Errorf("left mounted: %s", at)
		exec.Command("umount", at).Run()
	}
	// One that another test's program looks at just now is detached when that has closed it.
	for deadline := time.Now().Add(2 * time.Second); len(b.attachedBelow(dir)) > 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	for _, d := range b.attachedBelow(dir) {
		b.t.Errorf("left attached: %s %s", d.Path, d.File)
		exec.Command("losetup", "--detach", d.Path).Run()
	}
	left, _ := filepath.Glob(filepath.Join(b.state, "*.json*"))
	if len(left) > 0 {
		b.t.Errorf("records left: %v", left)
	}
}

// disk makes a blank volume.
func (b *bench) disk(id backend.ID, size int64) {
	b.t.Helper()
	f, err := os.OpenFile(b.disks.image(id), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		b.t.Fatal(err)
	}
}

// copyDisk makes a copy of a volume as a snapshot of a running one would be.
func (b *bench) copyDisk(from, to backend.ID) {
	b.t.Helper()
	hosttest.Command(b.t, "cp", "--sparse=always", b.disks.image(from), b.disks.image(to))
	m := b.disks.marks[from]
	m.Copied = true
	b.disks.marks[to] = m
}

func (b *bench) path(name string) string { return filepath.Join(b.kubelet, name) }

func (b *bench) stageRequest(id backend.ID, kind string) StageRequest {
	return StageRequest{
		Volume: "handle/" + string(id), Access: backend.LocalAccess("p", id), Staging: b.path("staging-" + string(id)),
		FSType: kind, Block: kind == "block",
	}
}

func (b *bench) publishRequest(s StageRequest, target string) PublishRequest {
	return PublishRequest{Volume: s.Volume, Staging: s.Staging, Target: b.path(target), Block: s.Block}
}

func request(b *bench, id backend.ID, kind string) StageRequest {
	r := b.stageRequest(id, kind)
	if kind == "block" {
		r.FSType = ""
	}
	return r
}

func (b *bench) stage(r StageRequest) {
	b.t.Helper()
	if err := b.node.Stage(b.ctx, r); err != nil {
		b.t.Fatalf("Stage %s: %v", r.Volume, err)
	}
}

func (b *bench) unstage(r StageRequest) {
	b.t.Helper()
	if err := b.node.Unstage(b.ctx, r.Volume, r.Staging); err != nil {
		b.t.Fatalf("Unstage %s: %v", r.Volume, err)
	}
}

func (b *bench) publish(r PublishRequest) {
	b.t.Helper()
	if err := b.node.Publish(b.ctx, r); err != nil {
		b.t.Fatalf("Publish %s: %v", r.Target, err)
	}
}

func (b *bench) unpublish(r PublishRequest) {
	b.t.Helper()
	if err := b.node.Unpublish(b.ctx, r.Volume, r.Target); err != nil {
		b.t.Fatalf("Unpublish %s: %v", r.Target, err)
	}
}

// write puts a file there and makes it durable.
func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s: read %q, %v; want %q", path, got, err, want)
	}
}

// content is the bytes of a volume, to see that nobody changed them.
func (b *bench) content(id backend.ID) []byte {
	b.t.Helper()
	data, err := os.ReadFile(b.disks.image(id))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

func (b *bench) unchanged(id backend.ID, before []byte) {
	b.t.Helper()
	if !bytes.Equal(before, b.content(id)) {
		b.t.Errorf("volume %s was written to", id)
	}
}

// idle checks that the calls so far had no effect.
func (b *bench) idle(what string) {
	b.t.Helper()
	if ops := b.seam.Ops(false); len(ops) > 0 {
		b.t.Errorf("%s had effects: %v", what, ops)
	}
}

func mountLine(t *testing.T, path string) string {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		if strings.Fields(line)[4] == path {
			found = append(found, line)
		}
	}
	if len(found) > 1 {
		t.Errorf("%s is mounted %d times:\n%s", path, len(found), found)
	}
	return fmt.Sprint(found)
}

// attachedBelow are the loop devices over files in a directory.
func (b *bench) attachedBelow(dir string) []host.LoopDevice {
	b.t.Helper()
	all, err := host.New().LoopDevices()
	if err != nil {
		b.t.Error(err)
	}
	return slices.DeleteFunc(all, func(d host.LoopDevice) bool { return !strings.HasPrefix(d.File, dir+"/") })
}
