package agent

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/controller"
	"github.com/dozo-dev/dozo/internal/errs"
)

// controllers runs all reconcilers.
func (b *bed) controllers() {
	b.t.Helper()
	b.controllersWith(controller.Options{})
}

// controllersWith runs all reconcilers, and returns what ends them.
func (b *bed) controllersWith(o controller.Options) (stop func()) {
	b.t.Helper()
	o.Kind, o.Namespace = fake.KindName, "default"
	scheme, err := controller.Scheme()
	b.must(err)
	mgr, err := manager.New(b.Config, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
	})
	b.must(err)
	b.must(controller.Add(mgr, o))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("the controllers: %v", err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

func (b *bed) class(name string, parameters map[string]string) {
	b.t.Helper()
	b.must(b.Client.Create(b.t.Context(), &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "fake.dozo.dev", Parameters: parameters,
		VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
	}))
}

// capacities are what the scheduler sees: by class and node, the room in bytes.
func (b *bed) capacities() map[string]int64 {
	b.t.Helper()
	var all storagev1.CSIStorageCapacityList
	b.must(b.Client.List(b.t.Context(), &all, client.InNamespace("default")))
	room := map[string]int64{}
	for _, c := range all.Items {
		room[c.StorageClassName+" "+c.NodeTopology.MatchLabels["topology.dozo.dev/node"]] = c.Capacity.Value()
	}
	return room
}

// TestControllers: what people and the scheduler see of the pools.
func TestControllers(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.class("one", map[string]string{"pool": "p"})
	b.class("only", nil) // there is one pool
	f1, _, p := b.twoNodes(64<<20, 32<<20)
	b.controllers()

	b.until("the pool is ready", func() bool {
		o := b.poolObject("p")
		return meta.IsStatusConditionTrue(o.Status.Conditions, v1alpha1.ConditionReady) && o.Status.Nodes == "2/2" && o.Status.Capacity.Value() == 96<<20
	})
	b.until("the scheduler knows all nodes and classes", func() bool {
		c := b.capacities()
		return len(c) == 4 && c["one n1"] == 64<<20 && c["only n2"] == 32<<20
	})
	least := time.Hour // of three, since the machine may be busy
	for i, name := range []string{"v", "w", "x"} {
		r := request(name)
		r.Size, r.Nodes = 4<<20, []string{"n1"}
		_, err := p.Create(ctx, r)
		b.must(err)
		made := time.Now()
		b.until("the scheduler knows of the new volume", func() bool { return b.capacities()["one n1"] == int64(60-4*i)<<20 })
		least = min(least, time.Since(made))
	}
	t.Logf("capacity: the scheduler sees a new volume after %v", least.Round(time.Millisecond))
	if least > time.Second {
		t.Errorf("it took %v, more than a second", least)
	}
	f1.opened().Arm(func(e *fake.Errors) { e.Down = errs.E(errs.Unavailable, "its disk is gone") })
	b.until("a pool that does not answer has no room, and says so", func() bool {
		o := b.poolObject("p")
		c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady)
		return b.capacities()["one n1"] == 0 && c.Reason == v1alpha1.ReasonNotReady && strings.Contains(c.Message, "n1: its disk is gone")
	})
	f1.opened().Arm(func(e *fake.Errors) { e.Down = nil })
	b.must(b.Client.Delete(ctx, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "only"}}))
	b.until("the class is gone", func() bool { c := b.capacities(); return len(c) == 2 && c["one n1"] == 52<<20 })

	b.testPlace()
	b.testLost(p)
}

func (b *bed) poolObject(name string) *v1alpha1.Pool {
	b.t.Helper()
	o := &v1alpha1.Pool{}
	b.must(b.Client.Get(b.t.Context(), client.ObjectKey{Name: name}, o))
	return o
}

// testPlace: the claim for a clone of v, which is on n1, is sent there; a claim for a blank volume is not.
func (b *bed) testPlace() {
	b.t.Helper()
	ctx := b.t.Context()
	claim := func(name string) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: corev1.PersistentVolumeClaimSpec{
				StorageClassName: ptr.To("one"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("16Mi")}},
			},
		}
	}
	b.must(b.Client.Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("16Mi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "fake.dozo.dev", VolumeHandle: "p:v"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "topology.dozo.dev/node", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}},
			}}}},
		},
	}))
	source, blank, clone := claim("source"), claim("blank"), claim("clone")
	clone.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "source"}
	for _, c := range []*corev1.PersistentVolumeClaim{clone, blank, source} { // the clone is there before its source
		b.must(b.Client.Create(ctx, c))
	}
	source.Spec.VolumeName = "pv"
	b.must(b.Client.Update(ctx, source))
	node := func(name string) string {
		c := &corev1.PersistentVolumeClaim{}
		b.must(b.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, c))
		return c.Annotations["volume.kubernetes.io/selected-node"]
	}
	b.until("the clone is sent to its source", func() bool { return node("clone") == "n1" })
	if n := node("blank"); n != "" {
		b.t.Errorf("a claim for a blank volume was sent to %s", n)
	}

	// As external-provisioner does when the volume cannot be made there; what it writes into its own cache
	// afterwards must not overwrite what is said next.
	taken := time.Now()
	b.must(b.Client.Patch(ctx, clone, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":null}}}`))))
	b.until("the clone is sent there again", func() bool { return node("clone") == "n1" })
	if after := time.Since(taken); after < time.Second {
		b.t.Errorf("it was sent there again after %v, while external-provisioner may still be at it", after)
	}
}

// testLost: a volume whose node has left is reported, and well when the node is back. An object that is
// deleted while its node is not there is let go.
func (b *bed) testLost(p *remote.Backend) {
	b.t.Helper()
	ctx := b.t.Context()
	n1 := &corev1.Node{}
	b.must(b.Client.Get(ctx, client.ObjectKey{Name: "n1"}, n1))
	lost := func(name string) bool {
		o := &v1alpha1.NodeVolume{}
		b.must(b.Client.Get(ctx, client.ObjectKey{Name: name}, o))
		return record.Lost(o)
	}
	if lost("p.v") {
		b.t.Error("it is lost and its node is there")
	}
	b.must(b.Client.Delete(ctx, n1))
	b.until("the volume is reported lost", func() bool { return lost("p.v") })
	problems, err := p.Check(ctx, "v")
	if err != nil || len(problems) == 0 || problems[0].Reason != v1alpha1.ReasonNodeGone {
		b.t.Errorf("problems: %+v (%v)", problems, err)
	}
	n1.ResourceVersion, n1.UID = "", ""
	b.must(b.Client.Create(ctx, n1))
	b.until("it is back", func() bool { return !lost("p.v") })

	gone := record.NewVolume("p", "n9", request("unwanted"))
	b.must(b.Client.Create(ctx, gone))
	b.until("it is reported lost", func() bool { return lost(gone.Name) })
	b.must(b.Client.Delete(ctx, gone))
	b.until("it is let go", func() bool {
		return apierrors.IsNotFound(b.Client.Get(ctx, client.ObjectKeyFromObject(gone), gone))
	})
}
