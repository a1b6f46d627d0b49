// Package claims reads from a pod which volumes of ours it is still to get: how large, in which pool,
// and on which node if that is settled.
package claims

import (
	"context"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// The words of a storage class's parameters and of the attributes of a CSI inline volume.
const (
	paramPool = "pool"
	paramSize = "size" // of inline volumes, as "10Gi"
)

// SelectedNodeAnnotation is the scheduler's choice for a claim. The provisioner takes it back if it cannot be.
const SelectedNodeAnnotation = "volume.kubernetes.io/selected-node"

// The other words of Kubernetes that matter here.
const (
	defaultClass = "storageclass.kubernetes.io/is-default-class" // on a class
	betaClass    = "volume.beta.kubernetes.io/storage-class"     // on old claims; it wins over the field
	driverSuffix = ".dozo.dev"                                   // of a kind's CSI driver
	claimKind    = "PersistentVolumeClaim"                       // of a data source
	snapshotKind = "VolumeSnapshot"                              // of a data source
)

// Volume is one that is still to be made.
type Volume struct {
	Key     string // names it in this cluster for as long as its claim, or its pod, exists
	Name    string // for people: "claim namespace/name" or "volume name"
	Kind    string // of its pool
	Pool    string // empty if its class names none
	Bytes   int64  // as large as it will be made at least
	Node    string // where it has to be: chosen before, or where the source of a copy is; empty: anywhere
	Settled bool   // Node was chosen, and the volume is being made there
}

// Reader asks for the objects. Those in the cache may be older than what kube-scheduler or the API server
// has: what is not found there is asked for again, live.
type Reader struct {
	Cache client.Reader
	Live  client.Client
	Kinds []backend.Kind // those whose volumes matter: node-bound ones
}

func (r Reader) sources() Sources { return Sources{Cache: r.Cache, Live: r.Live} }

// liveTimeout bounds a question to the API server. kube-scheduler waits for us.
const liveTimeout = time.Second

// Of returns the volumes that a pod is still to get, each once. Claims that are bound, that are bound
// without a pod (Immediate) or that are of other drivers are not among them. errs.NotFound if a claim does
// not exist, errs.Invalid if a volume is not described so that it could be made, errs.Unavailable if the
// API server does not answer.
func (r Reader) Of(ctx context.Context, pod *corev1.Pod) ([]Volume, error) {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	var all []Volume
	seen := map[string]bool{}
	for i := range pod.Spec.Volumes {
		v, ok, err := r.volume(ctx, pod, &pod.Spec.Volumes[i])
		if err != nil {
			return nil, err
		}
		if ok && !seen[v.Key] {
			seen[v.Key] = true
			all = append(all, v)
		}
	}
	return all, nil
}

// volume returns what has to be made for one volume of a pod, if anything.
func (r Reader) volume(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (Volume, bool, error) {
	switch {
	case v.PersistentVolumeClaim != nil:
		var claim corev1.PersistentVolumeClaim
		key := client.ObjectKey{Namespace: pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName}
		if err := r.sources().get(ctx, key, &claim); err != nil {
			return Volume{}, false, wrap(err, "claim %s", key)
		}
		return r.OfClaim(ctx, &claim)
	case v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil:
		return r.ephemeral(ctx, pod, v)
	case v.CSI != nil:
		return r.inline(pod, v)
	}
	return Volume{}, false, nil
}

// ephemeral is about the claim that Kubernetes makes for a pod from a template. It may not be there yet.
func (r Reader) ephemeral(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (Volume, bool, error) {
	claim := corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: pod.Namespace, Name: pod.Name + "-" + v.Name}
	err := r.Cache.Get(ctx, key, &claim)
	switch {
	case err == nil && metav1.IsControlledBy(&claim, pod):
		return r.OfClaim(ctx, &claim)
	case err == nil:
		return Volume{}, false, errs.E(errs.Exists, "claim %s: it is not of this pod; remove it, or rename the volume %s", key, v.Name)
	case !apierrors.IsNotFound(err):
		return Volume{}, false, wrap(err, "claim %s", key)
	}
	claim.Namespace, claim.Name, claim.Spec = key.Namespace, key.Name, v.Ephemeral.VolumeClaimTemplate.Spec
	if claim.Spec.StorageClassName == nil {
		if claim.Spec.StorageClassName, err = r.defaultClass(ctx); err != nil {
			return Volume{}, false, err
		}
	}
	return r.OfClaim(ctx, &claim)
}

// inline is about a volume whose attributes are in the pod, which the node makes for it.
func (r Reader) inline(pod *corev1.Pod, v *corev1.Volume) (Volume, bool, error) {
	kind, ok := r.kind(v.CSI.Driver)
	if !ok {
		return Volume{}, false, nil
	}
	size, err := backend.ParseSize(v.CSI.VolumeAttributes[paramSize])
	if err != nil {
		return Volume{}, false, errs.E(errs.Invalid, "volume %s: csi.volumeAttributes[%q]: %w", v.Name, paramSize, err)
	}
	return Volume{
		Key: InlineKey(pod, v.Name), Name: "volume " + v.Name,
		Kind: kind.Name, Pool: v.CSI.VolumeAttributes[paramPool], Bytes: round(kind, size),
	}, true, nil
}

// InlineKey is the key of an inline volume.
func InlineKey(pod *corev1.Pod, volume string) string { return "pod/" + string(pod.UID) + "/" + volume }

// ClaimKey is the key of a claim's volume.
func ClaimKey(namespace, name string) string { return "claim/" + namespace + "/" + name }

// OfClaim returns the volume that is still to be made for a claim, if any. Errors as with [Reader.Of].
func (r Reader) OfClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) (Volume, bool, error) {
	name := className(claim)
	if claim.Spec.VolumeName != "" || name == "" {
		return Volume{}, false, nil
	}
	var class storagev1.StorageClass
	switch err := r.sources().get(ctx, client.ObjectKey{Name: name}, &class); {
	case apierrors.IsNotFound(err): // a claim for a volume that somebody makes by hand
		return Volume{}, false, nil
	case err != nil:
		return Volume{}, false, wrap(err, "storage class %s", name)
	}
	kind, ok := r.kind(class.Provisioner)
	if !ok || class.VolumeBindingMode == nil || *class.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer {
		return Volume{}, false, nil
	}
	request := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	v := Volume{
		Key: ClaimKey(claim.Namespace, claim.Name), Name: "claim " + claim.Namespace + "/" + claim.Name,
		Kind: kind.Name, Pool: class.Parameters[paramPool], Bytes: round(kind, request.Value()),
		Node: SelectedNode(claim),
	}
	v.Settled = v.Node != ""
	if v.Settled {
		return v, true, nil
	}
	var err error
	if v.Node, err = r.sources().Node(ctx, claim, class.Provisioner); err != nil {
		return Volume{}, false, err
	}
	return v, true, nil
}

// kind returns the kind whose driver has the name.
func (r Reader) kind(driver string) (backend.Kind, bool) {
	for _, k := range r.Kinds {
		if k.NodeBound && k.Name+driverSuffix == driver {
			return k, true
		}
	}
	return backend.Kind{}, false
}

// round returns the size that a volume gets, in bytes.
func round(k backend.Kind, bytes int64) int64 {
	bytes = max(bytes, k.MinSize, 1)
	g := max(k.Granularity, 1)
	if bytes > math.MaxInt64-g {
		return math.MaxInt64
	}
	return (bytes + g - 1) / g * g
}

// className returns the name of a claim's class, empty for none.
func className(c *corev1.PersistentVolumeClaim) string {
	if name, ok := c.Annotations[betaClass]; ok {
		return name
	}
	if c.Spec.StorageClassName == nil {
		return "" // nor was there a default class when it was made
	}
	return *c.Spec.StorageClassName
}

// defaultClass returns the class that a claim without one will get: the youngest default, as Kubernetes
// has it.
func (r Reader) defaultClass(ctx context.Context) (*string, error) {
	var classes storagev1.StorageClassList
	if err := r.Cache.List(ctx, &classes); err != nil {
		return nil, wrap(err, "storage classes")
	}
	var best *storagev1.StorageClass
	for i := range classes.Items {
		c := &classes.Items[i]
		if c.Annotations[defaultClass] != "true" {
			continue
		}
		if best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp) ||
			(best.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < best.Name) {
			best = c
		}
	}
	if best == nil {
		return nil, nil
	}
	return &best.Name, nil
}

// wrap classifies an error of the API server.
func wrap(err error, format string, args ...any) error {
	kind := errs.Unavailable
	if apierrors.IsNotFound(err) {
		kind = errs.NotFound
	}
	return errs.E(kind, format+": %w", append(args, err)...)
}

// SelectedNode returns the node that was chosen for a claim, empty if none is.
func SelectedNode(c *corev1.PersistentVolumeClaim) string {
	return c.Annotations[SelectedNodeAnnotation]
}

// Inline returns the volumes of a pod that are described in the pod itself. Those that are described wrong
// are left out: no node can make them.
func (r Reader) Inline(pod *corev1.Pod) []Volume {
	var all []Volume
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].CSI == nil {
			continue
		}
		if v, ok, err := r.inline(pod, &pod.Spec.Volumes[i]); ok && err == nil {
			all = append(all, v)
		}
	}
	return all
}
