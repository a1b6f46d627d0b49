package scheduler

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/claims"
)

// exampleConfig is the configuration in docs/scheduling.md, for this API server and this extender.
func exampleConfig(t *testing.T, kubeconfig, url string) []byte {
	t.Helper()
	doc, err := os.ReadFile("../../docs/scheduling.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(doc, []byte("## kube-scheduler's configuration"))
	_, rest, _ = bytes.Cut(rest, []byte("```yaml\n"))
	config, _, found := bytes.Cut(rest, []byte("```"))
	if !found {
		t.Fatal("docs/scheduling.md has no example")
	}
	text := string(config)
	for old, new := range map[string]string{
		"/etc/kubernetes/scheduler.conf": kubeconfig, "http://10.96.0.251:9251": url, "leaderElect: true": "leaderElect: false",
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the example has no %q", old)
		}
		text = strings.Replace(text, old, new, 1)
	}
	return []byte(text)
}

// TestKubeScheduler has the real kube-scheduler place a burst of 50 pods on five nodes that hold ten each, with
// the configuration of the documentation. It takes a provisioner's and the nodes' part: a volume is made half a
// second after its node was chosen, and the node publishes what is left. No node is asked for more than it has.
func TestKubeScheduler(t *testing.T) {
	const nodes, perNode, size = 5, 10, 3 * gib
	b := newBed(t)
	server := httptest.NewServer((&Server{
		Scheduler: b.scheduler, Volumes: b.reader.Of, Ready: func() error { return nil },
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Observe: func(string, time.Duration, int) {},
	}).Handler())
	t.Cleanup(server.Close)
	b.server.StartScheduler(t, exampleConfig(t, b.server.Kubeconfig(), server.URL))
	left := map[string]int64{}
	for i := range nodes {
		name := fmt.Sprint("n", i)
		left[name] = perNode*size + size/2
		b.kubernetesNode(t, name)
		b.node(t, name, fmt.Sprint(left[name]), metav1.ConditionTrue)
	}
	tooMuch := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go b.provision(ctx, left, tooMuch)

	start := time.Now()
	for i := range nodes * perNode {
		name := fmt.Sprint("pod-", i)
		b.claim(t, name, fmt.Sprint(size), nil)
		pod := podWith(name, name)
		off, one := false, corev1.ResourceList{"dozo.dev/storage": resource.MustParse("1")}
		pod.Spec.AutomountServiceAccountToken = &off
		pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: one, Requests: one} // as the webhook does
		b.create(t, pod)
	}
	placed := map[string]int{}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		clear(placed)
		var pods corev1.PodList
		if err := b.client.List(t.Context(), &pods); err != nil {
			t.Fatal(err)
		}
		for _, p := range pods.Items {
			placed[p.Spec.NodeName]++
		}
		if placed[""] == 0 {
			break
		}
		select {
		case err := <-tooMuch:
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d pods have no node; placed: %v", placed[""], placed)
		}
	}
	for i := range nodes {
		if n := placed[fmt.Sprint("n", i)]; n != perNode {
			t.Errorf("node n%d has %d pods, want %d: %v", i, n, perNode, placed)
		}
	}
	t.Logf("%d pods placed in %s: %v", nodes*perNode, time.Since(start).Round(100*time.Millisecond), placed)
}

// kubernetesNode makes a node that kube-scheduler likes.
func (b *bed) kubernetesNode(t *testing.T, name string) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"topology.dozo.dev/node": name}}}
	b.create(t, n)
	n.Spec.Taints = nil // no controller runs that would take "not ready" away
	if err := b.client.Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	n.Status.Capacity = corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("64Gi"), "pods": resource.MustParse("110")}
	n.Status.Allocatable = n.Status.Capacity
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := b.client.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// provision makes volumes for claims whose node is chosen, one after the other, half a second late.
func (b *bed) provision(ctx context.Context, left map[string]int64, tooMuch chan<- error) {
	type due struct {
		claim corev1.PersistentVolumeClaim
		at    time.Time
	}
	work := make(chan due, 100)
	go func() {
		for d := range work {
			time.Sleep(time.Until(d.at))
			if err := b.makeVolume(ctx, &d.claim, left); err != nil && ctx.Err() == nil {
				tooMuch <- err
				return
			}
		}
	}()
	defer close(work)
	w, err := b.watcher.Watch(ctx, &corev1.PersistentVolumeClaimList{})
	if err != nil {
		tooMuch <- err
		return
	}
	defer w.Stop()
	seen := map[string]bool{}
	for e := range w.ResultChan() {
		c, ok := e.Object.(*corev1.PersistentVolumeClaim)
		if !ok || e.Type == watch.Deleted || claims.SelectedNode(c) == "" || c.Spec.VolumeName != "" || seen[c.Name] {
			continue
		}
		seen[c.Name] = true
		work <- due{*c, time.Now().Add(500 * time.Millisecond)}
	}
}

func (b *bed) makeVolume(ctx context.Context, c *corev1.PersistentVolumeClaim, left map[string]int64) error {
	node := claims.SelectedNode(c)
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if left[node] -= size.Value(); left[node] < 0 {
		return fmt.Errorf("node %s is asked for %d bytes more than it has", node, -left[node])
	}
	var storage v1alpha1.NodeStorage
	if err := b.client.Get(ctx, client.ObjectKey{Name: node}, &storage); err != nil {
		return err
	}
	rest := *resource.NewQuantity(left[node], resource.BinarySI)
	storage.Status.Pools[0].Available, storage.Status.Pools[0].MaximumVolumeSize = rest, rest
	if err := b.client.Status().Update(ctx, &storage); err != nil {
		return err
	}
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + c.Name}}
	pv.Spec = corev1.PersistentVolumeSpec{
		Capacity: c.Spec.Resources.Requests, AccessModes: c.Spec.AccessModes, StorageClassName: *c.Spec.StorageClassName,
		ClaimRef:               &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "lvm.dozo.dev", VolumeHandle: "ssd:" + c.Name}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "topology.dozo.dev/node", Operator: "In", Values: []string{node}}},
		}}}},
	}
	if err := b.client.Create(ctx, pv); err != nil {
		return err
	}
	patch := client.MergeFrom(c.DeepCopy())
	c.Spec.VolumeName = pv.Name
	c.Annotations["pv.kubernetes.io/bind-completed"] = "yes"
	return b.client.Patch(ctx, c, patch)
}
