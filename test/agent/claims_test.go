package agent

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/controller"
	"github.com/dozo-dev/dozo/internal/pv"
)

// claimed makes a volume on a node with a PersistentVolume and a claim that is bound to it.
func (b *bed) claimed(p *remote.Backend, name, node string) *corev1.PersistentVolumeClaim {
	b.t.Helper()
	ctx := b.t.Context()
	r := request(name)
	r.Nodes = []string{node}
	_, err := p.Create(ctx, r)
	b.must(err)
	modes, room := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: ptr.To(""), AccessModes: modes, VolumeName: "pv-" + name, Resources: corev1.VolumeResourceRequirements{Requests: room},
	}}
	b.must(b.Client.Create(ctx, c))
	b.must(b.Client.Create(ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: room, AccessModes: modes, NodeAffinity: pv.OnNode(node),
		ClaimRef:               &corev1.ObjectReference{Namespace: "default", Name: name, UID: c.UID},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "fake.dozo.dev", VolumeHandle: "p:" + name}},
	}}))
	return c
}

// told reports whether there is an Event about an object.
func (b *bed) told(about, reason string, words ...string) bool {
	b.t.Helper()
	var all corev1.EventList
	b.must(b.Client.List(b.t.Context(), &all))
	for _, e := range all.Items {
		if e.InvolvedObject.Name == about && e.Reason == reason && strings.Contains(e.Message, strings.Join(words, " ")) {
			return true
		}
	}
	return false
}

func (b *bed) lost(name string) bool {
	b.t.Helper()
	o := &v1alpha1.NodeVolume{}
	b.must(b.Client.Get(b.t.Context(), client.ObjectKey{Name: name}, o))
	return record.Lost(o)
}

// deleted reports whether somebody asked for the deletion of a claim, which Kubernetes' own controllers, that do
// not run here, see to.
func (b *bed) deleted(c *corev1.PersistentVolumeClaim) bool {
	return b.gone(c) || c.DeletionTimestamp != nil
}

// TestClaimsOfDeletedNodes: they are deleted only where that was asked for, and only of that node.
func TestClaimsOfDeletedNodes(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	_, _, p := b.twoNodes(64<<20, 64<<20)
	first, second := b.claimed(p, "first", "n1"), b.claimed(p, "second", "n2")
	stop := b.controllersWith(controller.Options{Grace: time.Millisecond})
	n1 := &corev1.Node{}
	b.must(b.Client.Get(ctx, client.ObjectKey{Name: "n1"}, n1))
	b.must(b.Client.Delete(ctx, n1))
	b.until("the volume is lost", func() bool { return b.lost("p.first") })
	b.until("who has the claim is told", func() bool { return b.told("first", "VolumeLost", "node n1") })
	if b.deleted(first) || b.deleted(second) {
		t.Fatal("claims are deleted and nobody asked for it")
	}
	n1.ResourceVersion, n1.UID = "", ""
	b.must(b.Client.Create(ctx, n1))
	b.until("it is told that it is back", func() bool { return !b.lost("p.first") && b.told("first", "VolumeBack", "node n1") })
	stop()

	stop = b.controllersWith(controller.Options{DeleteClaims: true, Grace: time.Hour})
	b.must(b.Client.Delete(ctx, n1))
	b.until("the volume is lost again", func() bool { return b.lost("p.first") })
	stop()
	if b.deleted(first) {
		t.Fatal("the claim is deleted, though the node could come back yet")
	}
	b.controllersWith(controller.Options{DeleteClaims: true, Grace: time.Millisecond})
	b.until("the claim is deleted", func() bool { return b.deleted(first) })
	b.until("and it is told why", func() bool { return b.told("first", "NodeDeleted", "node n1") })
	if b.deleted(second) {
		t.Error("the claim of a node that is there is deleted")
	}
	if _, err := p.Get(ctx, "first"); err != nil {
		t.Errorf("the volume is forgotten: %v", err)
	}
}

// TestEvents: what a user must know is told where they look.
func TestEvents(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	f1, _, p := b.twoNodes(64<<20, 64<<20)
	b.controllers()
	b.claimed(p, "v", "n1")
	disk := f1.opened()
	stray := request("stray")
	stray.Nodes = nil
	_, err := disk.Create(ctx, stray)
	b.must(err)
	b.until("an orphan is told of", func() bool { return b.told("n1", "OrphanFound", "stray") })

	disk.SetProblems("v", backend.Problem{Severity: backend.Degraded, Reason: "ThinPoolNearlyFull", Message: "of it 96 %"})
	b.until("a problem is told of at the node", func() bool { return b.told("n1", "ThinPoolNearlyFull", "pool p: of it 96 %") })
	disk.SetProblems("v", backend.Problem{Severity: backend.Inaccessible, Reason: "ThinPoolFull", Message: "writes wait"})
	b.until("one that its user notices at the claim", func() bool { return b.told("v", "ThinPoolFull", "writes wait") })
	disk.SetProblems("v")
	b.until("and its end", func() bool { return b.told("v", "VolumeBack", "it was ThinPoolFull") })
	if b.told("v", "ThinPoolNearlyFull") {
		t.Error("its user is told of what is not theirs")
	}

	b.must(disk.Delete(ctx, "v"))
	b.until("a volume that is gone is told of", func() bool { return b.told("v", "VolumeMissing", "node n1") })
	larger := request("big")
	larger.Nodes = []string{"n1"}
	_, err = p.Create(ctx, larger)
	b.must(err)
	if _, err := p.Expand(ctx, "big", 1<<30); err == nil {
		t.Fatal("it grew beyond its node")
	}
	b.until("a growth that was refused is told of", func() bool { return b.told("p.big", "NoSpace") })
}
