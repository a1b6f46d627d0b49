package synology_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/synology"
)

// room is what a pod sees of a volume at its path: the size of the file system, or of the device.
func room(t *testing.T, v *synology.Volume, path string) int64 {
	t.Helper()
	if v.Claim.FS == "block" {
		size, err := host.New().DeviceSize("test", path)
		ok(t, err)
		return size
	}
	var st unix.Statfs_t
	ok(t, unix.Statfs(path, &st))
	return int64(st.Blocks) * st.Frsize
}

// hasRoom fails unless a pod sees so much, of which a file system keeps a twentieth at most to itself.
func hasRoom(t *testing.T, v *synology.Volume, path string, size int64) {
	t.Helper()
	if got := room(t, v, path); got > size || got < size/20*19 {
		t.Errorf("%s: the pod sees %d bytes of %d", v.VolumeId, got, size)
	}
}

// retried does what a sidecar or a kubelet does over and over until it succeeds.
func retried(t *testing.T, what string, do func() error) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		err := do()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

const from, to = 10 * gib, 15 * gib

// grow is all of an expansion, which may be said again.
func grow(t *testing.T, v *synology.Volume, between func()) {
	t.Helper()
	node, err := v.TryGrow(to)
	ok(t, err)
	between()
	if node != (v.Claim.FS != "nfs") {
		t.Errorf("the node has a part in it: %v", node)
	}
	if node {
		retried(t, "grow on the node", func() error {
			size, err := v.TryGrowOn(synology.Node1, "a", to)
			if err == nil && size != to {
				t.Errorf("%s: the device has %d bytes on the node, want %d", v.VolumeId, size, int64(to))
			}
			return err
		})
	}
}

// grows: volumes grow while a pod has them, which sees it; said again it is the same; and so it is if the NAS loses its power between the
// controller's part and the node's.
func grows(t *testing.T) {
	b := synology.Start(t, synology.Options{})
	c := b.Cluster()
	for kind, power := range map[string]bool{"ext4": false, "xfs": true, "block": true} {
		v := c.Create(claim(kind, from))
		pod := v.Use(synology.Node1, "a")
		hasRoom(t, v, pod, from)
		if kind != "block" {
			put(t, filepath.Join(pod, "data"), "before")
		}
		grow(t, v, func() {
			if power {
				b.PowerCycle(func() {})
			}
		})
		hasRoom(t, v, pod, to)
		grow(t, v, func() {})
		hasRoom(t, v, pod, to)
		if kind != "block" {
			expect(t, filepath.Join(pod, "data"), "before")
			put(t, filepath.Join(pod, "more"), "after")
		}
		v.Leave(synology.Node1, "a")
		hasRoom(t, v, v.Use(synology.Node1, "a"), to)
		v.Leave(synology.Node1, "a")
		v.Delete()
	}
}

// growsAway: while the NAS is away both parts of an expansion fail, so that they are tried again, and then they succeed.
func growsAway(t *testing.T) {
	b := synology.Start(t, synology.Options{})
	c := b.Cluster()
	v := c.Create(claim("ext4", from))
	pod := v.Use(synology.Node1, "a")
	data := filepath.Join(pod, "data")
	put(t, data, "before")
	written := make(chan error, 1)
	b.PowerCycle(func() {
		_, err := v.TryGrow(to)
		unavailable(t, "the controller's part", err)
		go func() { written <- writeThrough(filepath.Join(pod, "waits"), "for the NAS") }()
	})
	ok(t, <-written)
	expect(t, filepath.Join(pod, "waits"), "for the NAS")
	retried(t, "the controller's part", func() error { _, err := v.TryGrow(to); return err })
	b.PowerCycle(func() {
		_, err := v.TryGrowOn(synology.Node1, "a", to)
		unavailable(t, "the node's part", err)
	})
	retried(t, "the node's part", func() error { _, err := v.TryGrowOn(synology.Node1, "a", to); return err })
	hasRoom(t, v, pod, to)
	expect(t, data, "before")
	put(t, filepath.Join(pod, "more"), "after")
	v.Leave(synology.Node1, "a")
	v.Delete()
}

// unavailable: the storage could not be asked, or the answer is still waited for.
func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	if code := status.Code(err); code != codes.Unavailable && code != codes.Aborted && code != codes.DeadlineExceeded {
		t.Errorf("%s without a NAS: %v", what, err)
	}
}

// writeThrough writes a file, and returns when the NAS has it.
func writeThrough(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// leavesAway: a pod that ends while the NAS is away is taken down in the end, and what it wrote and did not flush is there.
func leavesAway(t *testing.T) {
	b := synology.Start(t, synology.Options{})
	c := b.Cluster()
	for _, kind := range []string{"ext4", "nfs"} {
		v := c.Create(claim(kind, gib))
		data := filepath.Join(v.Use(synology.Node1, "a"), "data")
		ok(t, os.WriteFile(data, []byte("kept"), 0o600))
		ended := make(chan error, 1)
		b.PowerCycle(func() {
			go func() { ended <- errors.Join(v.TryUnpublish(synology.Node1, "a"), v.TryUnstage(synology.Node1)) }()
			select { // so that it gets as far as it does
			case err := <-ended:
				ended <- err
			case <-time.After(5 * time.Second):
			}
		})
		t.Logf("%s: without a NAS: %v", kind, <-ended)
		retried(t, "unpublish", func() error { return v.TryUnpublish(synology.Node1, "a") })
		retried(t, "unstage", func() error { return v.TryUnstage(synology.Node1) })
		retried(t, "detach", func() error { return v.TryDetach(synology.Node1) })
		expect(t, filepath.Join(v.Use(synology.Node2, "a"), "data"), "kept")
		v.Leave(synology.Node2, "a")
		v.Delete()
	}
}
