package imports

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pv"
)

// persistentVolume is what the sidecars would make of the volume. It is kept when its claim is deleted: what
// was there before Dozo is not Dozo's to throw away.
func (i *Importer) persistentVolume(r Request, t target, v backend.Volume) (*corev1.PersistentVolume, error) {
	attributes, err := i.Attributes(v)
	if err != nil {
		return nil, err
	}
	mode := corev1.PersistentVolumeFilesystem
	if r.Block {
		mode = corev1.PersistentVolumeBlock
	}
	p := &corev1.PersistentVolume{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"},
		// csi-provisioner deletes only volumes that say that it made them, should somebody change the policy.
		ObjectMeta: metav1.ObjectMeta{Name: r.Name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": t.driver()}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(v.Size, resource.BinarySI)},
			AccessModes: accessModes(r, v), VolumeMode: &mode, StorageClassName: r.Class,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: t.driver(), VolumeHandle: pv.Handle(r.Pool, v.ID), FSType: r.FSType, VolumeAttributes: attributes, NodeStageSecretRef: t.secret,
			}},
		},
	}
	if r.Node != "" {
		p.Spec.NodeAffinity = pv.OnNode(r.Node)
	}
	if r.Claim.Name != "" {
		p.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: r.Claim.Namespace, Name: r.Claim.Name}
	}
	if t.class != nil {
		p.Spec.MountOptions = t.class.MountOptions
	}
	return p, nil
}

func accessModes(r Request, v backend.Volume) []corev1.PersistentVolumeAccessMode {
	switch {
	case len(r.AccessModes) > 0:
		return r.AccessModes
	case v.Access.Mount != nil:
		return []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	}
	return []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
}

// class is that of a PersistentVolume; nil if there is none: a class is a name, and it need not be there.
func (i *Importer) class(ctx context.Context, name string) (*storagev1.StorageClass, error) {
	if name == "" {
		return nil, nil
	}
	c := &storagev1.StorageClass{}
	err := i.Client.Get(ctx, client.ObjectKey{Name: name}, c)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return c, asked("class "+name, err)
}

// ofDriver reports whether the class is one of the driver's, so that its parameters mean something to it.
func (t target) ofDriver() bool { return t.class != nil && t.class.Provisioner == t.driver() }

// nodeSecret is the Secret that the node gets, of CHAP, as csi-provisioner reads it from the class. What is on a node has none: it is
// imported as it is, and not encrypted.
func nodeSecret(t target, r Request) (*corev1.SecretReference, error) {
	const key = "csi.storage.k8s.io/node-stage-secret-"
	if r.Node != "" || !t.ofDriver() || t.class.Parameters[key+"name"] == "" {
		return nil, nil
	}
	known := []string{"${pv.name}", r.Name}
	if r.Claim.Name != "" {
		known = append(known, "${pvc.name}", r.Claim.Name, "${pvc.namespace}", r.Claim.Namespace)
	}
	fill := strings.NewReplacer(known...)
	ref := &corev1.SecretReference{Name: fill.Replace(t.class.Parameters[key+"name"]), Namespace: fill.Replace(t.class.Parameters[key+"namespace"])}
	if strings.Contains(ref.Name+ref.Namespace, "${") {
		return nil, errs.E(errs.Invalid, "class %s: parameters[%q] and its namespace are %q and %q, of which not all can be filled in; say the claim (--claim), or use another class", t.class.Name, key+"name", ref.Name, ref.Namespace)
	}
	return ref, nil
}
