package e2e

import (
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// hasExtender reports whether Dozo was installed with its scheduler extender and webhook.
func hasExtender(Can) bool { return os.Getenv("DOZO_E2E_EXTENDER") != "" }

// mark is the resource that the webhook has pods ask for, so that kube-scheduler asks the extender about them.
const mark = "dozo.dev/storage"

// sumOfClaims makes a pod with two claims of which each fits a node, and both together fit none: it is not placed
// and its claims are given no node, which is what happens without the extender. One that asks for less goes
// where both fit.
func sumOfClaims(b *bed) {
	b.timed = false
	_, free := b.freest()
	share := func(percent int64) string { return fmt.Sprintf("%dMi", free/100*percent>>20) }
	both := func(name, size string) {
		for _, claim := range []string{name + "-1", name + "-2"} {
			b.createClaim(b.claim(claim, size, asBlock))
		}
		b.createPod(b.pod(name, name+"-1", withDevice, withSecondDevice(name+"-2")))
	}
	both("much", share(60))
	b.awaitEventOn("Pod", "much", "FailedScheduling", "has no room for")
	for _, claim := range []string{"much-1", "much-2"} {
		c := await(b, one(claims, b.ns, claim), "PVC "+claim, func(c *corev1.PersistentVolumeClaim) (bool, string) { return c != nil, "" })
		if node := c.Annotations["volume.kubernetes.io/selected-node"]; node != "" {
			b.t.Errorf("claim %s was given node %s", claim, node)
		}
	}
	both("less", share(20))
	b.awaitReady("less")
	for pod, want := range map[string]int64{"much": 1, "less": 1} {
		if got := b.marked(pod); got != want {
			b.t.Errorf("pod %s asks for %d of %s, want %d", pod, got, mark, want)
		}
	}
	b.createPod(b.pod("again", "less-1", withDevice)) // its volume is there already
	if got := b.marked("again"); got != 0 {
		b.t.Errorf("a pod that needs no new volume asks for %d of %s", got, mark)
	}
}

// withSecondDevice adds another claim's volume.
func withSecondDevice(claim string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "more", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
		c := &p.Spec.Containers[0]
		c.VolumeDevices = append(c.VolumeDevices, corev1.VolumeDevice{Name: "more", DevicePath: blockDevice + "-more"})
	}
}

// marked is how many marks a pod has.
func (b *bed) marked(pod string) int64 {
	b.t.Helper()
	p := await(b, one(pods, b.ns, pod), "pod "+pod, func(p *corev1.Pod) (bool, string) { return p != nil, "" })
	q := p.Spec.Containers[0].Resources.Requests[mark]
	return q.Value()
}
