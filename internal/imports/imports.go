// Package imports brings storage that was there before Dozo into a cluster: what has it is asked to take it for a
// volume, a node by an object and storage outside the cluster by its own pool, which is opened for that, and a
// PersistentVolume is made of that, as for a volume that Dozo made.
package imports

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	// Open opens a Pool of storage outside the cluster. errs.Invalid for one that is on nodes.
	Open func(context.Context, *v1alpha1.Pool) (Storage, error)
	// Parameters are those of a class's that are for the backend.
	Parameters func(class map[string]string) map[string]string
}

// Request asks for an import.
type Request struct {
	Name string // of the PersistentVolume and the volume
	Node string // "": the pool is outside the cluster
	Pool string
	From string // what the storage calls it; see [backend.Importer]
	Size int64  // bytes that it is known to have at least; 0: not known

	Claim       client.ObjectKey                    // that may have it; the zero key: any
	Class       string                              // of the PersistentVolume, "" for none: that of the claim
	FSType      string                              // "": whatever is on it
	Block       bool                                // it is used as a block device
	AccessModes []corev1.PersistentVolumeAccessMode // none: ReadWriteMany for a file system on a server, otherwise ReadWriteOnce

	Parameters map[string]string // for the backend; of a pool outside the cluster. They win over the class's
	Share      bool              // it is a share: by the class's protocol or the pool's, or NFS if those are for LUNs
}

// Objects are what an import makes.
type Objects struct {
	Volume           *v1alpha1.NodeVolume // nil for a pool outside the cluster
	PersistentVolume *corev1.PersistentVolume
}

// Plan works out what Import would make, without changing anything. Of a volume on a node the capacity of the
// PersistentVolume is what is known of it.
func (i *Importer) Plan(ctx context.Context, r Request) (Objects, error) {
	t, err := i.check(ctx, r)
	if err != nil {
		return Objects{}, err
	}
	if r.Node == "" {
		return i.outside(ctx, r, t, Storage.ImportableExact)
	}
	return i.planned(ctx, r, t)
}

// target is what a request is about, checked.
type target struct {
	pool   *v1alpha1.Pool
	id     backend.ID
	class  *storagev1.StorageClass // nil: none
	secret *corev1.SecretReference // that the node gets; nil: none
}

func (t target) driver() string { return pv.Driver(t.pool.Spec.Kind) }

func (i *Importer) check(ctx context.Context, r Request) (t target, err error) {
	if t.id, err = backend.ParseID(r.Name); err != nil {
		return t, errs.E(errs.Invalid, "name: %q is to be that of a volume and a PersistentVolume: 1 to %d of a-z, 0-9 and inner hyphens", r.Name, backend.MaxIDLength)
	}
	t.pool = &v1alpha1.Pool{}
	if err := i.Client.Get(ctx, client.ObjectKey{Name: r.Pool}, t.pool); err != nil {
		return t, asked("pool "+r.Pool, err)
	}
	if t.pool.DeletionTimestamp != nil {
		return t, errs.E(errs.Invalid, "pool %s is being deleted", r.Pool)
	}
	// All that can be said against the PersistentVolume is said now: when it is made the storage is imported.
	if t.class, err = i.class(ctx, r.Class); err != nil {
		return t, err
	}
	if t.secret, err = nodeSecret(t, r); err != nil {
		return t, err
	}
	_, err = i.existing(ctx, r, t.driver())
	return t, err
}

// planned are the objects for a volume on a node.
func (i *Importer) planned(ctx context.Context, r Request, t target) (Objects, error) {
	if err := i.onNode(ctx, r); err != nil {
		return Objects{}, err
	}
	v := record.NewVolume(r.Pool, r.Node, backend.Request{ID: t.id, Name: r.Name, Size: r.Size})
	v.Spec.ImportFrom = r.From
	persistent, err := i.persistentVolume(r, t, backend.Volume{
		ID: t.id, Name: r.Name, Size: r.Size, Nodes: []string{r.Node}, Access: backend.LocalAccess(r.Pool, t.id),
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

// Import makes the volume and its PersistentVolume. It can be repeated: what is made is found.
func (i *Importer) Import(ctx context.Context, r Request) (Objects, error) {
	t, err := i.check(ctx, r)
	if err != nil {
		return Objects{}, err
	}
	var o Objects
	if r.Node == "" {
		o, err = i.outside(ctx, r, t, Storage.ImportExact)
	} else {
		o, err = i.onItsNode(ctx, r, t)
	}
	if err != nil {
		return Objects{}, err
	}
	err = i.Client.Create(ctx, o.PersistentVolume)
	if apierrors.IsAlreadyExists(err) {
		if o.PersistentVolume, err = i.existing(ctx, r, t.driver()); err == nil && o.PersistentVolume == nil {
			err = errs.E(errs.Aborted, "PersistentVolume %s went away meanwhile; call again", r.Name)
		}
		return o, err
	}
	return o, asked("PersistentVolume "+r.Name, err)
}

// existing returns the PersistentVolume of a request that an earlier call made; nil if there is none. errs.Exists if it is another volume's.
func (i *Importer) existing(ctx context.Context, r Request, driver string) (*corev1.PersistentVolume, error) {
	p := &corev1.PersistentVolume{}
	err := i.Client.Get(ctx, client.ObjectKey{Name: r.Name}, p)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, asked("PersistentVolume "+r.Name, err)
	}
	if p.Spec.CSI == nil || p.Spec.CSI.Driver != driver || p.Spec.CSI.VolumeHandle != pv.Handle(r.Pool, backend.ID(r.Name)) {
		return nil, errs.E(errs.Exists, "PersistentVolume %s is there and another volume's; choose another name (--name)", r.Name)
	}
	return p, nil
}

// onItsNode has a node import.
func (i *Importer) onItsNode(ctx context.Context, r Request, t target) (Objects, error) {
	o, err := i.planned(ctx, r, t)
	if err != nil {
		return Objects{}, err
	}
	if o.Volume, err = i.volume(ctx, o.Volume); err != nil {
		return Objects{}, err
	}
	o.PersistentVolume.Spec.Capacity[corev1.ResourceStorage] = *o.Volume.Status.Size
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
