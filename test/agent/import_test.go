package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/csi"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/imports"
	"github.com/dozo-dev/dozo/internal/pv"

	"github.com/dozo-dev/dozo/api/v1alpha1"
)

// importer imports as "dozo import" does.
func (b *bed) importer() *imports.Importer {
	return &imports.Importer{Client: b.Client, Attributes: func(v backend.Volume) (map[string]string, error) { return csi.VolumeContext(v, nil) }}
}

// TestImport: what is on a node becomes a volume with its PersistentVolume; what is refused leaves nothing.
func TestImport(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.node("n1", "fast")
	b.pool("p", fake.KindName, nil)
	f := newFakes(fake.Options{})
	b.agent("n1", t.TempDir(), f.Kind)
	b.ready("p", "n1")
	disk := f.opened()
	disk.AddForeign("theirs", 3<<20)
	i, r := b.importer(), imports.Request{Name: "import-theirs", Node: "n1", Pool: "p", From: "theirs", Claim: client.ObjectKey{Namespace: "default", Name: "data"}}

	missing := r
	missing.From = "nothing"
	_, err := i.Import(ctx, missing)
	refused(t, err, errs.NotFound, "node n1", "nothing")
	b.until("what was refused leaves nothing", func() bool {
		return b.gone(&v1alpha1.NodeVolume{ObjectMeta: metav1.ObjectMeta{Name: "p.import-theirs"}})
	})
	for what, wrong := range map[string]func(*imports.Request){
		"pool x": func(r *imports.Request) { r.Pool = "x" },
		"node x": func(r *imports.Request) { r.Node = "x" },
	} {
		q := r
		wrong(&q)
		_, err := i.Import(ctx, q)
		refused(t, err, errs.NotFound, what)
	}

	named := r
	named.Name = "Not.A.Label"
	_, err = i.Import(ctx, named)
	refused(t, err, errs.Invalid, "Not.A.Label")

	for range 2 {
		o, err := i.Import(ctx, r)
		b.must(err)
		p := o.PersistentVolume
		if pool, id, ok := pv.VolumeOf(p, "fake.dozo.dev"); !ok || pool != "p" || id != "import-theirs" || pv.NodeOf(p) != "n1" || pv.TopologyKey != csi.TopologyKey {
			t.Errorf("the PersistentVolume is %+v", p.Spec)
		}
		size := p.Spec.Capacity[corev1.ResourceStorage]
		if size.Value() != 3<<20 || p.Spec.ClaimRef.Name != "data" || p.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain ||
			p.Spec.CSI.VolumeAttributes["dozo.dev/access"] != `{"version":1,"local":{"pool":"p","id":"import-theirs"}}` {
			t.Errorf("the PersistentVolume is %+v", p.Spec)
		}
	}
	if m, err := disk.Mark(ctx, "import-theirs"); err != nil || !m.Done {
		t.Errorf("it may be formatted: %+v, %v", m, err)
	}
	other := r
	other.From = "else"
	_, err = i.Import(ctx, other)
	refused(t, err, errs.Exists, "choose another name")

	// It is a volume like any other, and deleted as one.
	p := remote.New("p", b.controller(t).view, backend.FullMask())
	if v, err := p.Expand(ctx, "import-theirs", 4<<20); err != nil || v.Size != 4<<20 {
		t.Errorf("%+v, %v", v, err)
	}
	b.must(p.Delete(ctx, "import-theirs"))
	b.empty("p", f)
}

// TestImportNobodyHeardOf: an object that is deleted before its node answered takes nothing along.
func TestImportNobodyHeardOf(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.node("n1", "fast")
	b.pool("p", fake.KindName, nil)
	f := newFakes(fake.Options{})
	b.agent("n1", t.TempDir(), f.Kind)
	b.ready("p", "n1")
	disk := f.opened()
	disk.AddForeign("theirs", 3<<20)
	o, err := b.importer().Plan(ctx, imports.Request{Name: "v", Node: "n1", Pool: "p", From: "theirs"})
	b.must(err)
	// The storage did it, and its answer is an error: so the object does not say that there is a volume.
	disk.Arm(func(e *fake.Errors) { e.Import.After = errs.E(errs.Invalid, "nobody heard") })
	b.must(b.Client.Create(ctx, o.Volume))
	b.until("it was refused", func() bool { return b.answer("p.v") == "Invalid" })
	b.must(b.Client.Delete(ctx, o.Volume))
	b.until("its object is gone", func() bool { return b.gone(o.Volume) })
	if _, err := disk.Get(ctx, "v"); err != nil {
		t.Errorf("somebody's data was deleted: %v", err)
	}
}

// topolvm makes a volume as TopoLVM has it: its definition, object, PersistentVolume, claim and a pod.
func (b *bed) topolvm() (pod *corev1.Pod) {
	b.t.Helper()
	ctx := b.t.Context()
	anything := &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "logicalvolumes.topolvm.io"}, Spec: apiextensionsv1.CustomResourceDefinitionSpec{
		Group: "topolvm.io", Scope: apiextensionsv1.ClusterScoped,
		Names:    apiextensionsv1.CustomResourceDefinitionNames{Plural: "logicalvolumes", Singular: "logicalvolume", Kind: "LogicalVolume", ListKind: "LogicalVolumeList"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: anything}}},
	}}
	b.must(b.Client.Create(ctx, crd))
	b.must(b.Established(ctx, crd))
	l := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "topolvm.io/v1", "kind": "LogicalVolume", "metadata": map[string]any{"name": "pvc-1"},
		"spec":   map[string]any{"name": "pvc-1", "nodeName": "n1", "deviceClass": "p", "size": "3Mi"},
		"status": map[string]any{"volumeID": "uid-1"},
	}}
	b.until("a LogicalVolume is made", func() bool { return b.Client.Create(ctx, l) == nil })
	spec := corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("3Mi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		StorageClassName: "topolvm-provisioner", PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
		ClaimRef:               &corev1.ObjectReference{Namespace: "default", Name: "data"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "topolvm.io", VolumeHandle: "uid-1", FSType: "xfs"}},
	}
	b.must(b.Client.Create(ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1"}, Spec: spec}))
	b.must(b.Client.Create(ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: ptr.To("topolvm-provisioner"), AccessModes: spec.AccessModes, VolumeName: "pvc-1",
		Resources: corev1.VolumeResourceRequirements{Requests: spec.Capacity},
	}}))
	pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "user"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "c"}},
		Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}},
	}}
	b.must(b.Client.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}))
	b.must(b.Client.Create(ctx, pod))
	return pod
}

// TestImportFromTopoLVM: a volume that pods use is left alone; otherwise it is kept, taken, and waits for its claim.
func TestImportFromTopoLVM(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.node("n1", "fast")
	b.pool("p", fake.KindName, nil)
	f := newFakes(fake.Options{})
	b.agent("n1", t.TempDir(), f.Kind)
	b.ready("p", "n1")
	f.opened().AddForeign("uid-1", 3<<20)
	i, own := b.importer(), func(class string) string { return class }
	none, err := i.FromTopoLVM(ctx, client.ObjectKey{}, own)
	if err != nil || len(none) > 0 {
		t.Fatalf("without TopoLVM there are %+v, %v", none, err)
	}
	pod := b.topolvm()
	policy := func() corev1.PersistentVolumeReclaimPolicy {
		old := &corev1.PersistentVolume{}
		b.must(b.Client.Get(ctx, client.ObjectKey{Name: "pvc-1"}, old))
		return old.Spec.PersistentVolumeReclaimPolicy
	}
	only := func() imports.Move {
		t.Helper()
		moves, err := i.FromTopoLVM(ctx, client.ObjectKey{Namespace: "default", Name: "data"}, own)
		b.must(err)
		if len(moves) != 1 || moves[0].Forget[1] != "logicalvolumes.topolvm.io pvc-1" || moves[0].Request.Node != "n1" || moves[0].Request.Pool != "p" {
			t.Fatalf("they are %+v", moves)
		}
		return moves[0]
	}
	_, err = i.Do(ctx, only())
	refused(t, err, errs.InUse, "user")
	if policy() != corev1.PersistentVolumeReclaimDelete {
		t.Error("what was refused changed the PersistentVolume")
	}
	b.must(b.Client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	m := only()
	o, err := i.Do(ctx, m)
	b.must(err)
	p := o.PersistentVolume
	if policy() != corev1.PersistentVolumeReclaimRetain || p.Name != "dozo-pvc-1" || p.Spec.CSI.FSType != "xfs" || p.Spec.StorageClassName != "topolvm-provisioner" ||
		p.Spec.ClaimRef.Name != "data" || p.Spec.ClaimRef.UID != "" || p.Spec.CSI.VolumeHandle != "p:dozo-pvc-1" {
		t.Errorf("the PersistentVolume is %+v", p)
	}
	c := m.NewClaim(p)
	old := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}}
	b.must(b.Client.Patch(ctx, old, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))))
	b.must(client.IgnoreNotFound(b.Client.Delete(ctx, old)))
	b.until("the claim is gone", func() bool { return b.gone(old) })
	if err := b.Client.Create(ctx, c); err != nil || c.Spec.VolumeName != "dozo-pvc-1" {
		t.Errorf("the new claim is %+v, %v", c.Spec, err)
	}
	if again, err := i.Do(ctx, only()); err != nil || again.PersistentVolume.UID != p.UID {
		t.Errorf("repeated: %v", err)
	}
}
