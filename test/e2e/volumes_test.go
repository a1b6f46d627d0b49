package e2e

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"

	"github.com/dozo-dev/dozo/test/e2e/timings"
)

// mountOptions are a class's, and what the kernel has.
func mountOptions(b *bed) {
	class := b.class("noatime", func(c *storagev1.StorageClass) { c.MountOptions = []string{"noatime", "nodiratime"} })
	b.launch(b.claim("data", b.driver.Size, ofClass(class)), b.pod("pod", "data"), "", "")
	for line := range strings.Lines(b.exec("pod", "cat", "/proc/mounts")) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == dataDir {
			if !strings.Contains(","+f[3]+",", ",noatime,") {
				b.t.Errorf("mounted with %s, and the class has noatime", f[3])
			}
			return
		}
	}
	b.t.Errorf("nothing is mounted at %s", dataDir)
}

// fileSystems has the data of each file system outlive its pod.
func fileSystems(b *bed) {
	for _, kind := range b.driver.FileSystems {
		b.launch(b.claim(kind, b.driver.Size, b.withFileSystem(kind)), b.pod(kind, kind), timings.PVCBound, timings.PodRunning)
		if got := b.exec(kind, "stat", "-f", "-c", "%T", dataDir); got != kind && (kind != "ext4" || got != "ext2/ext3") {
			b.t.Errorf("a volume for %s has the file system %s", kind, got)
		}
		sum := b.write(kind, dataFile, dataMiB)
		b.deletePod(kind)
		b.start(b.pod(kind+"-again", kind))
		b.verify(kind+"-again", dataFile, dataMiB, sum)
		b.deletePod(kind + "-again")
	}
}

// leastSize asks for a byte, which becomes what a file system or the storage needs at least; the claim says what
// it got.
func leastSize(b *bed) {
	c, _ := b.launch(b.claim("files", "1"), b.pod("files", "files"), "", "")
	if c.Status.Capacity.Storage().Value() > 2*dataMiB<<20 {
		b.write("files", dataFile, dataMiB)
	}
	b.t.Logf("a volume of a byte for files has %s", c.Status.Capacity.Storage())
	if !b.driver.Can.Block {
		return
	}
	c, _ = b.launch(b.claim("device", "1", asBlock), b.pod("device", "device", withDevice), "", "")
	if said, is := c.Status.Capacity.Storage().Value(), b.deviceSize("device"); said != is || is < 1<<20 {
		b.t.Errorf("the claim says that it has %d bytes; the device has %d", said, is)
	}
}

// unevenSize is no multiple of what storage counts in: claim, volume and device agree on what it became; after
// it is raised to another such size, volume and device.
func unevenSize(b *bed) {
	size := apiresource.MustParse(b.driver.Size)
	uneven := func(more int64) string { return fmt.Sprint(size.Value() + more) }
	c, _ := b.launch(b.claim("data", uneven(1), asBlock), b.pod("pod", "data", withDevice), "", "")
	agree := func(c *corev1.PersistentVolumeClaim, least int64) (claim, volume int64) {
		claim, volume = c.Status.Capacity.Storage().Value(), b.volume(c.Spec.VolumeName).Spec.Capacity.Storage().Value()
		if device := b.deviceSize("pod"); claim < least || volume < claim || volume != device {
			b.t.Errorf("%d bytes were asked for; the claim says %d, the volume %d, the device has %d", least, claim, volume, device)
		}
		return claim, volume
	}
	if claim, volume := agree(c, size.Value()+1); claim != volume {
		b.t.Errorf("the claim says that it has %d bytes, and the volume has %d", claim, volume)
	}
	if !b.driver.Can.Expand {
		return
	}
	const more = 100<<20 + 1
	b.request("data", uneven(more))
	c = await(b, one(claims, b.ns, "data"), "the claim to have grown", func(c *corev1.PersistentVolumeClaim) (bool, string) {
		return c != nil && c.Status.Capacity.Storage().Value() >= size.Value()+more, describeClaim(c)
	})
	agree(c, size.Value()+more) // of one that has grown, the kubelet says what was asked for
}

// expandUnused grows a volume that no pod uses, and its file system when one does.
func expandUnused(b *bed) {
	b.timed = false
	b.launch(b.claim("data", b.driver.Size), b.pod("first", "data"), "", "")
	sum := b.write("first", dataFile, dataMiB)
	b.deletePod("first")
	b.request("data", b.driver.Larger)
	want := apiresource.MustParse(b.driver.Larger)
	await(b, one(claims, b.ns, "data"), "the file system to be all that is missing", func(c *corev1.PersistentVolumeClaim) (bool, string) {
		if c == nil {
			return false, "absent"
		}
		for _, is := range c.Status.Conditions {
			if is.Type == corev1.PersistentVolumeClaimFileSystemResizePending {
				return true, ""
			}
		}
		return c.Status.Capacity.Storage().Cmp(want) >= 0, describeClaim(c)
	})
	b.start(b.pod("second", "data"))
	b.awaitGrown("data", "second", b.fileSystemSize)
	b.verify("second", dataFile, dataMiB, sum)
}

// copiesOutliveTheirSource deletes all that copies were made of.
func copiesOutliveTheirSource(b *bed) {
	b.timed = false
	_, p := b.launch(b.claim("data", b.driver.Size), b.pod("source", "data"), "", "")
	sum := b.write("source", dataFile, dataMiB)
	b.createSnapshot("snapshot", "data")
	b.launch(b.claim("restored", b.driver.Size, from("snapshot.storage.k8s.io", "VolumeSnapshot", "snapshot")), b.pod("restored", "restored", b.near(p)), "", "")
	b.launch(b.claim("copy", b.driver.Size, from("", "PersistentVolumeClaim", "data")), b.pod("copy", "copy", b.near(p)), "", "")
	b.deletePod("source")
	b.deleteClaim("data")
	b.deleteAll(b.t.Context(), snapshots)
	for _, name := range []string{"restored", "copy"} {
		b.deletePod(name)
		b.start(b.pod(name+"-again", name))
		b.verify(name+"-again", dataFile, dataMiB, sum)
	}
}

// exactFit asks for all of a node's room to the last byte, which is there; the next pod says why it waits.
func exactFit(b *bed) {
	b.timed = false
	node, free := b.freest()
	all := func(name string) *corev1.PersistentVolumeClaim { return b.claim(name, fmt.Sprint(free), asBlock) }
	b.launch(all("all"), b.pod("all", "all", withDevice, onNode(node)), "", "")
	if got := b.deviceSize("all"); got != free {
		b.t.Errorf("node %s has room for %d bytes, and a volume of that size has %d", node, free, got)
	}
	b.createClaim(all("none"))
	b.createPod(b.pod("none", "none", withDevice, onNode(node)))
	await(b, one(pods, b.ns, "none"), "the pod to say why it waits", func(p *corev1.Pod) (bool, string) {
		s := describePod(p)
		return strings.Contains(s, "did not have enough free storage"), s
	})
}
