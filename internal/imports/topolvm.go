package imports

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/errs"
)

// topolvmGroups are the names that TopoLVM has, and had before: of its API group and of its CSI driver.
var topolvmGroups = []string{"topolvm.io", "topolvm.cybozu.com"}

// FromTopoLVM reads which volumes of TopoLVM there are; with a claim only that one's. poolOf names the pool for
// a device class. TopoLVM calls the LV of a volume by the UID of its LogicalVolume, which is the handle of the
// PersistentVolume too.
func (i *Importer) FromTopoLVM(ctx context.Context, claim client.ObjectKey, poolOf func(deviceClass string) string) ([]Move, error) {
	logical, err := i.logicalVolumes(ctx)
	if err != nil {
		return nil, err
	}
	return i.moves(ctx, "TopoLVM", topolvmGroups, claim, func(m *Move) error {
		handle := m.Request.From
		l, ok := logical[handle]
		if !ok {
			return errs.E(errs.NotFound, "PersistentVolume %s: there is no LogicalVolume with the volumeID %s, which says on which node it is", m.Old.Name, handle)
		}
		m.Is, m.Forget = "on node "+l.node+", logical volume "+handle, append(m.Forget, l.resource+" "+l.name)
		m.Request.Node, m.Request.Pool = l.node, poolOf(l.class)
		if m.Request.Pool == "" {
			return errs.E(errs.Invalid, "PersistentVolume %s is of TopoLVM's default device class, which has no name here: name the pool (--pool)", m.Old.Name)
		}
		return nil
	})
}

// logicalVolume is what is needed of TopoLVM's object.
type logicalVolume struct{ name, resource, node, class string }

// logicalVolumes are TopoLVM's objects by their volumeID, of both names of its API.
func (i *Importer) logicalVolumes(ctx context.Context) (map[string]logicalVolume, error) {
	all := map[string]logicalVolume{}
	for _, group := range topolvmGroups {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1", Kind: "LogicalVolumeList"})
		err := i.Client.List(ctx, list)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, asked("LogicalVolumes of "+group, err)
		}
		for _, o := range list.Items {
			field := func(path ...string) string { s, _, _ := unstructured.NestedString(o.Object, path...); return s }
			if id := field("status", "volumeID"); id != "" {
				all[id] = logicalVolume{o.GetName(), "logicalvolumes." + group, field("spec", "nodeName"), field("spec", "deviceClass")}
			}
		}
	}
	return all, nil
}
