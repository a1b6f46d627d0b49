package synology_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/driver"
	"github.com/dozo-dev/dozo/test/synology"
)

// copies: a snapshot and a clone of a volume that a pod writes to have what it had flushed, and can be used beside it on one node, larger; so can
// the volume beside a copy that was there first.
func copies(t *testing.T) {
	c := synology.Start(t, synology.Options{}).Cluster()
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		v := c.Create(claim(kind, gib))
		pod := v.Use(synology.Node1, "a")
		put(t, filepath.Join(pod, "data"), "before")
		s := v.Snapshot("snap-" + kind)
		put(t, filepath.Join(pod, "data"), "after!")
		made := map[string]*synology.Volume{}
		for name, source := range map[string]*csi.VolumeContentSource{"before": synology.FromSnapshot(s), "after!": synology.FromVolume(v)} {
			larger := named(claim(kind, 2*gib), "pvc-"+kind+"-"+name[:5])
			larger.Source = source
			made[name] = c.Create(larger)
			at := made[name].Use(synology.Node1, "a")
			expect(t, filepath.Join(at, "data"), name)
			hasRoom(t, made[name], at, 2*gib)
			put(t, filepath.Join(at, "data"), "own")
		}
		expect(t, filepath.Join(pod, "data"), "after!")
		c.DeleteSnapshot(s)
		for _, m := range made {
			expect(t, filepath.Join(m.Target(synology.Node1, "a"), "data"), "own")
			m.Leave(synology.Node1, "a")
			m.Delete()
		}
		v.Leave(synology.Node1, "a")
		besideIts(t, c, v)
		v.Delete()
	}
	v := c.Create(claim("nfs", gib))
	put(t, filepath.Join(v.Use(synology.Node1, "a"), "data"), "before")
	larger := named(claim("nfs", 2*gib), "pvc-nfs-clone")
	larger.Source = synology.FromVolume(v)
	clone := c.Create(larger)
	expect(t, filepath.Join(clone.Use(synology.Node2, "a"), "data"), "before")
	clone.Leave(synology.Node2, "a")
	clone.Delete()
	v.Leave(synology.Node1, "a")
	v.Delete()
}

// besideIts uses a volume, which holds "after!", beside a copy of it that was there first, for the first and the second time.
func besideIts(t *testing.T, c *synology.Cluster, v *synology.Volume) {
	t.Helper()
	first := named(v.Claim, v.Claim.Name+"-first")
	first.Source = synology.FromVolume(v)
	m := c.Create(first)
	for range 2 {
		for _, used := range []*synology.Volume{m, v} {
			expect(t, filepath.Join(used.Use(synology.Node1, "a"), "data"), "after!")
		}
		v.Leave(synology.Node1, "a")
		m.Leave(synology.Node1, "a")
	}
	m.Delete()
}

// manyWriters: a share is written to by pods of two nodes, read by one that may not write, and one node that is shut out does not disturb
// the other.
func manyWriters(t *testing.T) {
	c := synology.Start(t, synology.Options{}).Cluster()
	v := c.Create(claim("nfs", gib))
	one, two := v.Use(synology.Node1, "a"), v.Use(synology.Node2, "a")
	ok(t, v.TryPublish(synology.Node1, "b"))
	put(t, filepath.Join(one, "one"), "of the first")
	put(t, filepath.Join(two, "two"), "of the second")
	for _, at := range []string{one, two, v.Target(synology.Node1, "b")} {
		expect(t, filepath.Join(at, "one"), "of the first")
		expect(t, filepath.Join(at, "two"), "of the second")
	}
	v.Claim.ReadOnly = true
	ok(t, v.TryPublish(synology.Node2, "reader"))
	v.Claim.ReadOnly = false
	reader := filepath.Join(v.Target(synology.Node2, "reader"), "one")
	expect(t, reader, "of the first")
	if err := os.WriteFile(reader, nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a pod that may only read wrote: %v", err)
	}
	v.Leave(synology.Node2, "a", "reader")

	v.Claim.ReadOnly = true // all of the node reads: the NAS sees to it
	readOnly := v.Use(synology.Node2, "a")
	v.Claim.ReadOnly = false
	expect(t, filepath.Join(readOnly, "one"), "of the first")
	if err := os.WriteFile(filepath.Join(readOnly, "one"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a node that may only read wrote: %v", err)
	}
	v.Leave(synology.Node2, "a")

	again := v.Use(synology.Node2, "a")
	f, err := os.OpenFile(filepath.Join(again, "two"), os.O_RDWR|unix.O_SYNC, 0)
	ok(t, err)
	ok(t, v.TryDetach(synology.Node2)) // by force, as of a node that is gone
	if _, err := f.WriteAt([]byte("too late"), 0); err == nil {
		t.Error("a node that is shut out wrote")
	}
	_ = f.Close() // with the same error
	put(t, filepath.Join(one, "one"), "of the first")
	expect(t, filepath.Join(one, "two"), "of the second")
	v.Leave(synology.Node2, "a")
	v.Leave(synology.Node1, "a", "b")
	v.Delete()
}

// quota: a share is full at its size, and has more room as soon as it grows.
func quota(t *testing.T) {
	c := synology.Start(t, synology.Options{Pool: synology.Protocol("nfs")}).Cluster()
	v := c.Create(claim("nfs", 64*mib))
	pod := v.Use(synology.Node1, "a")
	big := bytes.Repeat([]byte("0123456789abcdef"), 6*mib)
	write := func(name string) error {
		f, err := os.Create(filepath.Join(pod, name))
		ok(t, err)
		_, err = f.Write(big)
		return errors.Join(err, f.Sync(), f.Close())
	}
	if err := write("cut short"); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("96 MiB in 64: %v", err)
	}
	node, err := v.TryGrow(256 * mib)
	if err != nil || node {
		t.Errorf("grow: %v, the node has a part in it: %v", err, node)
	}
	ok(t, write("big"))
	v.Leave(synology.Node1, "a")
	v.Delete()
}

// lateNAS: a controller and a node that start without a NAS are there, say that it does not answer, and work as soon as it does.
func lateNAS(t *testing.T) {
	b := synology.Start(t, synology.Options{})
	var c *synology.Cluster
	b.PowerCycle(func() {
		controller, node := b.Controller(), b.Node(synology.Node1)
		c = synology.NewCluster(t, controller, map[string]driver.Driver{synology.Node1: node})
		for _, d := range []driver.Driver{controller, node} {
			r, err := csi.NewIdentityClient(d.Dial(t)).Probe(context.Background(), &csi.ProbeRequest{})
			if err != nil || !r.GetReady().GetValue() {
				t.Errorf("probe: %v, %v", r, err)
			}
		}
		_, err := c.TryCreate(claim("ext4", gib))
		unavailable(t, "create", err)
	})
	retried(t, "create", func() error { _, err := c.TryCreate(claim("ext4", gib)); return err })
	v := c.Create(claim("ext4", gib))
	put(t, filepath.Join(v.Use(synology.Node1, "a"), "data"), "kept")
	v.Leave(synology.Node1, "a")
	v.Delete()
}
