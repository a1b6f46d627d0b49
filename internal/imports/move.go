package imports

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Move is a volume of another driver and what becomes of it.
type Move struct {
	Old     *corev1.PersistentVolume
	Is      string                        // what and where it is, for people
	Claim   *corev1.PersistentVolumeClaim // nil: it is gone, or another's by now
	Pods    []string                      // that use the claim, and have to end first
	Nodes   []string                      // that it is attached to, which has to end by itself
	Forget  []string                      // objects that only remember it afterwards, each as kubectl has it: "pv NAME"
	Refused error                         // why it cannot be moved; nil: it can
	Request Request
}

// moves reads which volumes of a driver there are, by any of its names; with a claim only that one's. of says what is particular to one.
func (i *Importer) moves(ctx context.Context, whose string, drivers []string, claim client.ObjectKey, of func(*Move) error) ([]Move, error) {
	var pvs corev1.PersistentVolumeList
	if err := i.Client.List(ctx, &pvs); err != nil {
		return nil, asked("PersistentVolumes", err)
	}
	attached, err := i.attached(ctx)
	if err != nil {
		return nil, err
	}
	var all []Move
	for n := range pvs.Items {
		old := &pvs.Items[n]
		if old.Spec.CSI == nil || !slices.Contains(drivers, old.Spec.CSI.Driver) || claim.Name != "" && claimOf(old) != claim {
			continue
		}
		m, err := i.move(ctx, old)
		if err == nil {
			err = of(&m)
		}
		if err != nil {
			return nil, err
		}
		m.Nodes = attached[old.Name]
		all = append(all, m)
	}
	if claim.Name != "" && len(all) == 0 {
		return nil, errs.E(errs.NotFound, "claim %s has no PersistentVolume of %s", claim, whose)
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

// attached are the nodes that PersistentVolumes are attached to, by their names.
func (i *Importer) attached(ctx context.Context) (map[string][]string, error) {
	var all storagev1.VolumeAttachmentList
	if err := i.Client.List(ctx, &all); err != nil {
		return nil, asked("VolumeAttachments", err)
	}
	nodes := map[string][]string{}
	for _, a := range all.Items {
		if name := a.Spec.Source.PersistentVolumeName; name != nil {
			nodes[*name] = append(nodes[*name], a.Spec.NodeName)
		}
	}
	return nodes, nil
}

// move is what all moves have in common.
func (i *Importer) move(ctx context.Context, old *corev1.PersistentVolume) (Move, error) {
	size := old.Spec.Capacity[corev1.ResourceStorage]
	m := Move{Old: old, Forget: []string{"pv " + old.Name}, Request: Request{
		Name: volumeName("dozo-" + old.Name), From: old.Spec.CSI.VolumeHandle, Size: size.Value(),
		Claim: claimOf(old), Class: old.Spec.StorageClassName, FSType: old.Spec.CSI.FSType, AccessModes: old.Spec.AccessModes,
		Block: old.Spec.VolumeMode != nil && *old.Spec.VolumeMode == corev1.PersistentVolumeBlock,
	}}
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
// takes the storage for a volume, which nobody may use, and makes the PersistentVolume that waits for the claim.
// errs.InUse while pods use it, or a node has it.
func (i *Importer) Do(ctx context.Context, m Move) (Objects, error) {
	if m.Refused != nil {
		return Objects{}, m.Refused
	}
	if len(m.Pods) > 0 {
		return Objects{}, errs.E(errs.InUse, "claim %s is used by pods: %v; end them first", m.Request.Claim, m.Pods)
	}
	if len(m.Nodes) > 0 {
		return Objects{}, errs.E(errs.InUse, "PersistentVolume %s is attached to nodes: %v; that ends soon after the last pod, see kubectl get volumeattachments", m.Old.Name, m.Nodes)
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
