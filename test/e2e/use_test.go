package e2e

import (
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"

	"github.com/dozo-dev/dozo/test/e2e/timings"
)

const (
	dataFile = dataDir + "/file"
	dataMiB  = 8 // random data that checksums are of
)

// dataOutlivesPod is a volume's usual life. It is also where the search for traces proves that it finds them.
func dataOutlivesPod(b *bed) {
	c, p := b.launch(b.claim("data", b.driver.Size), b.pod("first", "data"), timings.PVCBound, timings.PodRunning)
	sum := b.write("first", dataFile, dataMiB)
	found, err := b.nodes.traces(b.t.Context(), b.driver, c.Spec.VolumeName)
	if err != nil {
		b.t.Fatal(err)
	}
	if has, err := b.onStorage(b.t.Context(), c.Spec.VolumeName); err != nil || b.seesStorage() && len(has) == 0 {
		b.t.Errorf("the storage says nothing of a volume in use: the search for what is left finds nothing (%v)", err)
	}
	for _, trace := range b.driver.Traces {
		if len(found[trace.What]) == 0 {
			b.t.Errorf("%s of a volume in use was not found on any node: the search for what is left finds nothing: %v", trace.What, trace.Program)
		}
	}
	b.deletePod("first")
	again := b.start(b.pod("second", "data"))
	b.verify("second", dataFile, dataMiB, sum)
	b.t.Logf("on node %s, then %s", p.Spec.NodeName, again.Spec.NodeName)
}

// grow raises a claim's request and waits until its status and the pod have the size.
func (b *bed) grow(claim, pod string, seen func(pod string) int64) {
	b.t.Helper()
	start := time.Now()
	b.request(claim, b.driver.Larger)
	b.awaitGrown(claim, pod, seen)
	b.time(timings.Expanded, start)
}

func (b *bed) awaitGrown(claim, pod string, seen func(pod string) int64) {
	b.t.Helper()
	b.awaitSize(claim, pod, b.driver.Larger, seen)
}

// awaitSize waits until a claim's status and its pod have a size.
func (b *bed) awaitSize(claim, pod, size string, seen func(pod string) int64) {
	b.t.Helper()
	want := apiresource.MustParse(size)
	await(b, one(claims, b.ns, claim), "PVC "+claim+" to have "+size, func(c *corev1.PersistentVolumeClaim) (bool, string) {
		return c != nil && c.Status.Capacity.Storage().Cmp(want) >= 0, describeClaim(c)
	})
	// A file system takes up to a fifth of a small device for itself.
	if got := seen(pod); got < want.Value()/5*4 {
		b.t.Fatalf("PVC %s has %s, and pod %s sees only %d bytes", claim, size, pod, got)
	}
}

// fileSystemSize is what a pod sees of its volume, in bytes.
func (b *bed) fileSystemSize(pod string) int64 {
	b.t.Helper()
	blocks, size, _ := strings.Cut(b.exec(pod, "stat", "-f", "-c", "%b %S", dataDir), " ")
	return b.number(blocks) * b.number(size)
}

func (b *bed) deviceSize(pod string) int64 {
	b.t.Helper()
	return b.number(b.exec(pod, "blockdev", "--getsize64", blockDevice))
}

func expandInUse(b *bed) {
	b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data"), timings.PVCBound, timings.PodRunning)
	sum := b.write("pod", dataFile, dataMiB)
	b.grow("data", "pod", b.fileSystemSize)
	b.verify("pod", dataFile, dataMiB, sum)
}

// expandExt4InUse needs of the node what containers and sandboxes often lack.
func expandExt4InUse(b *bed) {
	for node := range b.nodes.pods {
		if !b.rootCan(node, capSysResource) {
			b.t.Skipf("root on node %s lacks CAP_SYS_RESOURCE, without which no kernel grows a mounted ext4; docs/testing.md has nodes with it", node)
		}
	}
	b.launch(b.claim("data", b.driver.Size, b.withFileSystem("ext4")), b.pod("pod", "data"), timings.PVCBound, timings.PodRunning)
	if got := b.exec("pod", "stat", "-f", "-c", "%T", dataDir); got != "ext2/ext3" {
		b.t.Fatalf("the file system is %s", got)
	}
	sum := b.write("pod", dataFile, dataMiB)
	b.grow("data", "pod", b.fileSystemSize)
	b.verify("pod", dataFile, dataMiB, sum)
}

// capSysResource is the number of CAP_SYS_RESOURCE.
const capSysResource = 24

// rootCan tells whether a process on a node can have a capability: what the first one cannot, none can.
func (b *bed) rootCan(node string, capability int) bool {
	b.t.Helper()
	out, err := b.nodes.run(b.t.Context(), node, "sed", "-n", `s/^CapBnd:\t*//p`, "/proc/1/status")
	if err != nil {
		b.t.Fatal(err)
	}
	bounds, err := strconv.ParseUint(strings.TrimSpace(out), 16, 64)
	if err != nil {
		b.t.Fatalf("the capabilities of node %s: %v", node, err)
	}
	return bounds&(1<<capability) != 0
}

func expandBlock(b *bed) {
	b.launch(b.claim("data", b.driver.Size, asBlock), b.pod("pod", "data", withDevice), timings.PVCBound, timings.PodRunning)
	sum := b.write("pod", blockDevice, dataMiB)
	b.grow("data", "pod", b.deviceSize)
	b.verify("pod", blockDevice, dataMiB, sum)
}

// expandTooFar asks for more than any node has: the claim says why not, and takes back what it asked for.
func expandTooFar(b *bed) {
	b.timed = false
	b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data"), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	b.request("data", "14Ti")
	b.awaitEvent("data", "VolumeResizeFailed", b.driver.FullSays)
	b.grow("data", "pod", b.fileSystemSize)
	b.verify("pod", dataFile, dataMiB, sum)
}

// rawBlock gives a pod the device, and another pod the same one with the same bytes.
func rawBlock(b *bed) {
	b.launch(b.claim("data", b.driver.Size, asBlock), b.pod("first", "data", withDevice), timings.PVCBound, timings.PodRunning)
	want := apiresource.MustParse(b.driver.Size)
	if got := b.deviceSize("first"); got < want.Value() {
		b.t.Errorf("the device has %d bytes, %s were asked for", got, b.driver.Size)
	}
	sum := b.write("first", blockDevice, dataMiB)
	b.deletePod("first")
	b.start(b.pod("second", "data", withDevice))
	b.verify("second", blockDevice, dataMiB, sum)
}

// near puts a pod where another one is, for copies that can only be made there.
func (b *bed) near(other *corev1.Pod) func(*corev1.Pod) {
	if b.driver.Can.NodeBound {
		return onNode(other.Spec.NodeName)
	}
	return func(*corev1.Pod) {}
}

// copiesFindTheirSource leaves it to the scheduler where copies are used. The source's node is made the least
// attractive one: nothing but knowledge of the source leads there.
func copiesFindTheirSource(b *bed) {
	b.timed = false
	_, p := b.launch(b.claim("data", b.driver.Size), b.pod("source", "data"), "", "")
	sum := b.write("source", dataFile, dataMiB)
	b.createSnapshot("snapshot", "data")
	elsewhere := func(c *corev1.Pod) {
		c.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 100, Preference: corev1.NodeSelectorTerm{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpNotIn, Values: []string{p.Spec.NodeName},
				}},
			}}},
		}}
	}
	b.launch(b.claim("restored", b.driver.Size, from("snapshot.storage.k8s.io", "VolumeSnapshot", "snapshot")), b.pod("restored", "restored", elsewhere), "", "")
	b.verify("restored", dataFile, dataMiB, sum)
	b.launch(b.claim("copy", b.driver.Size, from("", "PersistentVolumeClaim", "data")), b.pod("copy", "copy", elsewhere), "", "")
	b.verify("copy", dataFile, dataMiB, sum)
}

// restoreLarger proves that a snapshot is of the moment, and that its copy may be larger.
func restoreLarger(b *bed) {
	_, p := b.launch(b.claim("data", b.driver.Size), b.pod("source", "data"), timings.PVCBound, timings.PodRunning)
	sum := b.write("source", dataFile, dataMiB)
	b.createSnapshot("snapshot", "data")
	changed := b.write("source", dataFile, dataMiB)
	b.launch(b.claim("restored", b.driver.Larger, from("snapshot.storage.k8s.io", "VolumeSnapshot", "snapshot")),
		b.pod("restored", "restored", b.near(p)), timings.RestoreBound, "")
	b.verify("restored", dataFile, dataMiB, sum)
	b.verify("source", dataFile, dataMiB, changed)
	want := apiresource.MustParse(b.driver.Larger)
	if got := b.fileSystemSize("restored"); got < want.Value()/5*4 {
		b.t.Errorf("the restored volume has %s, and its pod sees only %d bytes", b.driver.Larger, got)
	}
}

// cloneClaim proves that a copy has the data and is on its own.
func cloneClaim(b *bed) {
	_, p := b.launch(b.claim("data", b.driver.Size), b.pod("source", "data"), timings.PVCBound, timings.PodRunning)
	sum := b.write("source", dataFile, dataMiB)
	b.launch(b.claim("copy", b.driver.Size, from("", "PersistentVolumeClaim", "data")), b.pod("copy", "copy", b.near(p)), timings.CloneBound, "")
	b.verify("copy", dataFile, dataMiB, sum)
	b.write("copy", dataFile, dataMiB)
	b.verify("source", dataFile, dataMiB, sum)
}

// ephemeralVolume is made with its pod and deleted with it.
func ephemeralVolume(b *bed) {
	b.createPod(b.pod("pod", "", func(p *corev1.Pod) {
		p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
			VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: b.claim("", b.driver.Size).Spec},
		}}
	}))
	c := b.awaitBound("pod-data")
	b.awaitReady("pod")
	b.write("pod", dataFile, dataMiB)
	b.deletePod("pod")
	b.awaitNone(one(claims, b.ns, c.Name), "PVC "+c.Name+" of the deleted pod")
	b.awaitNone(one(volumes, "", c.Spec.VolumeName), "PersistentVolume of the deleted pod")
}

// readWriteOncePod keeps a second pod waiting until the first is gone.
func readWriteOncePod(b *bed) {
	b.launch(b.claim("data", b.driver.Size, func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
	}), b.pod("first", "data"), timings.PVCBound, timings.PodRunning)
	sum := b.write("first", dataFile, dataMiB)
	b.createPod(b.pod("second", "data"))
	await(b, one(pods, b.ns, "second"), "the second pod to be refused", func(p *corev1.Pod) (bool, string) {
		s := describePod(p)
		return strings.Contains(s, "ReadWriteOncePod"), s
	})
	b.deletePod("first")
	b.awaitReady("second")
	b.verify("second", dataFile, dataMiB, sum)
}

// readOnly is the pod's choice: the volume is writable for others.
func readOnly(b *bed) {
	_, writer := b.launch(b.claim("data", b.driver.Size), b.pod("writer", "data"), timings.PVCBound, timings.PodRunning)
	sum := b.write("writer", dataFile, dataMiB)
	b.start(b.pod("reader", "data", onNode(writer.Spec.NodeName), func(p *corev1.Pod) { p.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true }))
	b.verify("reader", dataFile, dataMiB, sum)
	if _, err := b.tryExec("reader", "touch", dataDir+"/another"); err == nil || !strings.Contains(err.Error(), "Read-only") {
		b.t.Errorf("a pod with readOnly writes: %v", err)
	}
	b.exec("writer", "touch", dataDir+"/another")
	b.exec("reader", "stat", dataDir+"/another")
}

func twoPodsShare(b *bed) {
	_, first := b.launch(b.claim("data", b.driver.Size), b.pod("first", "data"), timings.PVCBound, timings.PodRunning)
	second := b.start(b.pod("second", "data", onNode(first.Spec.NodeName)))
	if second.Spec.NodeName != first.Spec.NodeName {
		b.t.Fatalf("pods on %s and %s share a volume of one node", first.Spec.NodeName, second.Spec.NodeName)
	}
	sum := b.write("first", dataFile, dataMiB)
	b.verify("second", dataFile, dataMiB, sum)
	b.deletePod("first")
	b.verify("second", dataFile, dataMiB, sum)
	b.write("second", dataFile, dataMiB)
}

// retain keeps the volume when its claim is deleted; a new claim finds the data in it.
func retain(b *bed) {
	c, _ := b.launch(b.claim("data", b.driver.Size), b.pod("first", "data"), timings.PVCBound, timings.PodRunning)
	sum := b.write("first", dataFile, dataMiB)
	pv := c.Spec.VolumeName
	b.patch(selection{resource: volumes}, pv, `{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)
	b.deletePod("first")
	b.deleteClaim("data")
	await(b, one(volumes, "", pv), "the volume to be Released", func(v *corev1.PersistentVolume) (bool, string) {
		if v == nil {
			return false, "absent: it was deleted in spite of Retain"
		}
		return v.Status.Phase == corev1.VolumeReleased, string(v.Status.Phase)
	})
	b.patch(selection{resource: volumes}, pv, `{"spec":{"claimRef":null}}`)
	b.createClaim(b.claim("again", b.driver.Size, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = pv }))
	b.awaitBound("again")
	b.start(b.pod("second", "again"))
	b.verify("second", dataFile, dataMiB, sum)
	b.patch(selection{resource: volumes}, pv, `{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`)
}

// fsGroup has the kubelet give the volume to a group, so that a pod without root can write.
func fsGroup(b *bed) {
	user, group := int64(1234), int64(2345)
	b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data", func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &user, FSGroup: &group}
	}), timings.PVCBound, timings.PodRunning)
	b.exec("pod", "touch", dataFile)
	if got := b.exec("pod", "stat", "-c", "%u %g", dataFile); got != "1234 2345" {
		b.t.Errorf("a new file has owner and group %s, not 1234 2345", got)
	}
}

func subPath(b *bed) {
	b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data", func(p *corev1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
			{Name: "data", MountPath: dataDir},
			{Name: "data", MountPath: "/part", SubPath: "one/part"},
		}
	}), timings.PVCBound, timings.PodRunning)
	sum := b.write("pod", "/part/file", dataMiB)
	b.verify("pod", dataDir+"/one/part/file", dataMiB, sum)
}
