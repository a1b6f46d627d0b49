package main

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/orphans"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab/api"
)

// personBed is a cluster of one node n1 with a pool "fast", for the commands that people run.
type personBed struct {
	*api.Server
	t    *testing.T
	disk *fake.Backend
}

func newPersonBed(t *testing.T) *personBed {
	b := &personBed{Server: api.Start(t), t: t}
	b.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Spec: v1alpha1.PoolSpec{Kind: fake.KindName}})
	kind := fake.Kind(fake.Options{NodeBound: true})
	opened := make(chan *fake.Backend, 10)
	open := kind.Open
	kind.Open = func(ctx context.Context, c backend.Config) (backend.Backend, error) {
		o, err := open(ctx, c)
		opened <- o.(*fake.Backend)
		return o, err
	}
	quiet := slog.New(slog.DiscardHandler)
	var a *agent.Agent
	pools := pool.EmptySet([]backend.Kind{kind}, pool.Options{Node: "n1", Log: quiet, Observe: func(o pool.Observation) { a.Observe(o) }})
	a, err := agent.New(t.Context(), agent.Options{Node: "n1", Kind: kind.Name, Pools: pools, Host: host.New(), Log: quiet,
		State: filepath.Join(t.TempDir(), "pools"), Refresh: time.Second, Scan: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = a.Run(ctx, b.Config) }()
	t.Cleanup(func() { cancel(); <-ended })
	b.disk = <-opened
	b.until("the pool is on n1", func() bool {
		n := &v1alpha1.NodeStorage{}
		return b.Client.Get(t.Context(), client.ObjectKey{Name: "n1"}, n) == nil && n.Status.Summary.Ready == "1/1"
	})
	return b
}

func (b *personBed) make(all ...client.Object) {
	b.t.Helper()
	for _, o := range all {
		if err := b.Client.Create(b.t.Context(), o); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *personBed) until(what string, done func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// run runs "dozo import" with flags that are read already.
func (b *personBed) run(f importFlags) (string, error) {
	var out bytes.Buffer
	err := f.check()
	if err == nil {
		err = f.run(b.t.Context(), f.importer(b.Client), &out)
	}
	b.t.Logf("%+v: %v\n%s", f, err, &out)
	return out.String(), err
}

func TestImportCommand(t *testing.T) {
	b := newPersonBed(t)
	b.disk.AddForeign("data", 5<<20)
	f := importFlags{node: "n1", pool: "fast", lv: "data", claim: "default/data", class: "dozo"}
	f.dryRun = true
	out, err := b.run(f)
	for _, words := range []string{"importFrom: data", "kind: NodeVolume", "volumeHandle: fast:import-n1-data", "topology.dozo.dev/node", "persistentVolumeReclaimPolicy: Retain"} {
		if err != nil || !strings.Contains(out, words) {
			t.Errorf("the dry run lacks %q: %v", words, err)
		}
	}
	if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "fast.import-n1-data"}, &v1alpha1.NodeVolume{}); err == nil {
		t.Error("a dry run made something")
	}
	f.dryRun = false
	for range 2 {
		if out, err := b.run(f); err != nil || out != "data on node n1 is volume fast.import-n1-data, PersistentVolume import-n1-data, 5Mi.\n" {
			t.Errorf("%v: %s", err, out)
		}
	}
	for what, wrong := range map[string]importFlags{
		"--node":         {pool: "fast", lv: "data"},
		"--claim":        {node: "n1", pool: "fast", lv: "data", claim: "data"},
		"--from-topolvm": {topolvm: true, lv: "data"},
	} {
		if err := wrong.check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s to be named", err, what)
		}
	}
}

// topolvm makes a claim's volume as TopoLVM has it.
func (b *personBed) topolvm(claim, pvName, uid string) {
	spec := corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		StorageClassName: "topolvm-provisioner", PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
		ClaimRef:               &corev1.ObjectReference{Namespace: "default", Name: claim},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "topolvm.io", VolumeHandle: uid, FSType: "xfs"}},
	}
	l := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "topolvm.io/v1", "kind": "LogicalVolume", "metadata": map[string]any{"name": pvName},
		"spec": map[string]any{"nodeName": "n1", "deviceClass": "fast"}, "status": map[string]any{"volumeID": uid},
	}}
	b.until("a LogicalVolume is made", func() bool { return b.Client.Create(b.t.Context(), l) == nil })
	b.make(&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: pvName}, Spec: spec},
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: claim}, Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To("topolvm-provisioner"), AccessModes: spec.AccessModes, VolumeName: pvName,
			Resources: corev1.VolumeResourceRequirements{Requests: spec.Capacity},
		}})
}

func TestImportFromTopoLVMCommand(t *testing.T) {
	b := newPersonBed(t)
	if out, err := b.run(importFlags{topolvm: true}); err != nil || out != "There are no volumes of TopoLVM.\n" {
		t.Errorf("%v: %s", err, out)
	}
	b.make(&apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "logicalvolumes.topolvm.io"}, Spec: apiextensionsv1.CustomResourceDefinitionSpec{
		Group: "topolvm.io", Scope: apiextensionsv1.ClusterScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "logicalvolumes", Singular: "logicalvolume", Kind: "LogicalVolume", ListKind: "LogicalVolumeList"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
			OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}}}},
	}})
	const good, gone = "7c2f2ab0-9a35-4f6c-8a8e-0d8a5f0e9a11", "0f8d6a52-6a0f-4a8e-9b44-52f0a7b0c0de"
	b.disk.AddForeign(good, 1<<30)
	b.topolvm("data", "pvc-1b7e", good)
	b.topolvm("gone", "pvc-90aa", gone)
	out, err := b.run(importFlags{topolvm: true})
	if err == nil { // of one
		t.Error("a volume that is not there was imported")
	}
	for _, words := range []string{
		"# claim default/data: PersistentVolume pvc-1b7e on node n1, logical volume " + good, "# done: it is volume fast.dozo-pvc-1b7e",
		"kubectl -n default delete pvc data\n", "volumeName: dozo-pvc-1b7e", "kubectl delete pv pvc-1b7e\nkubectl delete logicalvolumes.topolvm.io pvc-1b7e\n",
		"# not imported: node n1: importFrom: there is no " + gone,
	} {
		if !strings.Contains(out, words) {
			t.Errorf("the output lacks %q", words)
		}
	}
}

func TestOrphansCommand(t *testing.T) {
	b := newPersonBed(t)
	ctx := t.Context()
	var out bytes.Buffer
	if err := listOrphans(ctx, b.Client, &out, time.Now()); err != nil || out.String() != "There are none.\n" {
		t.Errorf("%v: %s", err, &out)
	}
	for name, size := range map[string]int64{"pvc-1": 1 << 30, "a-longer-name": 1 << 20} {
		if _, err := b.disk.Create(ctx, backend.Request{ID: backend.ID(name), Name: name, Size: size}); err != nil {
			t.Fatal(err)
		}
	}
	b.until("both are listed, in columns", func() bool {
		out.Reset()
		if err := listOrphans(ctx, b.Client, &out, time.Now()); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out.String(), "\n")
		return len(lines) == 4 && strings.Index(lines[0], "WHY") == strings.Index(lines[1], "on the storage") &&
			strings.Index(lines[0], "WHY") == strings.Index(lines[2], "on the storage") && strings.HasPrefix(lines[1], "n1/fast/a-longer-name  1Mi ")
	})
	t.Logf("\n%s", &out)

	no := func(o orphans.Orphan) error { return confirm(strings.NewReader("no\n"), &out, o) }
	if err := deleteOrphan(ctx, b.Client, "n1/fast/pvc-1", no); err != errNotConfirmed {
		t.Errorf("not confirmed: %v", err)
	}
	yes := func(o orphans.Orphan) error { return confirm(strings.NewReader("yes\n"), &out, o) }
	if err := deleteOrphan(ctx, b.Client, "n1/fast/pvc-1", yes); err != nil {
		t.Error(err)
	}
	if _, err := b.disk.Get(ctx, "pvc-1"); !errs.Is(err, errs.NotFound) {
		t.Errorf("it is there: %v", err)
	}
	if _, err := b.disk.Get(ctx, "a-longer-name"); err != nil {
		t.Errorf("the other went too: %v", err)
	}
}
