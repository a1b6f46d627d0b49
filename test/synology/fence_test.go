package synology_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/driver"
	"github.com/dozo-dev/dozo/test/synology"
)

// writer writes to a file again and again, and says why it had to end.
func writer(t *testing.T, path string) <-chan error {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|unix.O_SYNC, 0o600)
	ok(t, err)
	ended := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		defer f.Close()
		for n := 0; ; n++ {
			if _, err := f.WriteAt([]byte("garbage"), 0); err != nil {
				ended <- err
				return
			}
			if n == 0 {
				close(began)
			}
		}
	}()
	<-began
	return ended
}

// deviceOf is the device that is mounted at a path.
func deviceOf(t *testing.T, path string) string {
	t.Helper()
	all, err := host.New().Mounts()
	ok(t, err)
	i := slices.IndexFunc(all, func(m host.MountInfo) bool { return m.MountPoint == path })
	if i < 0 {
		t.Fatalf("nothing is mounted at %s", path)
	}
	return all[i].Source
}

// targetOf is how a node reaches a volume: the target and the number in it.
func targetOf(t *testing.T, v *synology.Volume, node string) backend.ISCSITarget {
	t.Helper()
	for _, text := range v.PublishContext(node) {
		var a backend.Access
		if json.Unmarshal([]byte(text), &a) == nil && a.ISCSI != nil && a.ISCSI.Target != nil {
			return *a.ISCSI.Target
		}
	}
	t.Fatalf("no access in %v", v.PublishContext(node))
	return backend.ISCSITarget{}
}

// fence: a node whose driver is gone goes on writing. Its volume is taken from it and given to another node, which finds all that was flushed; what
// the first one still writes fails and arrives nowhere, also when it has got another LUN since. Back again, it lets go of all.
func fence(t *testing.T) {
	b := synology.Start(t, synology.Options{})
	first := b.Node(synology.Node1)
	c := synology.NewCluster(t, b.Controller(), map[string]driver.Driver{synology.Node1: first, synology.Node2: b.Node(synology.Node2)})
	v := c.Create(claim("ext4", gib))
	disk, ended, old := abandoned(t, v)
	first.Stop()
	ok(t, v.TryDetach(synology.Node1))
	if err := <-ended; !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) {
		t.Errorf("a write of a pod whose node was shut out: %v", err)
	}
	w := c.Create(named(claim("ext4", gib), "pvc-other"))
	ok(t, w.TryAttach(synology.Node1))
	if now := targetOf(t, w, synology.Node1); now.IQN == old.IQN && now.LUN == old.LUN {
		t.Errorf("another LUN has the number %d of target %s, which the node still writes to", now.LUN, now.IQN)
	}
	at := filepath.Join(v.Use(synology.Node2, "a"), "data")
	expect(t, at, "flushed")
	put(t, at, "of the second node")
	refusesWrites(t, disk)

	b.Node(synology.Node1) // it is back, and what it finds is the old volume, dead, and a new one
	put(t, filepath.Join(w.Use(synology.Node1, "a"), "data"), "kept")
	ok(t, v.TryUnpublish(synology.Node1, "a"))
	ok(t, v.TryUnstage(synology.Node1))
	expect(t, filepath.Join(w.Target(synology.Node1, "a"), "data"), "kept")
	w.Leave(synology.Node1, "a")
	v.Leave(synology.Node2, "a")
	expect(t, filepath.Join(v.Use(synology.Node2, "a"), "data"), "of the second node")
	v.Leave(synology.Node2, "a")
	v.Delete()
	w.Delete()
}

// forced: a node whose only volume is taken from it while it is logged in leaves no target behind, once it has let go.
func forced(t *testing.T) {
	c := synology.Start(t, synology.Options{}).Cluster()
	v := c.Create(claim("ext4", gib))
	disk, ended, _ := abandoned(t, v)
	ok(t, v.TryDetach(synology.Node1))
	<-ended
	refusesWrites(t, disk)
	expect(t, filepath.Join(v.Use(synology.Node2, "a"), "data"), "flushed")
	ok(t, v.TryUnpublish(synology.Node1, "a"))
	ok(t, v.TryUnstage(synology.Node1))
	v.Leave(synology.Node2, "a")
	v.Delete()
}

// abandoned is a volume that the first node has in use: its disk, open, the end of a pod's writes, and how it is reached.
func abandoned(t *testing.T, v *synology.Volume) (*os.File, <-chan error, backend.ISCSITarget) {
	t.Helper()
	pod := v.Use(synology.Node1, "a")
	put(t, filepath.Join(pod, "data"), "flushed")
	disk, err := os.OpenFile(deviceOf(t, v.Staging(synology.Node1)), os.O_WRONLY|unix.O_SYNC, 0)
	ok(t, err)
	t.Cleanup(func() { _ = disk.Close() })
	return disk, writer(t, filepath.Join(pod, "writes")), targetOf(t, v, synology.Node1)
}

// refusesWrites fails unless every write to a disk does, and closes it.
func refusesWrites(t *testing.T, disk *os.File) {
	t.Helper()
	garbage := make([]byte, mib)
	for _, place := range []int64{0, mib, gib / 2} {
		if _, err := disk.WriteAt(garbage, place); !errors.Is(err, unix.EIO) {
			t.Errorf("a write to the disk that the node lost, at %d: %v", place, err)
		}
	}
	ok(t, disk.Close())
}
