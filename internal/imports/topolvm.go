package imports

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// topolvmGroups are the names that TopoLVM has, and had before: of its API group and of its CSI driver.
var topolvmGroups = []string{"topolvm.io", "topolvm.cybozu.com"}

// Move is a volume of TopoLVM and what becomes of it. TopoLVM calls the LV of a volume by the UID of its
// LogicalVolume, which is the handle of the PersistentVolume too.
type Move struct {
	Old           *corev1.PersistentVolume
	LogicalVolume string                        // the object's name
	Resource      string                        // of the object, as kubectl has it
	Claim         *corev1.PersistentVolumeClaim // nil: it is gone, or another's by now
	Pods          []string                      // that use the claim, and have to end first
	Request       Request
}

// Moves reads which volumes of TopoLVM there are; with a claim only that one's. poolOf names the pool for
// a device class.
func (i *Importer) Moves(ctx context.Context, claim client.ObjectKey, poolOf func(deviceClass string) string) ([]Move, error) {
	var pvs corev1.PersistentVolumeList
	if err := i.Client.List(ctx, &pvs); err != nil {
		return nil, asked("PersistentVolumes", err)
	}
	logical, err := i.logicalVolumes(ctx)
	if err != nil {
		return nil, err
	}
	var all []Move
	for n := range pvs.Items {
		old := &pvs.Items[n]
		if old.Spec.CSI == nil || !slices.Contains(topolvmGroups, old.Spec.CSI.Driver) || claim.Name != "" && claimOf(old) != claim {
			continue
		}
		l, ok := logical[old.Spec.CSI.VolumeHandle]
		if !ok {
			return nil, errs.E(errs.NotFound, "PersistentVolume %s: there is no LogicalVolume with the volumeID %s, which says on which node it is", old.Name, old.Spec.CSI.VolumeHandle)
		}
		m, err := i.move(ctx, old, l, poolOf)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	if claim.Name != "" && len(all) == 0 {
		return nil, errs.E(errs.NotFound, "claim %s has no PersistentVolume of TopoLVM", claim)
	}
	slices.SortFunc(all, func(a, b Move) int { return cmp.Compare(claimOf(a.Old).String(), claimOf(b.Old).String()) })
	return all, nil
}

func claimOf(p *corev1.PersistentVolume) client.ObjectKey {
	if p.Spec.ClaimRef == nil {
		return client.ObjectKey{}
	}
	return client.ObjectKey{Namespace: p.Spec.ClaimRef.Namespace, Name: p.Spec.ClaimRef.Name}
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

func (i *Importer) move(ctx context.Context, old *corev1.PersistentVolume, l logicalVolume, poolOf func(string) string) (Move, error) {
	size := old.Spec.Capacity[corev1.ResourceStorage]
	m := Move{Old: old, LogicalVolume: l.name, Resource: l.resource, Request: Request{
		Name: volumeName("dozo-" + old.Name), Node: l.node, Pool: poolOf(l.class), From: old.Spec.CSI.VolumeHandle, Size: size.Value(),
		Claim: claimOf(old), Class: old.Spec.StorageClassName, FSType: old.Spec.CSI.FSType, AccessModes: old.Spec.AccessModes,
		Block: old.Spec.VolumeMode != nil && *old.Spec.VolumeMode == corev1.PersistentVolumeBlock,
	}}
	if m.Request.Pool == "" {
		return m, errs.E(errs.Invalid, "PersistentVolume %s is of TopoLVM's default device class, which has no name here: name the pool (--pool)", old.Name)
	}
	if m.Request.Claim.Name == "" {
		return m, nil
	}
	c := &corev1.PersistentVolumeClaim{}
	err := i.Client.Get(ctx, m.Request.Claim, c)
	if client.IgnoreNotFound(err) != nil {
		return m, asked("claim "+m.Request.Claim.String(), err)
	}
	if err == nil && c.Spec.VolumeName == old.Name {
		m.Claim = c
		m.Pods, err = i.podsOf(ctx, m.Request.Claim)
		return m, err
	}
	return m, nil
}

// volumeName is a name that can be an ID too.
func volumeName(name string) string { return string(backend.IDFor(name)) }

// podsOf are the pods that use a claim and have not ended.
func (i *Importer) podsOf(ctx context.Context, claim client.ObjectKey) (names []string, err error) {
	var pods corev1.PodList
	if err := i.Client.List(ctx, &pods, client.InNamespace(claim.Namespace)); err != nil {
		return nil, asked("pods", err)
	}
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, v := range p.Spec.Volumes {
			if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name || v.Ephemeral != nil && p.Name+"-"+v.Name == claim.Name {
				names = append(names, p.Name)
			}
		}
	}
	return names, nil
}

// Do does of a move what cannot lose anything: it has the old PersistentVolume kept when its claim is deleted,
// takes the LV for a volume, which nobody may use, and makes the PersistentVolume that waits for the claim.
// errs.InUse while pods use it.
func (i *Importer) Do(ctx context.Context, m Move) (Objects, error) {
	if len(m.Pods) > 0 {
		return Objects{}, errs.E(errs.InUse, "claim %s is used by pods: %v; end them first", m.Request.Claim, m.Pods)
	}
	if m.Old.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
		before := m.Old.DeepCopy()
		m.Old.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		if err := i.Client.Patch(ctx, m.Old, client.MergeFrom(before)); err != nil {
			return Objects{}, asked("PersistentVolume "+m.Old.Name, err)
		}
	}
	return i.Import(ctx, m.Request)
}

// NewClaim is the claim that takes the place of the old one, bound to the new PersistentVolume.
func (m Move) NewClaim(p *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{}
	c.APIVersion, c.Kind = "v1", "PersistentVolumeClaim"
	c.Namespace, c.Name, c.Labels = m.Claim.Namespace, m.Claim.Name, m.Claim.Labels
	c.Spec = corev1.PersistentVolumeClaimSpec{
		AccessModes: m.Claim.Spec.AccessModes, Resources: m.Claim.Spec.Resources, VolumeMode: m.Claim.Spec.VolumeMode,
		StorageClassName: &p.Spec.StorageClassName, VolumeName: p.Name,
	}
	return c
}
