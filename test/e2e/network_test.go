package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// outOfService is the taint by which a person says of a node that it is off: its volumes may be taken from it.
const outOfService = corev1.TaintNodeOutOfService

// fenceDead cuts the power of a node whose pod writes. The volume is another node's then, with all that was flushed, and when
// the first node is back, it has nothing of it.
func fenceDead(b *bed) {
	b.fence(func(node string, _ *corev1.Pod) (comeBack func()) {
		b.lab("crash", node)
		return func() { b.lab("boot", node) }
	}, func(string, *corev1.Pod) {})
}

// fenceLiving has a kubelet fall silent, and its pods go on. Only that the storage shuts the node out keeps two nodes from
// writing to one volume.
func fenceLiving(b *bed) {
	b.fence(func(node string, _ *corev1.Pod) (comeBack func()) {
		b.lab("exec", node, "--", "pkill", "-STOP", "-x", "kubelet")
		return func() { b.lab("exec", node, "--", "pkill", "-CONT", "-x", "kubelet") }
	}, func(node string, p *corev1.Pod) {
		c := b.awaitBound("data")
		late := fmt.Sprintf("of=/var/lib/kubelet/pods/%s/volumes/kubernetes.io~csi/%s/mount/late", p.UID, c.Spec.VolumeName)
		_, err := labProgram(b.t.Context(), "exec", node, "--", "dd", "if=/dev/zero", late, "bs=1M", "count=1", "conv=fsync")
		if err == nil {
			b.t.Errorf("node %s, whose volume was taken from it, still writes to it", node)
		}
		b.t.Logf("node %s is refused: %v", node, err)
	})
}

// fence takes a volume from the node that a pod writes on, which take makes seem dead, and gives it to another one. check
// looks at what the first node can still do.
func (b *bed) fence(take func(node string, p *corev1.Pod) (comeBack func()), check func(node string, p *corev1.Pod)) {
	b.timed = false
	node := b.bystander()
	c, p := b.launch(b.claim("data", b.driver.Size), b.pod("first", "data", onNode(node), ticking), "", "")
	sum := b.write("first", dataFile, dataMiB)
	_, before, _ := b.ticks("first")

	comeBack := take(node, p)
	back := false
	defer func() {
		if !back {
			comeBack()
			b.taint(node, false)
		}
	}()
	b.awaitNodeSilent(node)
	begun := time.Now()
	b.taint(node, true)
	b.awaitNone(one(pods, b.ns, "first"), "the pod of the node that is out of service")
	second := b.start(b.pod("second", "data"))
	b.t.Logf("node %s is out of service; %v later the pod runs on node %s", node, time.Since(begun).Round(time.Second), second.Spec.NodeName)
	b.verify("second", dataFile, dataMiB, sum)
	if _, now, _ := b.ticks("second"); now < before {
		b.t.Errorf("of %d writes that were flushed, %d are there", before, now)
	}
	check(node, p)
	sum = b.write("second", dataFile, dataMiB)

	comeBack()
	back = true
	b.taint(node, false)
	b.reachable(node)
	if err := b.driverBack(node, 1); err != nil {
		b.t.Fatal(err)
	}
	b.awaitNoTracesOn(node, c.Spec.VolumeName)
	b.verify("second", dataFile, dataMiB, sum)
}

// taint says that a node is out of service, or takes that back.
func (b *bed) taint(node string, on bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := b.cluster.typed.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == outOfService })
		if on {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: outOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute})
		}
		_, err = b.cluster.typed.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// awaitNodeSilent waits until the cluster knows that a node's kubelet is silent.
func (b *bed) awaitNodeSilent(node string) {
	b.t.Helper()
	await(b, one(nodes, "", node), "node "+node+" to be missed", func(n *corev1.Node) (bool, string) {
		if n == nil {
			return false, "absent"
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c.Status != corev1.ConditionTrue, "Ready: " + string(c.Status)
			}
		}
		return false, "without conditions"
	})
}

// awaitNoTracesOn waits until one node has nothing of a volume, which another one may have.
func (b *bed) awaitNoTracesOn(node, volume string) {
	b.t.Helper()
	for deadline := time.Now().Add(usualLimit); ; time.Sleep(time.Second) {
		found, err := b.nodes.tracesOn(b.t.Context(), node, b.driver, volume)
		if err == nil && len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("node %s still has of volume %s: %v, %v", node, volume, found, err)
		}
	}
}

// addressesChange gives a node one more address, as far as the API knows, until its kubelet takes that back. The volume of the
// pod there is attached to it anew each time, and the pod writes on.
func addressesChange(b *bed) {
	const more = "192.0.2.77" // nobody's: RFC 5737
	b.timed = false
	node := b.bystander()
	c, _ := b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data", onNode(node), ticking), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	had := b.attachedFor(c.Spec.VolumeName)
	b.addAddress(node, more)
	added := time.Now()
	for again := added; !strings.Contains(b.attachedFor(c.Spec.VolumeName), more); time.Sleep(50 * time.Millisecond) {
		switch {
		case time.Since(added) > usualLimit:
			b.t.Fatalf("node %s had the address %s, and its volume is attached for %s", node, more, b.attachedFor(c.Spec.VolumeName))
		case time.Since(again) > 20*time.Second: // the kubelet may have been faster than csi-attacher
			again = time.Now()
			b.addAddress(node, more)
		}
	}
	seen := time.Now()
	for b.attachedFor(c.Spec.VolumeName) != had {
		time.Sleep(50 * time.Millisecond)
		if time.Since(seen) > usualLimit {
			b.t.Fatalf("the volume was attached for %s, and is for %s", had, b.attachedFor(c.Spec.VolumeName))
		}
	}
	b.t.Logf("attached anew %v after the address came, and after it went %v later", seen.Sub(added).Round(time.Millisecond), time.Since(seen).Round(time.Second))
	b.verify("pod", dataFile, dataMiB, sum)
	for back := time.Now().Unix(); ; time.Sleep(time.Second) {
		last, many, longest := b.ticks("pod")
		if last > back {
			b.t.Logf("%d writes, the longest pause between two %v", many, longest)
			return
		}
		if time.Now().Unix() > back+int64(usualLimit.Seconds()) {
			b.t.Fatalf("the pod has not written since; %d writes", many)
		}
	}
}

// attachedFor are the addresses of the node that a volume is attached to, of when that was done; "" while it is not attached.
func (b *bed) attachedFor(volume string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	all, err := b.cluster.typed.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, a := range all.Items {
		if p := a.Spec.Source.PersistentVolumeName; p != nil && *p == volume && a.Status.Attached {
			return a.Status.AttachmentMetadata["dozo.dev/addresses"]
		}
	}
	return ""
}

// addAddress has a Node say that it has one more address.
func (b *bed) addAddress(node, address string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := b.cluster.typed.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: address})
		_, err = b.cluster.typed.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// storageAway cuts the power of the storage while a pod writes: the pod waits and goes on, with all that it had flushed;
// what was asked for meanwhile is made; and nothing of the driver had to be restarted.
func storageAway(b *bed) {
	b.timed = false
	machine := b.driver.Storage.Machine
	b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data", ticking), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	_, before, _ := b.ticks("pod")
	restarts := b.restarts(b.driver.Pods)

	b.lab("crash", machine)
	cut := time.Now()
	b.createClaim(b.claim("meanwhile", b.driver.Size))
	b.createPod(b.pod("meanwhile", "meanwhile"))
	time.Sleep(away / 4)
	b.lab("boot", machine)
	back := time.Now()
	b.t.Logf("the storage is back %v after its power was cut", back.Sub(cut).Round(time.Second))
	b.awaitBound("meanwhile")
	b.awaitReady("meanwhile")
	b.t.Logf("a claim that was made meanwhile is bound and its pod runs %v after that", time.Since(back).Round(time.Second))

	for deadline := time.Now().Add(usualLimit); ; time.Sleep(time.Second) {
		last, many, longest := b.ticks("pod")
		if last > back.Unix() {
			b.t.Logf("%d writes, the longest pause between two %v", many, longest)
			break
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the pod has not written since the storage is back; %d writes", many)
		}
	}
	b.wantRestarts(b.driver.Pods, restarts)
	b.deletePod("pod")
	b.start(b.pod("again", "data"))
	b.verify("again", dataFile, dataMiB, sum)
	if _, now, _ := b.ticks("again"); now <= before {
		b.t.Errorf("of %d writes that were flushed before the power cut, and more after, %d are there", before, now)
	}
}

// expandOverRestart grows a volume that a pod uses from 10Gi to 15Gi, then to 20Gi with a cut of the storage's power in the
// middle.
func expandOverRestart(b *bed) {
	b.timed = false
	machine := b.driver.Storage.Machine
	b.launch(b.claim("data", "10Gi"), b.pod("pod", "data"), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	b.request("data", "15Gi")
	b.awaitSize("data", "pod", "15Gi", b.fileSystemSize)
	b.request("data", "20Gi")
	await(b, one(claims, b.ns, "data"), "the expansion to begin", func(c *corev1.PersistentVolumeClaim) (bool, string) {
		return c != nil && (len(c.Status.Conditions) > 0 || c.Status.Capacity.Storage().String() == "20Gi"), describeClaim(c)
	})
	b.lab("crash", machine)
	b.lab("boot", machine)
	b.awaitSize("data", "pod", "20Gi", b.fileSystemSize)
	b.verify("pod", dataFile, dataMiB, sum)
	b.deletePod("pod")
	b.start(b.pod("again", "data"))
	b.verify("again", dataFile, dataMiB, sum)
}

func byMany(c *corev1.PersistentVolumeClaim) {
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
}

// manyWriters has a pod on each node write to one volume. All see what each wrote, and those that stay go on when one goes.
func manyWriters(b *bed) {
	b.createClaim(b.claim("data", b.driver.Size, byMany))
	sums := map[string]string{} // by file
	file := func(node string) string { return dataDir + "/of-" + node }
	var writers []string
	for node := range b.nodes.pods {
		writer := "writer-" + node
		b.createPod(b.pod(writer, "data", onNode(node)))
		writers = append(writers, writer)
	}
	b.awaitBound("data")
	for _, writer := range writers {
		node := b.awaitReady(writer).Spec.NodeName
		sums[file(node)] = b.write(writer, file(node), dataMiB)
	}
	see := func(writers []string) {
		for _, writer := range writers {
			for file, sum := range sums {
				b.verify(writer, file, dataMiB, sum)
			}
		}
	}
	see(writers)
	b.deletePod(writers[0])
	for _, writer := range writers[1:] {
		f := file(strings.TrimPrefix(writer, "writer-"))
		sums[f] = b.write(writer, f, dataMiB)
	}
	see(writers[1:])
	b.t.Logf("%d nodes wrote to one volume at the same time", len(writers))
}

// manyWritersRefused: a file system on a device is destroyed by two nodes that mount it. The claim says what to use instead.
func manyWritersRefused(b *bed) {
	b.createClaim(b.claim("data", b.driver.Size, byMany, ofClass(b.class("at-once", atOnce))))
	b.awaitEvent("data", "ProvisioningFailed", "protocol: nfs")
}
