package claims

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

const gib = 1 << 30

// newReader has a cluster of these objects.
func newReader(t *testing.T, objects ...client.Object) Reader {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	return Reader{Cache: c, Live: c, Kinds: []backend.Kind{
		{Name: "lvm", NodeBound: true, MinSize: 16 << 20, Granularity: 4 << 20},
		{Name: "ceph", NodeBound: false},
	}}
}

func class(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode, Parameters: map[string]string{"pool": "ssd"},
	}
}

func claim(name, class, size string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	c.Spec.StorageClassName = &class
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	for _, f := range change {
		f(c)
	}
	return c
}

func annotated(key, value string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { metav1.SetMetaDataAnnotation(&c.ObjectMeta, key, value) }
}

func from(kind, name string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: kind, Name: name}
	}
}

func pod(volumes ...corev1.VolumeSource) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "uid-1"}}
	for i, v := range volumes {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: string(rune('a' + i)), VolumeSource: v})
	}
	return p
}

func claimed(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

func ephemeral(class *string) corev1.VolumeSource {
	spec := claim("", "", "1Gi").Spec
	spec.StorageClassName = class
	return corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: spec}}}
}

func inline(driver string, attributes map[string]string) corev1.VolumeSource {
	return corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: driver, VolumeAttributes: attributes}}
}

func snapshotObject(kind, namespace, name string, fields map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: fields}
	o.SetAPIVersion("snapshot.storage.k8s.io/v1")
	o.SetKind(kind)
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

func snapshots() []client.Object {
	return []client.Object{
		snapshotObject("VolumeSnapshot", "ns", "snap", map[string]any{"status": map[string]any{"boundVolumeSnapshotContentName": "content"}}),
		snapshotObject("VolumeSnapshotContent", "", "content", map[string]any{
			"spec": map[string]any{"driver": "lvm.dozo.dev"}, "status": map[string]any{"snapshotHandle": "ssd:snap-1"},
		}),
		&v1alpha1.NodeSnapshot{
			ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ObjectName("ssd", "snap-1")},
			Spec:       v1alpha1.NodeSnapshotSpec{ItemSpec: v1alpha1.ItemSpec{Node: "n3", Pool: "ssd"}},
		},
		snapshotObject("VolumeSnapshot", "ns", "early", map[string]any{}),
	}
}

func volumeOn(name, node, driver string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: topologyKey, Operator: "In", Values: []string{node}}},
		}}}},
	}}
}

func cluster(t *testing.T) Reader {
	bound := func(pv string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = pv }
	}
	older, newer := class("older", "example.com/nfs", storagev1.VolumeBindingWaitForFirstConsumer), class("newer", "lvm.dozo.dev", storagev1.VolumeBindingWaitForFirstConsumer)
	older.Annotations, newer.Annotations = map[string]string{defaultClass: "true"}, map[string]string{defaultClass: "true"}
	older.CreationTimestamp, newer.CreationTimestamp = metav1.NewTime(time.Unix(1, 0)), metav1.NewTime(time.Unix(2, 0))
	isController := true
	mine := claim("web-a", "ssd", "7Gi", func(c *corev1.PersistentVolumeClaim) {
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "web", UID: "uid-1", Controller: &isController}}
	})
	objects := append(snapshots(), older, newer, mine, volumeOn("pv-1", "n1", "lvm.dozo.dev"), volumeOn("pv-2", "n1", "example.com"),
		class("ssd", "lvm.dozo.dev", storagev1.VolumeBindingWaitForFirstConsumer),
		class("at-once", "lvm.dozo.dev", storagev1.VolumeBindingImmediate),
		class("shared", "ceph.dozo.dev", storagev1.VolumeBindingWaitForFirstConsumer),
		claim("data", "ssd", "1Gi"), claim("tiny", "ssd", "1"), claim("odd", "ssd", "17Mi"), claim("huge", "ssd", "9223372036854775807"),
		claim("bound", "ssd", "1Gi", bound("pv-1")), claim("theirs", "older", "1Gi", bound("pv-2")), claim("at-once", "at-once", "1Gi"), claim("shared", "shared", "1Gi"),
		claim("no-class", "", "1Gi"), claim("classless", "gone", "1Gi"), claim("beta", "", "1Gi", annotated(betaClass, "ssd")),
		claim("selected", "ssd", "1Gi", annotated(SelectedNodeAnnotation, "n2")),
		claim("clone", "ssd", "1Gi", from(claimKind, "bound")), claim("clone-of-selected", "ssd", "1Gi", from(claimKind, "selected")),
		claim("clone-of-theirs", "ssd", "1Gi", from(claimKind, "theirs")),
		claim("clone-of-nothing", "ssd", "1Gi", from(claimKind, "gone")), claim("clone-of-waiting", "ssd", "1Gi", from(claimKind, "data")),
		claim("restored", "ssd", "1Gi", from(snapshotKind, "snap")), claim("restored-early", "ssd", "1Gi", from(snapshotKind, "early")),
		claim("populated", "ssd", "1Gi", from("Backup", "b")), claim("web-b", "ssd", "1Gi"),
	)
	return newReader(t, objects...)
}

func TestOf(t *testing.T) {
	r := cluster(t)
	want := func(name string, bytes int64) Volume {
		return Volume{Key: "claim/ns/" + name, Name: "claim ns/" + name, Kind: "lvm", Pool: "ssd", Bytes: bytes}
	}
	on := func(v Volume, node string, settled bool) []Volume {
		v.Node, v.Settled = node, settled
		return []Volume{v}
	}
	ssd := "ssd"
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want []Volume
	}{
		"nothing":                   {pod(corev1.VolumeSource{}), nil},
		"a claim":                   {pod(claimed("data")), []Volume{want("data", gib)}},
		"the same claim twice":      {pod(claimed("data"), claimed("data")), []Volume{want("data", gib)}},
		"rounded to the least":      {pod(claimed("tiny")), []Volume{want("tiny", 16<<20)}},
		"rounded up":                {pod(claimed("odd")), []Volume{want("odd", 20<<20)}},
		"more than can be":          {pod(claimed("huge")), []Volume{want("huge", math.MaxInt64)}},
		"not ours":                  {pod(claimed("bound"), claimed("at-once"), claimed("shared"), claimed("no-class"), claimed("classless")), nil},
		"an old claim":              {pod(claimed("beta")), []Volume{want("beta", gib)}},
		"its node is chosen":        {pod(claimed("selected")), on(want("selected", gib), "n2", true)},
		"a clone":                   {pod(claimed("clone")), on(want("clone", gib), "n1", false)},
		"a clone of one being made": {pod(claimed("clone-of-selected")), on(want("clone-of-selected", gib), "n2", false)},
		"a clone of theirs":         {pod(claimed("clone-of-theirs")), []Volume{want("clone-of-theirs", gib)}},
		"restored":                  {pod(claimed("restored")), on(want("restored", gib), "n3", false)},
		"populated":                 {pod(claimed("populated")), []Volume{want("populated", gib)}},
		"ephemeral, there":          {pod(ephemeral(&ssd)), []Volume{want("web-a", 7*gib)}},
		"ephemeral, not there yet":  {pod(corev1.VolumeSource{}, corev1.VolumeSource{}, ephemeral(&ssd)), []Volume{want("web-c", gib)}},
		"ephemeral, default class":  {pod(corev1.VolumeSource{}, corev1.VolumeSource{}, ephemeral(nil)), []Volume{want("web-c", gib)}},
		"inline": {pod(inline("lvm.dozo.dev", map[string]string{"pool": "hdd", "size": "2Gi"})),
			[]Volume{{Key: "pod/uid-1/a", Name: "volume a", Kind: "lvm", Pool: "hdd", Bytes: 2 * gib}}},
		"their inline": {pod(inline("example.com", nil)), nil},
	} {
		got, err := r.Of(t.Context(), c.pod)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestOfErrors(t *testing.T) {
	r := cluster(t)
	ssd := "ssd"
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		kind errs.Kind
		part string
	}{
		"no claim":              {pod(claimed("gone")), errs.NotFound, "claim ns/gone"},
		"no source":             {pod(claimed("clone-of-nothing")), errs.NotFound, "claim ns/gone, to be copied"},
		"a source not yet made": {pod(claimed("clone-of-waiting")), errs.Unavailable, "has no volume yet"},
		"a snapshot not taken":  {pod(claimed("restored-early")), errs.Unavailable, "boundVolumeSnapshotContentName is not set yet"},
		"somebody else's claim": {pod(corev1.VolumeSource{}, ephemeral(&ssd)), errs.Exists, "not of this pod"},
		"inline without a size": {pod(inline("lvm.dozo.dev", nil)), errs.Invalid, `csi.volumeAttributes["size"]`},
	} {
		_, err := r.Of(t.Context(), c.pod)
		if !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: error %v (%s), want %s with %q", name, err, errs.KindOf(err), c.kind, c.part)
		}
	}
}

// stale is a cache that has seen nothing yet.
type stale struct{ client.Reader }

// TestCacheIsBehind: kube-scheduler may know a claim that our cache does not.
func TestCacheIsBehind(t *testing.T) {
	full, empty := cluster(t), newReader(t)
	r := Reader{Cache: stale{empty.Live}, Live: full.Live, Kinds: full.Kinds}
	got, err := r.Of(context.Background(), pod(claimed("data")))
	if err != nil || len(got) != 1 || got[0].Bytes != gib {
		t.Errorf("%v, %v; want the claim as the API server has it", got, err)
	}
	p := pod(claimed("data"))
	p.UID = types.UID("other")
	if key := InlineKey(p, "a"); key != "pod/other/a" {
		t.Errorf("key %s", key)
	}
}
