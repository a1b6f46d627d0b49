package loopfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// inUse makes a volume, and mounts an ext4 on it for the length of the test.
func inUse(t *testing.T, b *Backend, name string, size int64) (point string) {
	t.Helper()
	create(t, b, name, size, backend.Source{}, "sparse")
	dev, err := b.Activate(t.Context(), backend.ID(name))
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Command(t, "mkfs.ext4", "-q", dev)
	point = t.TempDir()
	hosttest.Command(t, "mount", dev, point)
	t.Cleanup(func() {
		hosttest.Unmount(t, point)
		if err := b.Deactivate(t.Context(), backend.ID(name)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	return point
}

// snapshotHolds mounts a copy of a snapshot and reads a file there.
func snapshotHolds(t *testing.T, b *Backend, id backend.ID, file string) []byte {
	t.Helper()
	name := "of-" + string(id)
	create(t, b, name, mustLoad(t, b, snapshots, id).size, backend.Source{Snapshot: id}, "sparse")
	dev, err := b.Activate(t.Context(), backend.ID(name))
	if err != nil {
		t.Fatal(err)
	}
	point := t.TempDir()
	hosttest.Command(t, "mount", "-o", "ro", dev, point)
	data, err := os.ReadFile(filepath.Join(point, file))
	if err != nil {
		t.Error(err)
	}
	hosttest.Unmount(t, point)
	hosttest.Command(t, "e2fsck", "-fn", dev)
	if err := b.Deactivate(t.Context(), backend.ID(name)); err != nil {
		t.Error(err)
	}
	return data
}

func TestSnapshotOfAMountedVolumeIsConsistent(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run("pool on "+fstype, func(t *testing.T) {
			b := newPool(t, hosttest.FileSystem(t, fstype, 512*mib))
			point := inUse(t, b, "v", 64*mib)
			want := bytes.Repeat([]byte("written, and never synced\n"), 40_000)
			if err := os.WriteFile(filepath.Join(point, "data"), want, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := b.CreateSnapshot(t.Context(), backend.SnapshotRequest{ID: "s", Name: "s", Source: "v"}); err != nil {
				t.Fatal(err)
			}
			if got := snapshotHolds(t, b, "s", "data"); !bytes.Equal(got, want) {
				t.Errorf("the snapshot has %d bytes of a file of %d", len(got), len(want))
			}
			if err := os.WriteFile(filepath.Join(point, "after"), want, 0o600); err != nil {
				t.Errorf("after the snapshot the volume does not take writes: %v", err)
			}
		})
	}
}

func TestGroupSnapshotIsOfOneInstant(t *testing.T) {
	b := newPool(t, hosttest.FileSystem(t, "xfs", 1<<30))
	points := []string{inUse(t, b, "a", 64*mib), inUse(t, b, "b", 64*mib)}
	var counts []*os.File
	for _, p := range points {
		f, err := os.Create(filepath.Join(p, "count"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		counts = append(counts, f)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // a transaction over two volumes: a's count is never behind b's, and at most one ahead
		defer close(stopped)
		for {
			for _, f := range counts {
				if _, err := f.Write([]byte{'.'}); err != nil {
					t.Error(err)
					return
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	time.Sleep(50 * time.Millisecond)
	made, err := b.CreateGroup(t.Context(), []backend.SnapshotRequest{
		{ID: "ga", Name: "ga", Source: "a", Group: "g"}, {ID: "gb", Name: "gb", Source: "b", Group: "g"},
	})
	close(stop)
	<-stopped
	if err != nil || len(made) != 2 {
		t.Fatal(made, err)
	}
	a, bb := len(snapshotHolds(t, b, "ga", "count")), len(snapshotHolds(t, b, "gb", "count"))
	if a == 0 || bb == 0 || a-bb > 1 || bb > a {
		t.Errorf("counts of %d and %d: the snapshots are not of one instant", a, bb)
	}
}

func TestWritersAreNotHeldForTooLong(t *testing.T) {
	b := newPool(t, hosttest.FileSystem(t, "ext4", 512*mib), "maxFreeze=1ns")
	rec := &hosttest.Recorder{}
	b.host = host.New()
	b.host.Seam = rec.Seam
	point := inUse(t, b, "v", 64*mib)
	if err := os.WriteFile(filepath.Join(point, "data"), make([]byte, mib), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := b.CreateSnapshot(t.Context(), backend.SnapshotRequest{ID: "s", Name: "s", Source: "v"})
	if !errs.Is(err, errs.InUse) || !strings.Contains(err.Error(), "maxFreeze") {
		t.Errorf("got %v, want an error that names maxFreeze", err)
	}
	for _, op := range rec.Ops(false) {
		if op == "snapshot.freeze" {
			t.Error("the volume was frozen for a copy known to take too long")
		}
	}
	if entries, err := os.ReadDir(b.path(snapshots, "")); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestFailedCopyThaws(t *testing.T) {
	b := newPool(t, hosttest.FileSystem(t, "xfs", 512*mib))
	point := inUse(t, b, "v", 64*mib)
	rec := &hosttest.Recorder{}
	b.host = host.New()
	b.host.Seam = rec.Seam
	rec.Fail("snapshot.copy", errors.New("the disk is on fire"))
	if _, err := b.CreateSnapshot(t.Context(), backend.SnapshotRequest{ID: "s", Name: "s", Source: "v"}); err == nil {
		t.Error("a copy that failed is a snapshot")
	}
	mustTakeWrites(t, point)
}

func TestFrozenByACrashIsThawedOnOpen(t *testing.T) {
	dir := hosttest.FileSystem(t, "xfs", 512*mib)
	b := newPool(t, dir)
	point := inUse(t, b, "v", 64*mib)
	if err := b.freeze("test", mounted{dir: b.path(volumes, "v"), point: point}); err != nil {
		t.Fatal(err)
	}
	newPool(t, dir)
	mustTakeWrites(t, point)
	if _, err := os.Lstat(filepath.Join(b.path(volumes, "v"), frozenFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the note is left: %v", err)
	}
}

// mustTakeWrites fails if a file system holds writers back.
func mustTakeWrites(t *testing.T, point string) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(filepath.Join(point, "written"), []byte("x"), 0o600) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		hosttest.Command(t, "fsfreeze", "--unfreeze", point)
		t.Fatal("writers are held back still")
	}
}

func TestTornCopyOfARawDeviceIsRefused(t *testing.T) {
	b := newPool(t, hosttest.FileSystem(t, "ext4", 512*mib))
	create(t, b, "v", 64*mib, backend.Source{}, "full")
	dev, err := b.Activate(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Deactivate(t.Context(), "v")
	f, err := os.OpenFile(dev, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The writer writes between the copy and its end: the seam tells when.
	b.host = host.New()
	b.host.Seam = func(e host.Effect, do func() error) error {
		err := do()
		if e.Op == "snapshot.copy" {
			if _, err := f.WriteAt([]byte("meanwhile"), 0); err != nil {
				t.Error(err)
			}
		}
		return err
	}
	_, err = b.CreateSnapshot(t.Context(), backend.SnapshotRequest{ID: "s", Name: "s", Source: "v"})
	if !errs.Is(err, errs.InUse) {
		t.Errorf("got %v, want in use", err)
	}
}

func TestADeviceInUseIsNotDetached(t *testing.T) {
	b := newPool(t, t.TempDir())
	point := inUse(t, b, "v", 64*mib)
	if err := b.Deactivate(t.Context(), "v"); !errs.Is(err, errs.InUse) {
		t.Errorf("mounted: got %v, want in use", err)
	}
	if err := b.Delete(t.Context(), "v"); !errs.Is(err, errs.InUse) {
		t.Errorf("delete: got %v, want in use", err)
	}
	mustTakeWrites(t, point)
}

func TestRestartKeepsTheDevice(t *testing.T) {
	dir := t.TempDir()
	b := newPool(t, dir)
	create(t, b, "v", mib, backend.Source{}, "sparse")
	dev, err := b.Activate(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	again := newPool(t, dir)
	got, err := again.Activate(t.Context(), "v")
	if err != nil || got != dev {
		t.Errorf("after a restart the device is %q, was %q (%v)", got, dev, err)
	}
	if _, err := again.Expand(t.Context(), "v", 3*mib); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Activate(t.Context(), "v"); err != nil {
		t.Fatal(err)
	}
	if size, err := again.host.DeviceSize("test", dev); err != nil || size != 3*mib {
		t.Errorf("the device has %d bytes after expansion to 3Mi (%v)", size, err)
	}
	if err := again.Deactivate(t.Context(), "v"); err != nil {
		t.Error(err)
	}
	if dev, err := again.attached(filepath.Join(again.path(volumes, "v"), "image")); dev != "" || err != nil {
		t.Errorf("attached as %q (%v)", dev, err)
	}
}
