// Package imports brings storage that was there before Dozo into a cluster: an object asks a node to take it
// for a volume, and a PersistentVolume is made of that, as for a volume that Dozo made.
package imports

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pv"
)

// Importer imports into a cluster.
type Importer struct {
	Client client.Client
	// Attributes are those of the PersistentVolume of a volume, as the driver gives them to volumes that it makes.
	Attributes func(backend.Volume) (map[string]string, error)
}

// Request asks for an import.
type Request struct {
	Name string // of the PersistentVolume and the volume
	Node string
	Pool string
	From string // what the storage calls it; see [backend.Importer]
	Size int64  // bytes that it is known to have at least; 0: not known

	Claim       client.ObjectKey // that may have it; the zero key: any
	Class       string           // of the PersistentVolume, "" for none: that of the claim
	FSType      string           // "": whatever is on it
	Block       bool             // it is used as a block device
	AccessModes []corev1.PersistentVolumeAccessMode
}

// Objects are what an import makes.
type Objects struct {
	Volume           *v1alpha1.NodeVolume
	PersistentVolume *corev1.PersistentVolume
}

// Plan works out what Import would make, without changing anything. The capacity of the PersistentVolume is
// what is known of it.
func (i *Importer) Plan(ctx context.Context, r Request) (Objects, error) {
	id, err := backend.ParseID(r.Name)
	if err != nil {
		return Objects{}, errs.E(errs.Invalid, "name: %q is to be that of a volume and a PersistentVolume: 1 to %d of a-z, 0-9 and inner hyphens", r.Name, backend.MaxIDLength)
	}
	p := &v1alpha1.Pool{}
	if err := i.Client.Get(ctx, client.ObjectKey{Name: r.Pool}, p); err != nil {
		return Objects{}, asked("pool "+r.Pool, err)
	}
	if p.DeletionTimestamp != nil {
		return Objects{}, errs.E(errs.Invalid, "pool %s is being deleted", r.Pool)
	}
	if err := i.onNode(ctx, r); err != nil {
		return Objects{}, err
	}
	v := record.NewVolume(r.Pool, r.Node, backend.Request{ID: id, Name: r.Name, Size: r.Size})
	v.Spec.ImportFrom = r.From
	persistent, err := i.persistentVolume(ctx, r, pv.Driver(p.Spec.Kind), backend.Volume{
		ID: id, Name: r.Name, Size: r.Size, Nodes: []string{r.Node}, Access: backend.LocalAccess(r.Pool, id),
	})
	return Objects{v, persistent}, err
}

// onNode refuses a pool that its node does not have: nobody would answer.
func (i *Importer) onNode(ctx context.Context, r Request) error {
	n := &v1alpha1.NodeStorage{}
	if err := i.Client.Get(ctx, client.ObjectKey{Name: r.Node}, n); err != nil {
		return asked("node "+r.Node, err)
	}
	for _, p := range n.Status.Pools {
		if p.Name == r.Pool {
			return nil
		}
	}
	return errs.E(errs.Invalid, "node %s does not have pool %s; kubectl describe nodestorage %s", r.Node, r.Pool, r.Node)
}

// persistentVolume is what the sidecars would make of the volume. It is kept when its claim is deleted: what
// was there before Dozo is not Dozo's to throw away.
func (i *Importer) persistentVolume(ctx context.Context, r Request, driver string, v backend.Volume) (*corev1.PersistentVolume, error) {
	attributes, err := i.Attributes(v)
	if err != nil {
		return nil, err
	}
	mode := corev1.PersistentVolumeFilesystem
	if r.Block {
		mode = corev1.PersistentVolumeBlock
	}
	if len(r.AccessModes) == 0 {
		r.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	}
	p := &corev1.PersistentVolume{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"},
		// csi-provisioner deletes only volumes that say that it made them, should somebody change the policy.
		ObjectMeta: metav1.ObjectMeta{Name: r.Name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": driver}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(v.Size, resource.BinarySI)},
			AccessModes: r.AccessModes, VolumeMode: &mode, StorageClassName: r.Class,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: driver, VolumeHandle: pv.Handle(r.Pool, v.ID), FSType: r.FSType, VolumeAttributes: attributes,
			}},
			NodeAffinity: pv.OnNode(r.Node),
		},
	}
	if r.Claim.Name != "" {
		p.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: r.Claim.Namespace, Name: r.Claim.Name}
	}
	return p, i.mountOptions(ctx, p)
}

// mountOptions are those of the class, as for a volume that is made for it.
func (i *Importer) mountOptions(ctx context.Context, p *corev1.PersistentVolume) error {
	if p.Spec.StorageClassName == "" {
		return nil
	}
	class := &storagev1.StorageClass{}
	err := i.Client.Get(ctx, client.ObjectKey{Name: p.Spec.StorageClassName}, class)
	if apierrors.IsNotFound(err) {
		return nil // a class is a name: it need not be there
	}
	if err != nil {
		return asked("class "+p.Spec.StorageClassName, err)
	}
	p.Spec.MountOptions = class.MountOptions
	return nil
}

// Import makes the volume and its PersistentVolume. It can be repeated: what is made is found.
func (i *Importer) Import(ctx context.Context, r Request) (Objects, error) {
	o, err := i.Plan(ctx, r)
	if err != nil {
		return Objects{}, err
	}
	if o.Volume, err = i.volume(ctx, o.Volume); err != nil {
		return Objects{}, err
	}
	o.PersistentVolume.Spec.Capacity[corev1.ResourceStorage] = *o.Volume.Status.Size
	if err := i.Client.Create(ctx, o.PersistentVolume); err != nil {
		if !apierrors.IsAlreadyExists(err) {
			return Objects{}, asked("PersistentVolume "+r.Name, err)
		}
		there := &corev1.PersistentVolume{}
		if err := i.Client.Get(ctx, client.ObjectKey{Name: r.Name}, there); err != nil {
			return Objects{}, asked("PersistentVolume "+r.Name, err)
		}
		if there.Spec.CSI == nil || there.Spec.CSI.VolumeHandle != o.PersistentVolume.Spec.CSI.VolumeHandle || there.Spec.CSI.Driver != o.PersistentVolume.Spec.CSI.Driver {
			return Objects{}, errs.E(errs.Exists, "PersistentVolume %s is there and another volume's; choose another name (--name)", r.Name)
		}
		o.PersistentVolume = there
	}
	return o, nil
}

// volume asks the node, waits for its answer, and notes the size that there turned out to be.
func (i *Importer) volume(ctx context.Context, v *v1alpha1.NodeVolume) (*v1alpha1.NodeVolume, error) {
	wish := v.DeepCopy()
	if err := i.Client.Create(ctx, v); apierrors.IsAlreadyExists(err) {
		if err := i.Client.Get(ctx, client.ObjectKeyFromObject(v), v); err != nil {
			return nil, asked("NodeVolume "+v.Name, err)
		}
		if v.Spec.Node != wish.Spec.Node || v.Spec.ImportFrom != wish.Spec.ImportFrom || v.Spec.Name != wish.Spec.Name {
			return nil, errs.E(errs.Exists, "NodeVolume %s is there and another's (%s on node %s); choose another name (--name)", v.Name, v.Spec.ImportFrom, v.Spec.Node)
		}
		if v.Status.ID == "" && record.Answered(v) { // refused before: it may be possible by now
			v.Spec.Attempt++
			if err := i.Client.Update(ctx, v); err != nil {
				return nil, asked("NodeVolume "+v.Name, err)
			}
		}
	} else if err != nil {
		return nil, asked("NodeVolume "+v.Name, err)
	}
	if err := i.answer(ctx, v); err != nil {
		return nil, err
	}
	if v.Status.Size == nil || v.Spec.Size.Cmp(*v.Status.Size) >= 0 {
		return v, nil
	}
	before := v.DeepCopy()
	v.Spec.Size = *v.Status.Size
	return v, asked("NodeVolume "+v.Name, i.Client.Patch(ctx, v, client.MergeFrom(before)))
}

// poll is how often an answer is looked for. A person waits.
const poll = 200 * time.Millisecond

// answer waits for what the node says. What it refused is taken back, so that it is not done later.
func (i *Importer) answer(ctx context.Context, v *v1alpha1.NodeVolume) error {
	for {
		if err := i.Client.Get(ctx, client.ObjectKeyFromObject(v), v); err != nil && ctx.Err() == nil {
			return asked("NodeVolume "+v.Name, err)
		}
		if record.Answered(v) {
			break
		}
		select {
		case <-ctx.Done():
			return errs.E(errs.Aborted, "waiting for node %s: %w; run the command again, or take it back: kubectl delete nodevolume %s", v.Spec.Node, ctx.Err(), v.Name)
		case <-time.After(poll):
		}
	}
	refusal := record.Answer(v)
	if refusal == nil || v.Status.ID != "" {
		return refusal
	}
	// Only as it was read: deleting the object of a volume deletes the volume, and it may be one by now.
	if err := i.Client.Delete(ctx, v, client.Preconditions{UID: &v.UID, ResourceVersion: &v.ResourceVersion}); client.IgnoreNotFound(err) != nil {
		return errs.E(errs.KindOf(refusal), "%w (and NodeVolume %s still asks for it: %w)", refusal, v.Name, err)
	}
	return refusal
}

// asked classifies what the API server said.
func asked(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return errs.E(errs.NotFound, "%s: there is none: %w", what, err)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		return errs.E(errs.Invalid, "%s: %w", what, err)
	}
	return errs.E(errs.Unavailable, "%s: the API server: %w", what, err)
}
