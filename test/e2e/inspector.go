package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/exec"
)

// inspector looks at nodes from a privileged pod on each, since what a driver leaves there no API tells.
type inspector struct {
	cluster   *Cluster
	namespace string
	pods      map[string]string // by node
}

// newInspector starts the pods; they end with the test.
func newInspector(t *testing.T, c *Cluster, nodes []string) *inspector {
	t.Helper()
	ns, err := c.typed.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "dozo-e2e-nodes-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "privileged"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := c.typed.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{})
		if err != nil {
			t.Errorf("namespace %s of the inspector: %v", ns.Name, err)
		}
	})
	in := &inspector{cluster: c, namespace: ns.Name, pods: map[string]string{}}
	if _, err := c.typed.AppsV1().DaemonSets(ns.Name).Create(t.Context(), inspectorSet(c.Image), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), usualLimit)
	defer cancel()
	err = c.follow(ctx, selection{resource: pods, namespace: ns.Name}, func(now current) bool {
		for _, u := range now {
			if pod, err := typed[corev1.Pod](u); err == nil {
				in.note(pod)
			}
		}
		for _, node := range nodes {
			if in.pods[node] == "" {
				return false
			}
		}
		return true
	})
	if err != nil {
		t.Fatalf("the pods that look at nodes are not ready: %v of %v: %v", in.pods, nodes, err)
	}
	return in
}

// inspectorSet has the node's root directory at /host and sees the node's processes.
func inspectorSet(image string) *appsv1.DaemonSet {
	labels := map[string]string{"app": "dozo-e2e-inspector"}
	yes, none := true, int64(0)
	propagation := corev1.MountPropagationHostToContainer
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "inspector"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					HostPID: true, TerminationGracePeriodSeconds: &none,
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers: []corev1.Container{{
						Name: "inspector", Image: image, Command: []string{"sleep", "infinity"},
						SecurityContext: &corev1.SecurityContext{Privileged: &yes},
						VolumeMounts:    []corev1.VolumeMount{{Name: "host", MountPath: "/host", ReadOnly: true, MountPropagation: &propagation}},
					}},
					Volumes: []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}},
				},
			},
		},
	}
}

// find notes which pods there are now: a node that was away may have another one.
func (in *inspector) find(ctx context.Context) error {
	list, err := in.cluster.typed.CoreV1().Pods(in.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, p := range list.Items {
		in.note(&p)
	}
	return nil
}

func (in *inspector) note(p *corev1.Pod) {
	if podReady(p) {
		in.pods[p.Spec.NodeName] = p.Name
	}
}

// run runs a program on a node, in the inspector's pod.
func (in *inspector) run(ctx context.Context, node string, program ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	return in.cluster.Exec(ctx, in.namespace, in.pods[node], nil, program...)
}

// traces are what is on nodes of a volume, by what they are.
func (in *inspector) traces(ctx context.Context, d Driver, volume string) (map[string][]string, error) {
	found := map[string][]string{}
	for node := range in.pods {
		some, err := in.tracesOn(ctx, node, d, volume)
		if err != nil {
			return nil, err
		}
		for what, lines := range some {
			found[what] = append(found[what], lines...)
		}
	}
	return found, nil
}

// tracesOn are those on one node.
func (in *inspector) tracesOn(ctx context.Context, node string, d Driver, volume string) (map[string][]string, error) {
	found := map[string][]string{}
	names := strings.NewReplacer("VOLUME", volume, "MAPPED", strings.ReplaceAll(volume, "-", "--"))
	for _, trace := range d.Traces {
		program := make([]string, len(trace.Program))
		for i, word := range trace.Program {
			program[i] = names.Replace(word)
		}
		out, err := in.run(ctx, node, program...)
		// grep and find exit with 1 if there is nothing, or nothing to search.
		if exit := (exec.CodeExitError{}); err != nil && !(errors.As(err, &exit) && exit.Code == 1) {
			return nil, fmt.Errorf("node %s: look for %s: %w", node, trace.What, err)
		}
		for line := range strings.Lines(out) {
			found[trace.What] = append(found[trace.What], "node "+node+": "+trace.What+": "+strings.TrimSpace(line))
		}
	}
	return found, nil
}
