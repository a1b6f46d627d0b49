package e2e

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// driverPods selects pods of the driver, on one node if that is set.
func (b *bed) driverPods(labels, node string) selection {
	s := selection{resource: pods, namespace: b.driver.Namespace, labels: labels}
	if node != "" {
		s.fields = "spec.nodeName=" + node
	}
	return s
}

// driverPodsOn lists pods of the driver as they are now, on one node or on all.
func (b *bed) driverPodsOn(labels, node string) []corev1.Pod {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	s := b.driverPods(labels, node)
	list, err := b.cluster.typed.CoreV1().Pods(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: s.labels, FieldSelector: s.fields})
	if err != nil {
		b.t.Fatal(err)
	}
	return list.Items
}

// kill ends the driver on a node with SIGKILL, then deletes its pod: a container that the kubelet restarts in
// place waits longer each time, and one test must not slow the next.
func (b *bed) kill(node string) {
	b.t.Helper()
	out, err := b.nodes.run(b.t.Context(), node, "pidof", b.driver.Program)
	if err != nil {
		b.t.Fatalf("no driver to kill on node %s: %v", node, err)
	}
	program := append([]string{"kill", "-KILL"}, strings.Fields(out)...)
	if _, err := b.nodes.run(b.t.Context(), node, program...); err != nil {
		b.t.Fatal(err)
	}
	b.deleteDriverPods(node)
}

// killAtWork kills the driver on a node, and where it is a controller that makes volumes, that too.
func (b *bed) killAtWork(node string) {
	b.t.Helper()
	var controllers []corev1.Pod
	if b.driver.Controllers != "" {
		controllers = b.driverPodsOn(b.driver.Controllers, "")
	}
	b.kill(node)
	for _, p := range controllers {
		if p.Spec.NodeName != node {
			b.kill(p.Spec.NodeName)
		}
	}
}

// deleteDriverPods deletes the driver's pods of a node, or all, and returns which they were.
func (b *bed) deleteDriverPods(node string) map[types.UID]bool {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	old, none := map[types.UID]bool{}, int64(0)
	for _, p := range b.driverPodsOn(b.driver.Pods, node) {
		old[p.UID] = true
		if err := b.cluster.typed.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &none}); err != nil {
			b.t.Fatal(err)
		}
	}
	return old
}

// driverBack waits until as many of the driver's pods as wanted are ready on a node, or on all.
func (b *bed) driverBack(node string, wanted int) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), usualLimit)
	defer cancel()
	saw := ""
	err := b.cluster.follow(ctx, b.driverPods(b.driver.NodePods, node), func(now current) bool {
		ready := 0
		saw = ""
		for name, u := range now {
			p, err := typed[corev1.Pod](u)
			if err == nil && podReady(p) {
				ready++
			} else if err == nil {
				saw += name + ": " + describePod(p) + "; "
			}
		}
		return ready >= wanted
	})
	if err != nil {
		return fmt.Errorf("waited %v for the driver on node %q to be back; last seen: %s", usualLimit, node, saw)
	}
	return nil
}
