package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// inline makes a pod's volume one that stands in the pod's spec.
func (b *bed) inline(size string, change ...func(*corev1.CSIVolumeSource)) func(*corev1.Pod) {
	fs := "ext4"
	source := &corev1.CSIVolumeSource{Driver: b.driver.Name, FSType: &fs, VolumeAttributes: map[string]string{"size": size}}
	if b.driver.Pool != "" {
		source.VolumeAttributes["pool"] = b.driver.Pool
	}
	for _, f := range change {
		f(source)
	}
	return func(p *corev1.Pod) { p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{CSI: source} }
}

// inlineName is what the driver has of a pod's inline volume in names and records, cut to what fits there. The
// kubelet chose it and wrote it down.
func (b *bed) inlineName(p *corev1.Pod) string {
	b.t.Helper()
	out, err := b.nodes.run(b.t.Context(), p.Spec.NodeName, "cat", "/host/var/lib/kubelet/pods/"+string(p.UID)+"/volumes/kubernetes.io~csi/data/vol_data.json")
	if err != nil {
		b.t.Fatal(err)
	}
	var data struct {
		VolumeHandle string `json:"volumeHandle"`
	}
	if err := json.Unmarshal([]byte(out), &data); err != nil || len(data.VolumeHandle) < 40 {
		b.t.Fatalf("the kubelet's record of the volume: %v: %s", err, out)
	}
	return data.VolumeHandle[:40]
}

// inlineVolume is made with its pod, on the pod's node, and leaves nothing.
func inlineVolume(b *bed) {
	b.createPod(b.pod("pod", "", b.inline(b.driver.Size)))
	p := b.awaitReady("pod")
	sum := b.write("pod", dataFile, dataMiB)
	b.verify("pod", dataFile, dataMiB, sum)
	if got := b.fileSystemSize("pod"); got < 256<<20 || got > 512<<20 {
		b.t.Errorf("the pod sees %d bytes of %s", got, b.driver.Size)
	}
	name := b.inlineName(p)
	found, err := b.nodes.traces(b.t.Context(), b.driver, name)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(found) < 2 {
		b.t.Errorf("of an inline volume in use only %v was found: the search for what is left finds nothing", found)
	}
	b.deletePod("pod")
	b.checkNoTraces(b.t.Context(), name)
}

// inlineTooLarge is refused by the pool's limit, in words that say so, and leaves nothing.
func inlineTooLarge(b *bed) {
	b.createPod(b.pod("pod", "", b.inline("1Ti")))
	if hasExtender(b.driver.Can) { // which knows that no node has so much, and the pod gets none
		b.awaitEventOn("Pod", "pod", "FailedScheduling", "has no room for 1Ti")
		return
	}
	type event struct {
		Message string `json:"message"`
	}
	await(b, selection{resource: events, namespace: b.ns, fields: "involvedObject.name=pod,reason=FailedMount"}, "the pod to be refused its volume", func(e *event) (bool, string) {
		if e == nil {
			return false, "no such event"
		}
		return strings.Contains(e.Message, "inlineLimit"), e.Message
	})
	p := await(b, one(pods, b.ns, "pod"), "the pod to have a node", func(p *corev1.Pod) (bool, string) {
		return p != nil && p.Spec.NodeName != "", describePod(p)
	})
	b.deletePod("pod")
	out, err := b.nodes.run(b.t.Context(), p.Spec.NodeName, "find", "/host/var/lib/kubelet/pods/"+string(p.UID), "-name", "mount")
	if err == nil && out != "" {
		b.t.Errorf("left of the pod: %s", out)
	}
}

// immediate binds a claim that no pod uses yet; the pod then goes where the volume is.
func immediate(b *bed) {
	class := b.class("immediate", atOnce)
	b.createClaim(b.claim("data", b.driver.Size, ofClass(class)))
	c := b.awaitBound("data")
	node := b.nodeOf(c.Spec.VolumeName)
	p := b.start(b.pod("pod", "data"))
	if p.Spec.NodeName != node {
		b.t.Errorf("the volume is on %s and the pod on %s", node, p.Spec.NodeName)
	}
	b.write("pod", dataFile, dataMiB)
}

// nodeOf is the node that a volume is on, by its affinity.
func (b *bed) nodeOf(volume string) string {
	b.t.Helper()
	v := b.volume(volume)
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil || len(v.Spec.NodeAffinity.Required.NodeSelectorTerms) != 1 {
		b.t.Fatalf("the volume is on no one node: %+v", v.Spec.NodeAffinity)
	}
	return v.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0]
}

// restrictedClass makes volumes on one node only, whichever way they are bound; a pod that has to be elsewhere
// waits and says why.
func restrictedClass(b *bed) {
	first := b.someNode()
	later := b.class("there", b.onlyOn(first))
	now := b.class("there-now", func(c *storagev1.StorageClass) {
		b.onlyOn(first)(c)
		atOnce(c)
	})

	_, p := b.launch(b.claim("later", b.driver.Size, ofClass(later)), b.pod("later", "later"), "", "")
	b.createClaim(b.claim("now", b.driver.Size, ofClass(now)))
	if got := b.nodeOf(b.awaitBound("now").Spec.VolumeName); got != first || p.Spec.NodeName != first {
		b.t.Errorf("volumes on %s (bound at once) and %s, and only %s is allowed", got, p.Spec.NodeName, first)
	}
	for node := range b.nodes.pods {
		if node == first {
			continue
		}
		b.createClaim(b.claim("elsewhere", b.driver.Size, ofClass(later)))
		b.createPod(b.pod("elsewhere", "elsewhere", onNode(node)))
		await(b, one(pods, b.ns, "elsewhere"), "the pod to say why it waits", func(p *corev1.Pod) (bool, string) {
			s := describePod(p)
			return strings.Contains(s, "Unschedulable"), s
		})
		return
	}
	b.t.Logf("one node only: there is no elsewhere")
}

func (b *bed) someNode() string {
	for node := range b.nodes.pods {
		return node
	}
	return ""
}

// snapshotContent is as much of a VolumeSnapshotContent as is needed to make it again.
type snapshotContent struct {
	Metadata struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		VolumeSnapshotRef struct {
			Namespace string `json:"namespace"`
		} `json:"volumeSnapshotRef"`
	} `json:"spec"`
	Status struct {
		SnapshotHandle string `json:"snapshotHandle"`
	} `json:"status"`
}

// importedSnapshot is one whose objects were lost and made again by hand, from the snapshot's handle. With a
// driver on each node, the content has to say which node has it.
func importedSnapshot(b *bed) {
	b.timed = false
	_, p := b.launch(b.claim("data", b.driver.Size), b.pod("source", "data"), "", "")
	sum := b.write("source", dataFile, dataMiB)
	b.createSnapshot("first", "data")
	made := b.contentOf("first")
	b.patch(selection{resource: snapshotContents}, made.Metadata.Name, `{"spec":{"deletionPolicy":"Retain"}}`)
	b.deleteAll(b.t.Context(), snapshots)
	api := selection{resource: snapshotContents}.in(b.cluster)
	if err := api.Delete(b.t.Context(), made.Metadata.Name, metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
	b.awaitNone(one(snapshotContents, "", made.Metadata.Name), "content "+made.Metadata.Name)

	labels := map[string]any{}
	for k, v := range made.Metadata.Labels {
		labels[k] = v
	}
	name := b.ns + "-imported"
	_, err := api.Create(b.t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
		"metadata": map[string]any{"name": name, "labels": labels},
		"spec": map[string]any{
			"deletionPolicy": "Delete", "driver": b.driver.Name, "volumeSnapshotClassName": b.driver.SnapshotClass,
			"source":            map[string]any{"snapshotHandle": made.Status.SnapshotHandle},
			"volumeSnapshotRef": map[string]any{"name": "imported", "namespace": b.ns},
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.snapshotFrom("imported", map[string]any{"volumeSnapshotContentName": name})
	b.launch(b.claim("restored", b.driver.Size, from("snapshot.storage.k8s.io", "VolumeSnapshot", "imported")), b.pod("restored", "restored", b.near(p)), "", "")
	b.verify("restored", dataFile, dataMiB, sum)
}

// contentOf finds the content of a snapshot of the scenario.
func (b *bed) contentOf(snapshot string) *snapshotContent {
	b.t.Helper()
	type bound struct {
		Status struct {
			Content string `json:"boundVolumeSnapshotContentName"`
		} `json:"status"`
	}
	s := await(b, one(snapshots, b.ns, snapshot), "snapshot "+snapshot, func(s *bound) (bool, string) {
		return s != nil && s.Status.Content != "", "not bound"
	})
	return await(b, one(snapshotContents, "", s.Status.Content), "its content", func(c *snapshotContent) (bool, string) {
		return c != nil && c.Status.SnapshotHandle != "", "without a handle"
	})
}

// attributes makes a VolumeAttributesClass.
func (b *bed) attributes(suffix string, parameters map[string]string) string {
	b.t.Helper()
	api := b.cluster.typed.StorageV1().VolumeAttributesClasses()
	c := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: b.ns + "-" + suffix}, DriverName: b.driver.Name, Parameters: parameters}
	if _, err := api.Create(b.t.Context(), c, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { // it goes when no volume has it any more
		if err := api.Delete(context.Background(), c.Name, metav1.DeleteOptions{}); err != nil {
			b.t.Error(err)
		}
	})
	return c.Name
}

// ioMax is what the pod's cgroup says of its limits, without the device's number; enforced is false on a node
// that has cgroup version 1.
func (b *bed) ioMax(p *corev1.Pod) (limits string, enforced bool) {
	b.t.Helper()
	ctx := b.t.Context()
	const root = "/host/sys/fs/cgroup"
	files, err := b.nodes.run(ctx, p.Spec.NodeName, "ls", root)
	if err != nil {
		b.t.Fatal(err)
	}
	if !strings.Contains(files, "cgroup.controllers") {
		return "", false
	}
	uid := string(p.UID)
	out, err := b.nodes.run(ctx, p.Spec.NodeName, "find", root, "-type", "d", "(", "-name", "pod"+uid, "-o", "-name", "*pod"+strings.ReplaceAll(uid, "-", "_")+".slice", ")", "-exec", "cat", "{}/io.max", ";")
	if err != nil {
		b.t.Fatal(err)
	}
	_, limits, _ = strings.Cut(strings.TrimSpace(out), " ")
	return limits, true
}

func (b *bed) awaitAttributes(claim, class string) {
	b.t.Helper()
	await(b, one(claims, b.ns, claim), "PVC "+claim+" to have the attributes of "+class, func(c *corev1.PersistentVolumeClaim) (bool, string) {
		if c == nil {
			return false, "absent"
		}
		current := ""
		if c.Status.CurrentVolumeAttributesClassName != nil {
			current = *c.Status.CurrentVolumeAttributesClassName
		}
		return current == class && c.Status.ModifyVolumeStatus == nil, fmt.Sprintf("those of %q; %+v; %s", current, c.Status.ModifyVolumeStatus, describeClaim(c))
	})
}

// limitsChange gives a claim one class of limits, then another, while a pod uses it.
func limitsChange(b *bed) {
	slow := b.attributes("slow", map[string]string{"read-bps": "10Mi", "write-bps": "5Mi"})
	fast := b.attributes("fast", map[string]string{"write-bps": "50Mi", "write-iops": "1k"})
	_, p := b.launch(b.claim("data", b.driver.Size, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeAttributesClassName = &slow }), b.pod("pod", "data"), "", "")
	b.awaitAttributes("data", slow)
	b.wantLimits(p, "rbps=10485760 wbps=5242880 riops=max wiops=max")
	b.patch(selection{resource: claims, namespace: b.ns}, "data", fmt.Sprintf(`{"spec":{"volumeAttributesClassName":%q}}`, fast))
	b.awaitAttributes("data", fast)
	b.wantLimits(p, "rbps=max wbps=52428800 riops=max wiops=1000")
	b.write("pod", dataFile, dataMiB)
}

// wantLimits checks what is enforced. Where nothing can be, the pod runs all the same and the driver says why.
func (b *bed) wantLimits(p *corev1.Pod, want string) {
	b.t.Helper()
	got, enforced := b.ioMax(p)
	switch {
	case enforced && got != want:
		b.t.Errorf("io.max of the pod: %q, want %q", got, want)
	case !enforced:
		b.t.Logf("NOT ENFORCED: node %s has cgroup version 1; with version 2, io.max of the pod were %s", p.Spec.NodeName, want)
		b.awaitLog(p.Spec.NodeName, "I/O limits need cgroup version 2")
	}
}

// awaitLog waits for a line of the driver on a node.
func (b *bed) awaitLog(node, says string) {
	b.t.Helper()
	since := metav1.NewTime(b.started)
	core := b.cluster.typed.CoreV1().Pods(b.driver.Namespace)
	for _, p := range b.driverPodsOn(b.driver.NodePods, node) {
		data, err := core.GetLogs(p.Name, &corev1.PodLogOptions{Container: b.driver.Program, SinceTime: &since}).DoRaw(b.t.Context())
		if err == nil && strings.Contains(string(data), says) {
			return
		}
	}
	b.t.Errorf("no driver on node %s says %q", node, says)
}
