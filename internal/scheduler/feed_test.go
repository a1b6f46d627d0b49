package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/lab/api"
)

// bed is a scheduler that is fed from a real API server, with the rights that the chart gives it and no others.
type bed struct {
	scheduler *Scheduler
	reader    claims.Reader
	client    client.Client
	watcher   client.WithWatch
	server    *api.Server
}

func newBed(t *testing.T) *bed {
	t.Helper()
	server := api.Start(t)
	ctrllog.SetLogger(logr.Discard())
	ours := rest.CopyConfig(server.Config)
	ours.Impersonate.UserName = "system:serviceaccount:dozo:dozo-scheduler"
	reader, cache, err := claims.NewReader(ours, []backend.Kind{{Name: "lvm", NodeBound: true, Granularity: 4 << 20, MinSize: 16 << 20}}, Objects())
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := client.NewWithWatch(server.Config, client.Options{Scheme: reader.Live.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{newScheduler(t), reader, watcher, watcher, server}
	b.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dozo"}})
	b.create(t, api.Rendered(t, watcher.Scheme(), "scheduler")...)
	feed := &Feed{Scheduler: b.scheduler, Reader: reader, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- cache.Start(ctx) }()
	go func() { ended <- feed.Run(ctx, cache) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	eventually(t, feed.Ready)
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	b.create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}},
		&storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: "ssd"}, Provisioner: "lvm.dozo.dev", VolumeBindingMode: &wait, Parameters: map[string]string{"pool": "ssd"},
		})
	return b
}

func (b *bed) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := b.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

func eventually(t *testing.T, what func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := what()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// node publishes what a node has of the pool ssd.
func (b *bed) node(t *testing.T, name string, free string, ready metav1.ConditionStatus) {
	t.Helper()
	n := &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.create(t, n)
	q := resource.MustParse(free)
	n.Status.Pools = []v1alpha1.NodePool{{
		Name: "ssd", Kind: "lvm", Capacity: q, Available: q, MaximumVolumeSize: q,
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: ready, Reason: "Test", LastTransitionTime: metav1.Now()}},
	}}
	if err := b.client.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) claim(t *testing.T, name, size string, change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	t.Helper()
	class := "ssd"
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	c.Spec = corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
	}
	if change != nil {
		change(c)
	}
	b.create(t, c)
	return c
}

func podWith(name string, claimNames ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "main", Image: "i"}}
	for _, c := range claimNames {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "v-" + c, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c},
		}})
	}
	return p
}

// passes filters for a pod as the server does.
func (b *bed) passes(t *testing.T, pod *corev1.Pod, nodes ...string) ([]string, error) {
	t.Helper()
	volumes, err := b.reader.Of(t.Context(), pod)
	if err != nil {
		return nil, err
	}
	v, err := b.scheduler.Filter(t.Context(), volumes, nodes)
	for _, x := range volumes { // each question is for itself
		if !x.Settled {
			b.scheduler.Drop(x.Key)
		}
	}
	if errs.Is(err, errs.Busy) {
		err = nil
	}
	return v.names(nodes), err
}

func (b *bed) wantPasses(t *testing.T, pod *corev1.Pod, want ...string) {
	t.Helper()
	nodes := []string{"n1", "n2", "n3"}
	eventually(t, func() error {
		got, err := b.passes(t, pod, nodes...)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("pod %s passes %v, want %v", pod.Name, got, want)
		}
		return err
	})
}

// TestFeed goes with a real API server through what kube-scheduler, provisioner and nodes write.
func TestFeed(t *testing.T) {
	b := newBed(t)
	b.node(t, "n1", "10Gi", metav1.ConditionTrue)
	b.node(t, "n2", "100Gi", metav1.ConditionTrue)
	b.node(t, "n3", "100Gi", metav1.ConditionFalse) // not open: what it last had does not count

	b.claim(t, "small", "5Gi", nil)
	b.claim(t, "large", "50Gi", nil)
	b.wantPasses(t, podWith("a", "small"), "n1", "n2")
	b.wantPasses(t, podWith("b", "large"), "n2")
	b.wantPasses(t, podWith("c", "small", "large", "small"), "n2")
	if _, err := b.passes(t, podWith("d", "missing"), "n1"); err == nil {
		t.Error("a claim that does not exist is no reason")
	}

	const selected = "volume.kubernetes.io/selected-node"
	taken := b.claim(t, "taken", "60Gi", func(c *corev1.PersistentVolumeClaim) { c.Annotations = map[string]string{selected: "n2"} })
	b.wantPasses(t, podWith("b", "large"))
	b.wantPasses(t, podWith("e", "taken"), "n2") // its own room is not in its way

	delete(taken.Annotations, selected) // the provisioner gives up
	if err := b.client.Update(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	b.wantPasses(t, podWith("b", "large"), "n2")

	source := b.claim(t, "source", "1Gi", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pv-source" })
	b.create(t, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-source"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: source.Spec.AccessModes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "lvm.dozo.dev", VolumeHandle: "ssd:a"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "topology.dozo.dev/node", Operator: "In", Values: []string{"n1"}}},
			}}}},
		},
	})
	b.claim(t, "copy", "1Gi", func(c *corev1.PersistentVolumeClaim) {
		c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "source"}
	})
	b.wantPasses(t, podWith("f", "copy"), "n1")
	b.wantPasses(t, podWith("g", "source"), "n1", "n2", "n3") // bound: others see to it

	if err := b.client.Delete(t.Context(), &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}); err != nil {
		t.Fatal(err)
	}
	b.wantPasses(t, podWith("b", "large"))
}

// TestInlineVolumesAreSettledByTheirPod: no claim says where such a volume is, so the pod does.
func TestInlineVolumesAreSettledByTheirPod(t *testing.T) {
	b := newBed(t)
	b.node(t, "n1", "10Gi", metav1.ConditionTrue)
	b.node(t, "n2", "10Gi", metav1.ConditionTrue)
	pod := podWith("inline")
	pod.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
		Driver: "lvm.dozo.dev", VolumeAttributes: map[string]string{"pool": "ssd", "size": "6Gi"},
	}}}}
	off := false
	pod.Spec.AutomountServiceAccountToken = &off
	b.create(t, pod)
	b.wantPasses(t, pod, "n1", "n2")
	bind := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "inline"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
	if err := b.client.SubResource("binding").Create(t.Context(), pod, bind); err != nil {
		t.Fatal(err)
	}
	b.claim(t, "other", "6Gi", nil)
	b.wantPasses(t, podWith("other", "other"), "n2")
}
