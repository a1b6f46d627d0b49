package api_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/test/lab/api"
)

func pool(name string) *v1alpha1.Pool {
	return &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PoolSpec{Kind: "fake"}}
}

func item(name string) v1alpha1.ItemSpec {
	return v1alpha1.ItemSpec{Node: "n1", Pool: "fast", Name: name}
}

func volume(name string) *v1alpha1.NodeVolume {
	return &v1alpha1.NodeVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.NodeVolumeSpec{ItemSpec: item("pvc-1"), Size: resource.MustParse("1Gi")},
	}
}

func snapshot(name string) *v1alpha1.NodeSnapshot {
	return &v1alpha1.NodeSnapshot{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.NodeSnapshotSpec{ItemSpec: item("snap-1"), Volume: "pvc-1"},
	}
}

// TestValidation holds the definitions to a real API server: what it must refuse, and with which words.
func TestValidation(t *testing.T) {
	s := api.Start(t)
	ctx := t.Context()
	made := volume("fast.pvc-1")
	made.Spec.Limit = resource.NewQuantity(2<<30, resource.BinarySI)
	made.Spec.Parameters = map[string]string{"colour": "red"}
	for _, o := range []client.Object{pool("fast"), made, snapshot("fast.snap-1")} {
		if err := s.Client.Create(ctx, o); err != nil {
			t.Fatalf("create %T: %v", o, err)
		}
	}
	t.Run("create", func(t *testing.T) {
		both := volume("fast.pvc-2")
		both.Spec.Source = &v1alpha1.VolumeSource{Snapshot: "a", Volume: "b"}
		imported := volume("fast.pvc-3")
		imported.Spec.Source, imported.Spec.ImportFrom = &v1alpha1.VolumeSource{Volume: "a"}, "vg0/data"
		for _, c := range []struct {
			what string
			o    client.Object
			says string
		}{
			{"a pool's name with a dot", pool("fa.st"), "part of every volume's handle"},
			{"a long name of a pool", pool(strings.Repeat("x", 64)), "part of every volume's handle"},
			{"a volume of another pool's name", volume("slow.pvc-1"), "the pool, a dot and the volume's ID"},
			{"a volume without an ID", volume("fast.x"[:4]), "the pool, a dot and the volume's ID"},
			{"a snapshot of another pool's name", snapshot("slow.snap-1"), "the pool, a dot and the snapshot's ID"},
			{"two sources", both, "exactly one"},
			{"an import that is a copy", imported, "no copy of a source"},
		} {
			if err := s.Client.Create(ctx, c.o); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want an error with %q", c.what, err, c.says)
			}
		}
	})
	t.Run("update", func(t *testing.T) {
		for _, c := range []struct {
			what   string
			change func(*v1alpha1.NodeVolume)
			says   string // "": allowed
		}{
			{"node", func(v *v1alpha1.NodeVolume) { v.Spec.Node = "n2" }, "stays where it is"},
			{"pool", func(v *v1alpha1.NodeVolume) { v.Spec.Pool = "slow" }, "stays where it is"},
			{"name", func(v *v1alpha1.NodeVolume) { v.Spec.Name = "other" }, "name cannot be changed"},
			{"limit", func(v *v1alpha1.NodeVolume) { v.Spec.Limit = nil }, "limit: cannot be changed"},
			{"parameters", func(v *v1alpha1.NodeVolume) { v.Spec.Parameters["colour"] = "blue" }, "parameters: cannot be changed"},
			{"source", func(v *v1alpha1.NodeVolume) { v.Spec.Source = &v1alpha1.VolumeSource{Volume: "a"} }, "source: cannot be changed"},
			{"import", func(v *v1alpha1.NodeVolume) { v.Spec.ImportFrom = "vg0/data" }, "importFrom: cannot be changed"},
			{"grow", func(v *v1alpha1.NodeVolume) { v.Spec.Size = resource.MustParse("3Gi") }, ""},
			{"absent", func(v *v1alpha1.NodeVolume) { v.Spec.Absent = true }, ""},
			{"attempt", func(v *v1alpha1.NodeVolume) { v.Spec.Attempt++ }, ""},
		} {
			v := &v1alpha1.NodeVolume{}
			if err := s.Client.Get(ctx, client.ObjectKeyFromObject(made), v); err != nil {
				t.Fatal(err)
			}
			c.change(v)
			err := s.Client.Update(ctx, v)
			if c.says == "" && err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s: %v, want an error with %q", c.what, err, c.says)
			}
		}
		p := pool("fast")
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
			t.Fatal(err)
		}
		if p.Spec.Placement != v1alpha1.Spread {
			t.Errorf("placement is %q without one given", p.Spec.Placement)
		}
		p.Spec.Kind = "loopfile"
		if err := s.Client.Update(ctx, p); err == nil || !strings.Contains(err.Error(), "make another pool") {
			t.Errorf("another kind: %v", err)
		}
	})
	t.Run("by node", func(t *testing.T) {
		for node, want := range map[string]int{"n1": 1, "n2": 0} {
			var volumes v1alpha1.NodeVolumeList
			if err := s.Client.List(ctx, &volumes, client.MatchingFields{"spec.node": node}); err != nil {
				t.Fatal(err)
			}
			var snapshots v1alpha1.NodeSnapshotList
			if err := s.Client.List(ctx, &snapshots, client.MatchingFields{"spec.node": node}); err != nil {
				t.Fatal(err)
			}
			if len(volumes.Items) != want || len(snapshots.Items) != want {
				t.Errorf("node %s has %d volumes and %d snapshots, want %d", node, len(volumes.Items), len(snapshots.Items), want)
			}
		}
	})
}
