package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/orphans"
)

// pv makes the PersistentVolume of a volume.
func (b *bed) pv(name, handle string) *corev1.PersistentVolume {
	b.t.Helper()
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "fake.dozo.dev", VolumeHandle: handle}},
		},
	}
	b.must(b.Client.Create(b.t.Context(), v))
	return v
}

// later is when every object is old enough to be one that nobody claims.
func later() time.Time { return time.Now().Add(2 * orphans.Grace) }

// orphan waits until an orphan is listed, and returns it.
func (b *bed) orphan(name string) (o orphans.Orphan) {
	b.t.Helper()
	b.until(name+" is listed", func() bool {
		var err error
		o, err = orphans.Pick(b.t.Context(), b.Client, name, later())
		if !errs.Is(err, errs.NotFound) {
			b.must(err)
		}
		return err == nil
	})
	return o
}

func (b *bed) names(now time.Time) (names []string) {
	b.t.Helper()
	all, err := orphans.Find(b.t.Context(), b.Client, now)
	b.must(err)
	for _, o := range all {
		names = append(names, o.Name())
	}
	return names
}

// TestOrphans: both halves that lack the other are listed, and deleted only on command, by their node, and
// never while something refers to them.
func TestOrphans(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.node("n1", "fast")
	b.pool("p", fake.KindName, nil)
	f := newFakes(fake.Options{})
	b.agent("n1", t.TempDir(), f.Kind)
	b.ready("p", "n1")
	p, disk := remote.New("p", b.controller(t).view, backend.FullMask()), f.opened()
	onDisk := func(name string) bool {
		_, err := disk.Get(ctx, backend.ID(name))
		return err == nil
	}
	stored := func(name string) {
		r := request(name)
		r.Nodes = nil
		_, err := disk.Create(ctx, r)
		b.must(err)
	}

	t.Run("on the storage", func(t *testing.T) {
		stored("stray")
		stray := b.orphan("n1/p/stray")
		if stray.Size != 1<<20 || stray.Claimed != "" {
			t.Errorf("it is %+v", stray)
		}
		open, err := disk.Open("stray")
		b.must(err)
		refused(t, orphans.Delete(ctx, b.Client, stray), errs.InUse, "node n1")
		b.must(open.Close())
		b.until("the wish is taken back", func() bool { return b.answer("p.stray") == v1alpha1.ReasonReady })
		if !onDisk("stray") {
			t.Fatal("what was refused was done later")
		}
		b.must(orphans.Delete(ctx, b.Client, b.orphan("n1/p/stray"))) // it has an object by now, and no claim
		if onDisk("stray") {
			t.Error("it is still there")
		}
		stored("other")
		b.must(orphans.Delete(ctx, b.Client, b.orphan("n1/p/other")))
		if onDisk("other") {
			t.Error("it is still there")
		}
	})
	t.Run("claimed", func(t *testing.T) {
		stored("claimed")
		claim := b.pv("pv-claimed", "p:claimed")
		b.until("it is known that it is claimed", func() bool { return b.orphan("n1/p/claimed").Claimed == "PersistentVolume pv-claimed" })
		refused(t, orphans.Delete(ctx, b.Client, b.orphan("n1/p/claimed")), errs.InUse, "pv-claimed")
		b.must(orphans.Adopt(ctx, b.Client, b.orphan("n1/p/claimed")))
		if names := b.names(later()); len(names) != 0 {
			t.Errorf("it is adopted, and there are %v", names)
		}
		b.must(b.Client.Delete(ctx, claim))
		// Kubernetes' own controllers, which protect it while it is in use, do not run here.
		b.must(client.IgnoreNotFound(b.Client.Patch(ctx, claim, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))))
		b.until("nothing refers to it", func() bool { return slices.Equal(b.names(later()), []string{"n1/p/claimed"}) })
		if names := b.names(time.Now()); len(names) != 0 {
			t.Errorf("%v: its PersistentVolume could still come", names)
		}
		b.must(orphans.Delete(ctx, b.Client, b.orphan("n1/p/claimed")))
	})
	t.Run("gone from the storage", func(t *testing.T) {
		_, err := p.Create(ctx, request("lost"))
		b.must(err)
		b.pv("pv-lost", "p:lost")
		b.must(disk.Delete(ctx, "lost"))
		b.until("it is known", func() bool {
			o := b.orphan("n1/p/lost")
			return strings.Contains(o.Why, "does not have it any more") && strings.Contains(o.Why, "pv-lost")
		})
		b.pv("pv-nothing", "p:nothing")
		if o := b.orphan("/p/nothing"); !strings.Contains(o.Why, "PersistentVolume pv-nothing has no volume") {
			t.Errorf("it says %q", o.Why)
		}
		refused(t, orphans.Delete(ctx, b.Client, b.orphan("/p/nothing")), errs.InUse, "pv-nothing")
	})
	t.Run("snapshot", func(t *testing.T) {
		_, err := p.Create(ctx, request("v"))
		b.must(err)
		_, err = disk.CreateSnapshot(ctx, backend.SnapshotRequest{ID: "s", Name: "s", Source: "v"})
		b.must(err)
		b.must(orphans.Delete(ctx, b.Client, b.orphan("n1/p/snapshot/s")))
		if _, err := disk.GetSnapshot(ctx, "s"); !errs.Is(err, errs.NotFound) {
			t.Errorf("it is still there: %v", err)
		}
	})
	_, err := orphans.Pick(ctx, b.Client, "n1/p/v", time.Now())
	refused(t, err, errs.NotFound, "no orphan")
	_, err = orphans.Pick(ctx, b.Client, "v", time.Now())
	refused(t, err, errs.Invalid, "NODE/POOL/ID")
}
