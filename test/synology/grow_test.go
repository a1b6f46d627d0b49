package synology_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
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
		go func() { written <- hosttest.WriteThrough(filepath.Join(pod, "waits"), []byte("for the NAS")) }()
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

// leavesAway: the volume of a pod that ends while the NAS is away is not let go of before the NAS has all that the pod wrote.
func leavesAway(t *testing.T) {
	b := synology.Start(t, synology.Options{})
	c := b.Cluster()
	for _, kind := range []string{"ext4", "nfs"} { // Linux's SMB client cannot write pages of a file that nobody has open
		v := c.Create(claim(kind, gib))
		data := filepath.Join(v.Use(synology.Node1, "a"), "data")
		end := unflushed(t, data, "kept")
		b.PowerCycle(func() {
			end(" and not flushed")
			if err := v.TryUnpublish(synology.Node1, "a"); err != nil {
				t.Logf("%s: unpublish without a NAS: %v", kind, err)
			}
			for range 2 {
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				unavailable(t, "unstage "+kind, v.TryUnstageWithin(ctx, synology.Node1))
				cancel()
			}
		})
		retried(t, "unpublish", func() error { return v.TryUnpublish(synology.Node1, "a") })
		retried(t, "unstage", func() error { return v.TryUnstage(synology.Node1) })
		retried(t, "detach", func() error { return v.TryDetach(synology.Node1) })
		got, err := os.ReadFile(filepath.Join(v.Use(synology.Node2, "a"), "data"))
		if err != nil || strings.TrimSpace(string(got)) != "kept and not flushed" {
			t.Errorf("%s: read %.40q, %v", kind, got, err)
		}
		v.Leave(synology.Node2, "a")
		v.Delete()
	}
}

// unflushed makes a file of which a process has one page in its memory and writes to it there. What it wrote before it ends is the kernel's
// to bring to the NAS: closing a file waits for that, an end does not.
func unflushed(t *testing.T, path, before string) (end func(more string)) {
	t.Helper()
	put(t, path, before+strings.Repeat(" ", os.Getpagesize()-len(before)))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	ok(t, err)
	page, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	ok(t, errors.Join(err, f.Close()))
	page[0] = before[0]
	return func(more string) {
		copy(page[len(before):], more)
		ok(t, unix.Munmap(page))
	}
}
