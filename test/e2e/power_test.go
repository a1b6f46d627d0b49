package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// away is for how long the API server does not answer.
const away = 2 * time.Minute

// lab does something to the cluster that no API does; see [labProgram].
func (b *bed) lab(args ...string) {
	b.t.Helper()
	if _, err := labProgram(context.Background(), args...); err != nil {
		b.t.Fatal(err)
	}
}

// The scenarios below need a lab, most one whose nodes can lose their power, or one with a machine that volumes are on.
func hasPower(c Can) bool   { return hasLab(c) && os.Getenv("DOZO_LAB_KERNEL") == "guest" }
func hasStorage(c Can) bool { return hasPower(c) && c.Outside }

// bystander is a node that the driver's controller is not on, so that only the node is missing.
func (b *bed) bystander() string {
	b.t.Helper()
	busy := map[string]int{}
	for _, p := range b.driverPodsOn(b.driver.Pods, "") {
		busy[p.Spec.NodeName]++
	}
	for node := range b.nodes.pods {
		if busy[node] == 1 {
			return node
		}
	}
	return b.someNode()
}

// reachable waits until programs run on a node again: its pods are started anew.
func (b *bed) reachable(node string) {
	b.t.Helper()
	for deadline := time.Now().Add(usualLimit); ; time.Sleep(time.Second) {
		err := b.nodes.find(b.t.Context())
		if err == nil {
			_, err = b.nodes.run(b.t.Context(), node, "true")
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("node %s is not back: %v", node, err)
		}
	}
}

// powerCut crashes the node of a pod that has just synced its data, and boots it: the same pod has its data.
func powerCut(b *bed) {
	b.timed = false
	node := b.bystander()
	b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data", onNode(node)), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	b.lab("crash", node)
	cut := time.Now()
	b.lab("boot", node)
	b.t.Logf("node %s is back %v after its power was cut", node, time.Since(cut).Round(time.Second))
	await(b, one(pods, b.ns, "pod"), "the pod to run again", func(p *corev1.Pod) (bool, string) {
		return podReady(p) && p.Status.ContainerStatuses[0].RestartCount > 0, describePod(p)
	})
	b.t.Logf("its pod runs again %v after", time.Since(cut).Round(time.Second))
	b.reachable(node)
	if err := b.driverBack(node, 1); err != nil {
		b.t.Fatal(err)
	}
	b.verify("pod", dataFile, dataMiB, sum)
}

// nodeLost takes a node's power and its object: the volume is said to be lost, and its claim is kept. When the
// node comes back, so does the data.
func nodeLost(b *bed) {
	b.timed = false
	node := b.bystander()
	c, _ := b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data", onNode(node)), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	b.lab("crash", node)
	back := false
	defer func() {
		if !back {
			b.lab("boot", node)
		}
	}()
	nodes := b.cluster.typed.CoreV1().Nodes()
	if err := nodes.Delete(b.t.Context(), node, metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
	begun := time.Now()
	object := b.objectOf(c.Spec.VolumeName)
	b.awaitLost(object, true)
	b.t.Logf("the volume is said to be lost %v after its node was deleted", time.Since(begun).Round(time.Millisecond))
	b.awaitNone(one(pods, b.ns, "pod"), "the pod of the node that is gone")
	if c := b.awaitBound("data"); c.DeletionTimestamp != nil {
		b.t.Error("the claim is being deleted, and nobody asked for that")
	}
	b.lab("boot", node)
	back = true
	b.awaitLost(object, false)
	b.start(b.pod("again", "data"))
	b.verify("again", dataFile, dataMiB, sum)
	b.reachable(node)
}

// objectOf is the NodeVolume of a volume.
func (b *bed) objectOf(volume string) string {
	b.t.Helper()
	return strings.Replace(b.volume(volume).Spec.CSI.VolumeHandle, ":", ".", 1)
}

// awaitLost waits for a NodeVolume to be said to be lost, or to be there again.
func (b *bed) awaitLost(object string, lost bool) {
	b.t.Helper()
	type nodeVolume struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	await(b, one(nodeVolumes, "", object), fmt.Sprintf("NodeVolume %s to be lost: %v", object, lost), func(v *nodeVolume) (bool, string) {
		if v == nil {
			return false, "absent"
		}
		said := meta.IsStatusConditionTrue(v.Status.Conditions, "Lost")
		return said == lost, fmt.Sprintf("%+v", v.Status.Conditions)
	})
}

// apiServerAway stops the API server for two minutes in the middle of a pod's work. The pod goes on, the driver
// on its node is not restarted, and work resumes by itself.
func apiServerAway(b *bed) {
	b.timed = false
	_, p := b.launch(b.claim("data", b.driver.Size), b.pod("pod", "data", ticking), "", "")
	sum := b.write("pod", dataFile, dataMiB)
	before := b.restarts(b.driver.NodePods)
	const server = "kube-apiserver"
	b.lab("exec", "--", "pkill", "-STOP", "-x", server)
	time.Sleep(away)
	b.lab("exec", "--", "pkill", "-CONT", "-x", server)
	again := time.Now()
	b.launch(b.claim("after", b.driver.Size), b.pod("after", "after"), "", "")
	b.t.Logf("a new claim is bound and its pod runs %v after the API server is back", time.Since(again).Round(time.Millisecond))
	b.verify("pod", dataFile, dataMiB, sum)
	_, ticks, longest := b.ticks("pod")
	b.t.Logf("%d writes on node %s, the longest pause between two %v", ticks, p.Spec.NodeName, longest)
	if longest > away/4 {
		b.t.Errorf("the pod could not write for %v", longest)
	}
	b.wantRestarts(b.driver.NodePods, before)
}

// ticking makes a pod write down the time twice a second, each on the storage before the next.
func ticking(p *corev1.Pod) {
	p.Spec.Containers[0].Command = []string{"sh", "-c", "while :; do date +%s >>" + dataDir + "/ticks; sync " + dataDir + "/ticks; sleep 0.5; done"}
}

// ticks are what a pod sees of a pod that was ticking: the last one in seconds of Unix time, how many, and the longest pause
// between two.
func (b *bed) ticks(pod string) (last int64, many int, longest time.Duration) {
	b.t.Helper()
	for line := range strings.Lines(b.exec(pod, "cat", dataDir+"/ticks")) {
		at := b.number(strings.TrimSpace(line))
		if many > 0 {
			longest = max(longest, time.Duration(at-last)*time.Second)
		}
		last = at
		many++
	}
	return last, many, longest
}

// restarts are pods of the driver, with how often their containers were restarted.
func (b *bed) restarts(labels string) map[types.UID]int32 {
	b.t.Helper()
	restarts := map[types.UID]int32{}
	for _, p := range b.driverPodsOn(labels, "") {
		for _, c := range p.Status.ContainerStatuses {
			restarts[p.UID] += c.RestartCount
		}
	}
	return restarts
}

// wantRestarts checks that pods of the driver are the same ones, none of whose containers was restarted.
func (b *bed) wantRestarts(labels string, want map[types.UID]int32) {
	b.t.Helper()
	if got := b.restarts(labels); !maps.Equal(got, want) {
		b.t.Errorf("the driver's containers were restarted: pods %v, before %v", got, want)
	}
}
