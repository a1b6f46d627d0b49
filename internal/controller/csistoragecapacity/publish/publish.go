// Package publish tells the scheduler what room each node has for volumes of each storage class: it keeps a
// CSIStorageCapacity for the two, and writes it when the node's NodeStorage changes.
package publish

import (
	"context"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/pv"
)

const (
	// Labels of our objects, to find them by.
	driverLabel = "dozo.dev/driver"
	nodeLabel   = "dozo.dev/node"
	// poolParameter of a storage class names its pool.
	poolParameter = "pool"
)

// Reconciler keeps the CSIStorageCapacities of one driver.
type Reconciler struct {
	Kind, Driver, Namespace string

	client client.Client
}

// Add has the manager run it.
func (r *Reconciler) Add(mgr manager.Manager) error {
	r.client = mgr.GetClient()
	everyNode := handler.EnqueueRequestsFromMapFunc(r.everyNode)
	return builder.ControllerManagedBy(mgr).Named("csistoragecapacity-publish").
		For(&v1alpha1.NodeStorage{}).
		Watches(&storagev1.StorageClass{}, everyNode).
		Watches(&v1alpha1.Pool{}, everyNode).
		Complete(r)
}

func (r *Reconciler) everyNode(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.NodeStorageList
	if err := r.client.List(ctx, &all); err != nil {
		return nil
	}
	var qs []reconcile.Request
	for _, n := range all.Items {
		qs = append(qs, reconcile.Request{NamespacedName: types.NamespacedName{Name: n.Name}})
	}
	return qs
}

// Reconcile brings the objects of one node to what it has.
func (r *Reconciler) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	n := &v1alpha1.NodeStorage{}
	switch err := r.client.Get(ctx, q.NamespacedName, n); {
	case apierrors.IsNotFound(err):
		n = &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: q.Name}} // it has nothing
	case err != nil:
		return reconcile.Result{}, err
	}
	wanted, err := r.wanted(ctx, n)
	if err != nil {
		return reconcile.Result{}, err
	}
	var have storagev1.CSIStorageCapacityList
	if err := r.client.List(ctx, &have, client.InNamespace(r.Namespace), client.MatchingLabels{driverLabel: r.Driver, nodeLabel: n.Name}); err != nil {
		return reconcile.Result{}, err
	}
	for i := range have.Items {
		old := &have.Items[i]
		now := wanted[old.Name]
		delete(wanted, old.Name)
		if err := r.bring(ctx, old, now); err != nil {
			return reconcile.Result{}, err
		}
	}
	for _, now := range wanted {
		if err := r.client.Create(ctx, now); err != nil && !apierrors.IsAlreadyExists(err) {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, nil
}

// bring makes an object what it should be; nil: gone.
func (r *Reconciler) bring(ctx context.Context, old, now *storagev1.CSIStorageCapacity) error {
	if now == nil {
		return client.IgnoreNotFound(r.client.Delete(ctx, old))
	}
	if equality.Semantic.DeepEqual(old.Capacity, now.Capacity) && equality.Semantic.DeepEqual(old.MaximumVolumeSize, now.MaximumVolumeSize) {
		return nil
	}
	changed := old.DeepCopy()
	changed.Capacity, changed.MaximumVolumeSize = now.Capacity, now.MaximumVolumeSize
	return client.IgnoreNotFound(r.client.Update(ctx, changed))
}

// wanted are the objects that a node should have, by name.
func (r *Reconciler) wanted(ctx context.Context, n *v1alpha1.NodeStorage) (map[string]*storagev1.CSIStorageCapacity, error) {
	var classes storagev1.StorageClassList
	if err := r.client.List(ctx, &classes); err != nil {
		return nil, err
	}
	only, err := r.onlyPool(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]*storagev1.CSIStorageCapacity{}
	for _, class := range classes.Items {
		name := class.Parameters[poolParameter]
		if name == "" {
			name = only
		}
		if class.Provisioner != r.Driver {
			continue
		}
		for _, p := range n.Status.Pools {
			if p.Name == name && p.Kind == r.Kind {
				c := r.capacity(n, class.Name, p)
				all[c.Name] = c
			}
		}
	}
	return all, nil
}

// onlyPool is the pool that classes need not name; "" if there are several.
func (r *Reconciler) onlyPool(ctx context.Context) (string, error) {
	var pools v1alpha1.PoolList
	if err := r.client.List(ctx, &pools); err != nil {
		return "", err
	}
	var ours []string
	for _, p := range pools.Items {
		if p.Spec.Kind == r.Kind {
			ours = append(ours, p.Name)
		}
	}
	if len(ours) != 1 {
		return "", nil
	}
	return ours[0], nil
}

// capacity is the object for a class and a node. A pool that is not ready there has no room.
func (r *Reconciler) capacity(n *v1alpha1.NodeStorage, class string, p v1alpha1.NodePool) *storagev1.CSIStorageCapacity {
	available, most := p.Available, p.MaximumVolumeSize
	if !meta.IsStatusConditionTrue(p.Conditions, v1alpha1.ConditionReady) {
		available, most = resource.Quantity{}, resource.Quantity{}
	}
	return &storagev1.CSIStorageCapacity{
		ObjectMeta: metav1.ObjectMeta{
			// Deterministic, so that two writers never make two.
			Name: string(backend.IDFor(r.Kind + "/" + class + "/" + n.Name)), Namespace: r.Namespace,
			Labels: map[string]string{driverLabel: r.Driver, nodeLabel: n.Name},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion().String(), Kind: "NodeStorage", Name: n.Name, UID: n.UID,
			}},
		},
		StorageClassName:  class,
		NodeTopology:      &metav1.LabelSelector{MatchLabels: map[string]string{pv.TopologyKey: n.Name}},
		Capacity:          &available,
		MaximumVolumeSize: &most,
	}
}
