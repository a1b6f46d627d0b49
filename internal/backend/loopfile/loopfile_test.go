package loopfile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

const mib = 1 << 20

// newPool opens a pool in a directory with options as key=value.
func newPool(t *testing.T, dir string, options ...string) *Backend {
	t.Helper()
	hosttest.NeedRoot(t)
	b, err := openPool(t, host.New(), dir, options...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openPool(t testing.TB, h *host.Host, dir string, options ...string) (*Backend, error) {
	t.Helper()
	given := map[string]string{"path": dir, "spare": "0"}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		given[k] = v
	}
	all, err := backend.Complete("options", Kind(h).Options, given)
	if err != nil {
		return nil, err
	}
	return open(context.Background(), h, backend.Config{Pool: "p", Node: "n1", Options: all})
}

func request(name string, size int64, source backend.Source, allocation string) backend.Request {
	return backend.Request{
		ID: backend.IDFor(name), Name: name, Size: size, Source: source, Parameters: map[string]string{"allocation": allocation, "sectorSize": "512"},
	}
}

func create(t *testing.T, b *Backend, name string, size int64, source backend.Source, allocation string) backend.Volume {
	t.Helper()
	v, err := b.Create(t.Context(), request(name, size, source, allocation))
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return v
}

// write writes to the image of a volume, and read reads it, past all devices.
func write(t *testing.T, b *Backend, id backend.ID, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(b.path(volumes, string(id)), "image"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, b *Backend, sort string, id backend.ID, at int64, n int) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(b.path(sort, string(id)), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, n)
	if _, err := f.ReadAt(data, at); err != nil {
		t.Fatal(err)
	}
	return data
}

func mustLoad(t *testing.T, b *Backend, sort string, id backend.ID) item {
	t.Helper()
	i, err := b.load(sort, id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func capacity(t *testing.T, b *Backend) backend.Capacity {
	t.Helper()
	c, err := b.Capacity(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOnlyAnEmptyDirectoryBecomesAPool(t *testing.T) {
	hosttest.NeedRoot(t)
	for _, c := range []struct {
		name    string
		prepare func(dir string) error
		want    errs.Kind
		says    string
	}{
		{"somebody's files", func(d string) error { return os.WriteFile(d+"/thesis.txt", nil, 0o600) }, errs.Invalid, "thesis.txt"},
		{"absent", os.Remove, errs.Unavailable, "make the directory first"},
		{"another pool's", func(d string) error {
			return os.WriteFile(d+"/"+markerFile, []byte(`{"version":1,"kind":"loopfile","pool":"other"}`), 0o600)
		}, errs.Invalid, `"other"`},
		{"a damaged marker", func(d string) error { return os.WriteFile(d+"/"+markerFile, []byte(`{`), 0o600) }, errs.Unavailable, markerFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.prepare(dir); err != nil {
				t.Fatal(err)
			}
			_, err := openPool(t, host.New(), dir)
			if !errs.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("got %v (%v), want %v naming %s", err, errs.KindOf(err), c.want, c.says)
			}
		})
	}
}

func TestAPoolWhoseDiskIsGoneHasNotLostItsVolumes(t *testing.T) {
	dir := t.TempDir()
	b := newPool(t, dir)
	create(t, b, "v", mib, backend.Source{}, "sparse")
	if err := os.Rename(dir+"/"+markerFile, dir+"/elsewhere"); err != nil {
		t.Fatal(err)
	}
	_, get := b.Get(t.Context(), "v")
	_, expand := b.Expand(t.Context(), "v", 2*mib)
	_, activate := b.Activate(t.Context(), "v")
	for op, err := range map[string]error{"get": get, "delete": b.Delete(t.Context(), "v"), "expand": expand, "activate": activate} {
		if !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: got %v (%v), want unavailable", op, err, errs.KindOf(err))
		}
	}
	for _, err := range b.List(t.Context()) {
		if err == nil {
			t.Error("list: a pool that is gone listed volumes")
		}
	}
	if err := os.Rename(dir+"/elsewhere", dir+"/"+markerFile); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "v"); err != nil {
		t.Errorf("after the disk came back: %v", err)
	}
}

func TestRequireMount(t *testing.T) {
	hosttest.NeedRoot(t)
	if _, err := openPool(t, host.New(), t.TempDir(), "requireMount=true"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a directory that is no mount point: got %v, want unavailable", err)
	}
	newPool(t, hosttest.FileSystem(t, "ext4", 64*mib), "requireMount=true")
}

func TestBadOptions(t *testing.T) {
	hosttest.NeedRoot(t)
	for _, c := range []struct{ option, says string }{
		{"path=relative", `options["path"]`},
		{"path=/a/../b", `options["path"]`},
		{"spare=-1", `options["spare"]`},
		{"spare=9999999Pi", `options["spare"]`},
		{"reserve=perhaps", `options["reserve"]`},
		{"maxFreeze=0s", `options["maxFreeze"]`},
		{"colour=red", "known are: path, reserve"},
	} {
		_, err := openPool(t, host.New(), t.TempDir(), c.option)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error naming %s", c.option, err, c.says)
		}
	}
}

func TestCopiesOnEveryFileSystem(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			b := newPool(t, hosttest.FileSystem(t, fstype, 512*mib))
			create(t, b, "v", 32*mib, backend.Source{}, "sparse")
			pattern := bytes.Repeat([]byte("dozo"), 1024)
			write(t, b, "v", 8*mib, pattern)
			if _, err := b.CreateSnapshot(t.Context(), backend.SnapshotRequest{ID: "s", Name: "s", Source: "v"}); err != nil {
				t.Fatal(err)
			}
			write(t, b, "v", 8*mib, make([]byte, len(pattern)))
			create(t, b, "restored", 64*mib, backend.Source{Snapshot: "s"}, "sparse")
			if got := read(t, b, volumes, "restored", 8*mib, len(pattern)); !bytes.Equal(got, pattern) {
				t.Error("the restored volume does not have what the snapshot was taken of")
			}
			if got := read(t, b, volumes, "restored", 63*mib, mib); !bytes.Equal(got, make([]byte, mib)) {
				t.Error("what a larger copy has more is not zero")
			}
			i := mustLoad(t, b, volumes, "restored")
			if i.alloc > 4*mib {
				t.Errorf("the copy of a sparse image takes %d bytes: its holes were filled", i.alloc)
			}
			of := mustLoad(t, b, volumes, "v").meta.Family
			if shared := i.meta.Family == of && mustLoad(t, b, snapshots, "s").meta.Family == of; shared != (fstype != "ext4") {
				t.Errorf("copies share extents: %v", shared)
			}
		})
	}
}

func TestCapacityKeepsItsPromises(t *testing.T) {
	dir := hosttest.FileSystem(t, "ext4", 256*mib)
	b := newPool(t, dir)
	before := capacity(t, b)
	create(t, b, "sparse", 64*mib, backend.Source{}, "sparse")
	create(t, b, "full", 32*mib, backend.Source{}, "full")
	after := capacity(t, b)
	if used := before.Available - after.Available; used < 95*mib || used > 100*mib {
		t.Errorf("96Mi of volumes took %s of the capacity", backend.FormatSize(used))
	}
	_, err := b.Create(t.Context(), request("big", after.Available+mib, backend.Source{}, "sparse"))
	if !errs.Is(err, errs.NoSpace) {
		t.Errorf("a volume larger than the capacity: got %v, want no space", err)
	}
	if gained := capacity(t, newPool(t, dir, "reserve=false")).Available - after.Available; gained < 60*mib {
		t.Errorf("without reservations a sparse volume still takes its room: only %s more", backend.FormatSize(gained))
	}
}

func TestSharedExtentsArePromisedTwice(t *testing.T) {
	b := newPool(t, hosttest.FileSystem(t, "xfs", 512*mib))
	create(t, b, "v", 64*mib, backend.Source{}, "full")
	before := capacity(t, b).Available
	if _, err := b.CreateSnapshot(t.Context(), backend.SnapshotRequest{ID: "s", Name: "s", Source: "v"}); err != nil {
		t.Fatal(err)
	}
	if taken := before - capacity(t, b).Available; taken < 60*mib {
		t.Errorf("the snapshot took %s of the capacity; overwriting the volume will need 64Mi", backend.FormatSize(taken))
	}
	if err := b.DeleteSnapshot(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	if lost := before - capacity(t, b).Available; lost > 2*mib {
		t.Errorf("%s of capacity did not come back with the snapshot's deletion", backend.FormatSize(lost))
	}
}

func TestFullAllocationThatDoesNotFitLeavesNothing(t *testing.T) {
	b := newPool(t, hosttest.FileSystem(t, "ext4", 64*mib), "reserve=false")
	for n := range 8 {
		_, err := b.Create(t.Context(), request(fmt.Sprintf("v%d", n), 16*mib, backend.Source{}, "full"))
		if err == nil {
			continue
		}
		if !errs.Is(err, errs.NoSpace) {
			t.Fatalf("got %v, want no space", err)
		}
		entries, err := os.ReadDir(b.path(volumes, ""))
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != n {
			t.Errorf("%d entries are left of %d volumes", len(entries), n)
		}
		return
	}
	t.Error("128Mi were allocated on a file system of 64Mi")
}

func TestAnotherProcessIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	b, other := newPool(t, dir), newPool(t, dir)
	unlock, err := other.lock(t.Context(), key(volumes, "v"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Delete(ctx, "v"); !errs.Is(err, errs.Aborted) || !strings.Contains(err.Error(), "another Dozo process") {
		t.Errorf("got %v, want aborted because another process has it", err)
	}
	unlock()
	if err := b.Delete(t.Context(), "v"); err != nil {
		t.Error(err)
	}
}
