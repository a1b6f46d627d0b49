package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/dozo-dev/dozo/test/e2e/timings"
)

// killedWhileWriting has one program that keeps its file open and others that open theirs anew: a pod's I/O
// goes through the kernel, whatever happens to the driver.
func killedWhileWriting(b *bed) {
	_, p := b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data"), "", "")
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(b.t.Context(), usualLimit)
	defer cancel()
	go func() {
		_, err := b.cluster.Exec(ctx, b.ns, "pod", nil, "dd", "if=/dev/urandom", "of="+dataDir+"/open", "bs=16k", "count=2000", "oflag=dsync")
		ended <- err
	}()
	b.kill(p.Spec.NodeName)
	back := make(chan error, 1)
	go func() { back <- b.driverBack(p.Spec.NodeName, 1) }()
	longest, writes := time.Duration(0), 0
	for done := false; !done; writes++ {
		start := time.Now()
		b.exec("pod", "dd", "if=/dev/urandom", "of="+dataFile, "bs=4k", "count=1", "conv=notrunc", "oflag=append,dsync")
		longest = max(longest, time.Since(start))
		select {
		case err := <-back:
			done = true
			if err != nil {
				b.t.Error(err)
			}
		default:
		}
	}
	if err := <-ended; err != nil {
		b.t.Error("the program that wrote all the time failed:", err)
	}
	if got := b.number(b.exec("pod", "stat", "-c", "%s", dataFile)); got != int64(writes)*4096 {
		b.t.Errorf("%d writes of 4096 bytes, and the file has %d", writes, got)
	}
	b.times.Add(timings.IOStall, longest)
	b.t.Logf("%d writes while the driver was away, the longest took %v with starting dd", writes, longest.Round(time.Millisecond))
}

// killedWhileProvisioning kills the driver as soon as the scheduler has chosen its node.
func killedWhileProvisioning(b *bed) {
	b.timed = false
	b.createClaim(b.claim("data", b.driver.Size))
	b.createPod(b.pod("pod", "data"))
	const annotation = "volume.kubernetes.io/selected-node"
	c := await(b, one(claims, b.ns, "data"), "the scheduler to choose a node", func(c *corev1.PersistentVolumeClaim) (bool, string) {
		return c != nil && c.Annotations[annotation] != "", describeClaim(c)
	})
	start := time.Now()
	b.killAtWork(c.Annotations[annotation])
	b.awaitBound("data")
	b.awaitReady("pod")
	b.times.Add(timings.Recovered, time.Since(start))
	b.write("pod", dataFile, dataMiB)
}

// killedWhileStaging kills the driver as soon as the volume is there and the kubelet has to do with it.
func killedWhileStaging(b *bed) {
	b.timed = false
	b.createClaim(b.claim("data", b.driver.Size))
	b.createPod(b.pod("pod", "data"))
	b.awaitBound("data")
	p := await(b, one(pods, b.ns, "pod"), "the pod to have a node", func(p *corev1.Pod) (bool, string) {
		return p != nil && p.Spec.NodeName != "", describePod(p)
	})
	start := time.Now()
	b.kill(p.Spec.NodeName)
	b.awaitReady("pod")
	b.times.Add(timings.Recovered, time.Since(start))
	b.write("pod", dataFile, dataMiB)
}

// killedWhileExpanding kills the driver when the resizer has begun.
func killedWhileExpanding(b *bed) {
	b.timed = false
	_, p := b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data"), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	b.request("data", b.driver.Larger)
	await(b, one(claims, b.ns, "data"), "the expansion to begin", func(c *corev1.PersistentVolumeClaim) (bool, string) {
		return c != nil && len(c.Status.Conditions) > 0, describeClaim(c)
	})
	start := time.Now()
	b.killAtWork(p.Spec.NodeName)
	b.awaitGrown("data", "pod", b.fileSystemSize)
	b.times.Add(timings.Recovered, time.Since(start))
	b.verify("pod", dataFile, dataMiB, sum)
}

// killedWhileDeleting kills the driver when pod and claim are going; that nothing is left, every scenario checks.
func killedWhileDeleting(b *bed) {
	b.timed = false
	c, p := b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data"), "", "")
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	core := b.cluster.typed.CoreV1()
	if err := core.PersistentVolumeClaims(b.ns).Delete(ctx, "data", metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
	if err := core.Pods(b.ns).Delete(ctx, "pod", metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
	start := time.Now()
	b.killAtWork(p.Spec.NodeName)
	if b.awaitNone(one(volumes, "", c.Spec.VolumeName), "PersistentVolume "+c.Spec.VolumeName) {
		b.times.Add(timings.Recovered, time.Since(start))
	}
}

// allRestarted is an upgrade at its worst: all of the driver is away at once, sidecars included.
func allRestarted(b *bed) {
	b.timed = false
	b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data"), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	b.deleteDriverPods("")
	start := time.Now()
	b.createClaim(b.claim("meanwhile", b.driver.Size))
	b.createPod(b.pod("meanwhile", "meanwhile"))
	b.verify("pod", dataFile, dataMiB, sum)
	if err := b.driverBack("", len(b.nodes.pods)); err != nil {
		b.t.Fatal(err)
	}
	b.awaitBound("meanwhile")
	b.awaitReady("meanwhile")
	b.times.Add(timings.Recovered, time.Since(start))
}

// awaitEvent waits for an Event on a claim that has a reason and says something.
func (b *bed) awaitEvent(claim, reason, says string) {
	b.t.Helper()
	b.awaitEventOn("PersistentVolumeClaim", claim, reason, says)
}

func (b *bed) awaitEventOn(kind, name, reason, says string) {
	b.t.Helper()
	said := ""
	ctx, cancel := context.WithTimeout(b.t.Context(), usualLimit)
	defer cancel()
	s := selection{resource: events, namespace: b.ns, fields: "involvedObject.name=" + name + ",involvedObject.kind=" + kind}
	err := b.cluster.follow(ctx, s, func(now current) bool {
		for _, u := range now {
			e, err := typed[corev1.Event](u)
			if err == nil && e.Reason == reason {
				said = e.Message
			}
		}
		return strings.Contains(said, says)
	})
	if err != nil {
		b.t.Fatalf("no Event on %s %s says %q; it says: %q", kind, name, says, said)
	}
	b.t.Logf("the Event: %s", said)
}

// full promises most of a node's room to one volume. The next one's claim says why it is not made, and is made
// when the first is gone.
func full(b *bed) {
	b.timed = false
	node, free := b.freest()
	share := func(percent int64) string { return fmt.Sprintf("%dMi", free/100*percent>>20) }
	b.launch(b.claim("most", share(80)), b.pod("most", "most", onNode(node)), "", "")
	b.createClaim(b.claim("more", share(40), func(c *corev1.PersistentVolumeClaim) {
		// As a scheduler would say that has not heard yet of the first volume.
		c.Annotations = map[string]string{"volume.kubernetes.io/selected-node": node}
	}))
	b.createPod(b.pod("more", "more", onNode(node)))
	b.awaitEvent("more", "ProvisioningFailed", b.driver.FullSays)
	b.deletePod("most")
	b.deleteClaim("most")
	start := time.Now()
	b.awaitBound("more")
	b.awaitReady("more")
	b.t.Logf("%v after room was made, the pod runs", time.Since(start).Round(time.Millisecond))
}

// freest is the node with the most room for volumes, and how many bytes that is, as the driver publishes it.
func (b *bed) freest() (string, int64) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	capacities, err := b.cluster.typed.StorageV1().CSIStorageCapacities("").List(ctx, metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	nodes, err := b.cluster.typed.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	best, most := "", int64(0)
	for _, n := range nodes.Items {
		for _, c := range capacities.Items {
			if free := b.freeOn(&n, &c); free > most {
				best, most = n.Name, free
			}
		}
	}
	if best == "" {
		b.t.Fatalf("no CSIStorageCapacity of class %s says that there is room", b.driver.StorageClass)
	}
	return best, most
}

// freeOn is what a capacity says of a node, 0 if it is of something else.
func (b *bed) freeOn(n *corev1.Node, c *storagev1.CSIStorageCapacity) int64 {
	selector, err := metav1.LabelSelectorAsSelector(c.NodeTopology)
	if err != nil || c.StorageClassName != b.driver.StorageClass || c.Capacity == nil || !selector.Matches(labels.Set(n.Labels)) {
		return 0
	}
	free := c.Capacity.Value()
	if c.MaximumVolumeSize != nil {
		free = min(free, c.MaximumVolumeSize.Value())
	}
	return free
}

// twentyAtOnce is a rush: twenty claims with pods, created as fast as the API server takes them.
func twentyAtOnce(b *bed) {
	const many = 20
	start := time.Now()
	for i := range many {
		name := fmt.Sprintf("rush-%02d", i)
		b.createClaim(b.claim(name, b.driver.Size))
		b.createPod(b.pod(name, name))
	}
	results := make(chan error, 2)
	go func() {
		results <- b.awaitMany(claims, many, timings.BurstBound, start, func(c current, name string) (bool, string) {
			claim, err := typed[corev1.PersistentVolumeClaim](c[name])
			return err == nil && claim.Status.Phase == corev1.ClaimBound, describeClaim(claim)
		})
	}()
	go func() {
		results <- b.awaitMany(pods, many, timings.BurstRunning, start, func(c current, name string) (bool, string) {
			pod, err := typed[corev1.Pod](c[name])
			return err == nil && podReady(pod), describePod(pod)
		})
	}()
	if err := errors.Join(<-results, <-results); err != nil {
		b.t.Fatal(err)
	}
	for i := range many {
		name := fmt.Sprintf("rush-%02d", i)
		size := apiresource.MustParse(b.driver.Size)
		if got := b.fileSystemSize(name); got < size.Value()/5*4 {
			b.t.Errorf("pod %s sees %d bytes", name, got)
		}
	}
}

// awaitMany waits until all objects of the namespace are as they should be, and times each.
func (b *bed) awaitMany(resource string, many int, operation string, start time.Time, ok func(current, string) (bool, string)) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), usualLimit)
	defer cancel()
	done, waiting := map[string]bool{}, map[string]string{}
	err := b.cluster.follow(ctx, selection{resource: resource, namespace: b.ns}, func(now current) bool {
		for name := range now {
			if done[name] {
				continue
			}
			if done[name], waiting[name] = ok(now, name); done[name] {
				b.times.Add(operation, time.Since(start))
				delete(waiting, name)
			}
		}
		return len(done)-len(waiting) == many
	})
	if err != nil {
		return fmt.Errorf("waited %v for %d %s; still waiting: %v", usualLimit, many, resource, waiting)
	}
	return nil
}
