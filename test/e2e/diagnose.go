package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const logTail = 25 // lines of each of the driver's containers

// diagnose writes what a person would look at first: the state of objects, their events, and what the driver
// says.
func (b *bed) diagnose() {
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	var text strings.Builder
	b.describeObjects(ctx, &text)
	b.describeEvents(ctx, &text)
	b.describeDriver(ctx, &text)
	b.t.Logf("namespace %s:\n%s", b.ns, text.String())
}

func (b *bed) describeObjects(ctx context.Context, text *strings.Builder) {
	core := b.cluster.typed.CoreV1()
	if list, err := core.PersistentVolumeClaims(b.ns).List(ctx, metav1.ListOptions{}); err == nil {
		for _, c := range list.Items {
			fmt.Fprintf(text, "  pvc %s: %s\n", c.Name, describeClaim(&c))
		}
	}
	if list, err := core.Pods(b.ns).List(ctx, metav1.ListOptions{}); err == nil {
		for _, p := range list.Items {
			fmt.Fprintf(text, "  pod %s: %s\n", p.Name, describePod(&p))
		}
	}
}

func (b *bed) describeEvents(ctx context.Context, text *strings.Builder) {
	list, err := b.cluster.typed.CoreV1().Events(b.ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		fmt.Fprintln(text, "  events:", err)
		return
	}
	slices.SortFunc(list.Items, func(a, b corev1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for _, e := range list.Items {
		if e.Type == corev1.EventTypeWarning || e.InvolvedObject.Kind != "Pod" {
			fmt.Fprintf(text, "  event %s %s/%s: %s: %s (×%d)\n", e.CreationTimestamp.Format(time.TimeOnly),
				strings.ToLower(e.InvolvedObject.Kind), e.InvolvedObject.Name, e.Reason, e.Message, max(1, e.Count))
		}
	}
}

// describeDriver adds the ends of the logs of the driver's pods. A pool error or a slow call is in there.
func (b *bed) describeDriver(ctx context.Context, text *strings.Builder) {
	core := b.cluster.typed.CoreV1().Pods(b.driver.Namespace)
	list, err := core.List(ctx, metav1.ListOptions{LabelSelector: b.driver.Pods})
	if err != nil {
		fmt.Fprintln(text, "  driver:", err)
		return
	}
	tail, since := int64(logTail), metav1.NewTime(b.started)
	for _, p := range list.Items {
		fmt.Fprintf(text, "  driver pod %s: %s\n", p.Name, describePod(&p))
		for _, c := range p.Spec.Containers {
			data, err := core.GetLogs(p.Name, &corev1.PodLogOptions{Container: c.Name, TailLines: &tail, SinceTime: &since}).DoRaw(ctx)
			if err != nil {
				data = []byte(err.Error())
			}
			for line := range strings.Lines(string(data)) {
				fmt.Fprintf(text, "    %s: %s\n", c.Name, strings.TrimSpace(line))
			}
		}
	}
}

// describeClaim is a claim's state in a line.
func describeClaim(c *corev1.PersistentVolumeClaim) string {
	if c == nil {
		return "absent"
	}
	s := fmt.Sprintf("%s, %s of %s", c.Status.Phase, c.Status.Capacity.Storage(), c.Spec.Resources.Requests.Storage())
	for _, condition := range c.Status.Conditions {
		s += fmt.Sprintf("; %s=%s %s", condition.Type, condition.Status, condition.Message)
	}
	return s
}

// describePod is a pod's state in a line: what is not true of it yet, and why.
func describePod(p *corev1.Pod) string {
	if p == nil {
		return "absent"
	}
	s := fmt.Sprintf("%s on %q", p.Status.Phase, p.Spec.NodeName)
	for _, condition := range p.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			s += fmt.Sprintf("; not %s: %s %s", condition.Type, condition.Reason, condition.Message)
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Waiting != nil {
			s += fmt.Sprintf("; %s waits: %s %s", c.Name, c.State.Waiting.Reason, c.State.Waiting.Message)
		}
	}
	return s
}

// podReady reports whether a pod runs and is ready.
func podReady(p *corev1.Pod) bool {
	if p == nil || p.DeletionTimestamp != nil {
		return false
	}
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
