// Package orphans finds what has lost its counterpart, both ways: volumes and snapshots on the storage of
// nodes or in objects that nobody claims, and PersistentVolumes and objects whose storage is gone. It reads
// the API alone; the agents of the nodes have looked at the storage.
package orphans

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pv"
)

// Grace is how old an object has to be to count as claimed by nobody: its PersistentVolume is made after it.
const Grace = 10 * time.Minute

// Orphan is one side without the other.
type Orphan struct {
	Node, Pool string
	Key        string // as [record.OrphanKey]
	Size       int64  // bytes; 0: not known
	Since      time.Time
	Why        string // for people
	Claimed    string // what of Kubernetes refers to it, which keeps it from being deleted; "": nothing

	stored *v1alpha1.Orphan // set if it is on the storage and in no object
	object record.Object    // set if there is an object
}

// Name is how people name an orphan: NODE/POOL/ID.
func (o Orphan) Name() string { return o.Node + "/" + o.Pool + "/" + o.Key }

// view is the API's objects at about one instant.
type view struct {
	now      time.Time
	kinds    map[string]string                   // of pools, by name
	claimed  map[string]*corev1.PersistentVolume // by handle
	contents map[string]bool                     // handles of VolumeSnapshotContents; nil: the cluster has no snapshots
	nodes    []v1alpha1.NodeStorage
	volumes  []v1alpha1.NodeVolume
	shots    []v1alpha1.NodeSnapshot
	objects  map[string]bool // names of volumes
	copies   map[string]bool // names of shots
}

// Find returns all orphans, sorted by their names.
func Find(ctx context.Context, r client.Reader, now time.Time) ([]Orphan, error) {
	v, err := read(ctx, r, now)
	if err != nil {
		return nil, err
	}
	stored := v.stored()
	all := slices.Concat(stored, v.unclaimed(), v.unstored(stored))
	slices.SortFunc(all, func(a, b Orphan) int { return cmp.Compare(a.Name(), b.Name()) })
	return all, nil
}

func read(ctx context.Context, r client.Reader, now time.Time) (*view, error) {
	v := &view{now: now, kinds: map[string]string{}, claimed: map[string]*corev1.PersistentVolume{}, objects: map[string]bool{}, copies: map[string]bool{}}
	var pools v1alpha1.PoolList
	var nodes v1alpha1.NodeStorageList
	var volumes v1alpha1.NodeVolumeList
	var shots v1alpha1.NodeSnapshotList
	var pvs corev1.PersistentVolumeList
	// PersistentVolumes come last: one that is made meanwhile is seen, rather than its volume taken for unclaimed.
	for _, list := range []client.ObjectList{&pools, &nodes, &volumes, &shots, &pvs} {
		if err := r.List(ctx, list); err != nil {
			return nil, errs.E(errs.Unavailable, "the API server: %w", err)
		}
	}
	v.nodes, v.volumes, v.shots = nodes.Items, volumes.Items, shots.Items
	for i := range v.volumes {
		v.objects[v.volumes[i].Name] = true
	}
	for i := range v.shots {
		v.copies[v.shots[i].Name] = true
	}
	drivers := map[string]bool{}
	for _, p := range pools.Items {
		v.kinds[p.Name] = p.Spec.Kind
		drivers[pv.Driver(p.Spec.Kind)] = true
	}
	for i := range pvs.Items {
		if p := &pvs.Items[i]; p.Spec.CSI != nil && drivers[p.Spec.CSI.Driver] {
			v.claimed[p.Spec.CSI.VolumeHandle] = p
		}
	}
	return v, v.readContents(ctx, r, drivers)
}

// readContents reads which snapshots Kubernetes knows, if the cluster has any.
func (v *view) readContents(ctx context.Context, r client.Reader, drivers map[string]bool) error {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotContentList"})
	err := r.List(ctx, list)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return errs.E(errs.Unavailable, "the API server: %w", err)
	}
	v.contents = map[string]bool{}
	for _, c := range list.Items {
		if driver, _, _ := unstructured.NestedString(c.Object, "spec", "driver"); !drivers[driver] {
			continue
		}
		for _, path := range [][]string{{"status", "snapshotHandle"}, {"spec", "source", "snapshotHandle"}} {
			if handle, _, _ := unstructured.NestedString(c.Object, path...); handle != "" {
				v.contents[handle] = true
			}
		}
	}
	return nil
}

// stored are those on the storage of nodes and in no object.
func (v *view) stored() (all []Orphan) {
	for _, n := range v.nodes {
		for _, p := range n.Status.Pools {
			for _, found := range p.OrphanItems {
				o := Orphan{Node: n.Name, Pool: p.Name, Key: record.OrphanKey(found), Size: found.Size.Value(), Since: found.Since.Time, stored: &found,
					Why: "on the storage, and no object stands for it"}
				if o.Claimed = v.claimant(p.Name, found.ID, found.SnapshotOf != ""); o.Claimed != "" {
					o.Why = "on the storage, and the object of " + o.Claimed + " is gone: dozo orphans adopt"
				}
				if !v.hasObject(o) {
					all = append(all, o)
				}
			}
		}
	}
	return all
}

// claimant says what of Kubernetes refers to a volume or snapshot; "" for nothing.
func (v *view) claimant(pool, id string, snapshot bool) string {
	handle := pv.Handle(pool, backend.ID(id))
	switch claim := v.claimed[handle]; {
	case snapshot && v.contents[handle]:
		return "a VolumeSnapshotContent"
	case !snapshot && claim != nil:
		return "PersistentVolume " + claim.Name
	}
	return ""
}

// hasObject reports whether an object was made since the node looked.
func (v *view) hasObject(o Orphan) bool {
	name := v1alpha1.ObjectName(o.Pool, o.stored.ID)
	if o.stored.SnapshotOf != "" {
		return v.copies[name]
	}
	return v.objects[name]
}

// unclaimed are objects that nothing of Kubernetes refers to, and those whose storage or node is gone.
func (v *view) unclaimed() (all []Orphan) {
	for i := range v.volumes {
		if o, ok := v.judge(&v.volumes[i], false, v.kinds[v.volumes[i].Spec.Pool] != ""); ok {
			all = append(all, o)
		}
	}
	for i := range v.shots {
		if o, ok := v.judge(&v.shots[i], true, v.contents != nil); ok {
			all = append(all, o)
		}
	}
	return all
}

// judge tells whether an object is an orphan. Without known it cannot be told whether anything refers to it.
func (v *view) judge(obj record.Object, snapshot, known bool) (o Orphan, ok bool) {
	spec, status := obj.Item()
	id := string(record.IDOf(obj))
	o = Orphan{Node: spec.Node, Pool: spec.Pool, Key: id, Claimed: v.claimant(spec.Pool, id, snapshot), object: obj, Since: obj.GetCreationTimestamp().Time}
	if snapshot {
		o.Key = "snapshot/" + id
	}
	if status.Size != nil {
		o.Size = status.Size.Value()
	}
	answer := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	switch {
	case status.ID != "" && answer != nil && errs.Is(record.Answer(obj), errs.NotFound):
		o.Why, o.Since = "the storage does not have it any more", answer.LastTransitionTime.Time
	case record.Lost(obj):
		o.Why = "its node has left the cluster"
		o.Since = meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionLost).LastTransitionTime.Time
	case known && o.Claimed == "" && v.now.Sub(o.Since) > Grace:
		o.Why = "nothing in Kubernetes refers to it"
	default:
		return o, false
	}
	if o.Claimed != "" {
		o.Why += " (" + o.Claimed + ")"
	}
	return o, true
}

// unstored are PersistentVolumes without an object, and not among what is stored on some node without one.
func (v *view) unstored(stored []Orphan) (all []Orphan) {
	listed := map[[2]string]bool{} // by pool and key
	for _, o := range stored {
		listed[[2]string{o.Pool, o.Key}] = true
	}
	for handle, claim := range v.claimed {
		pool, id, ok := pv.VolumeOf(claim, claim.Spec.CSI.Driver)
		if !ok || v.objects[v1alpha1.ObjectName(pool, string(id))] || listed[[2]string{pool, string(id)}] {
			continue
		}
		size := claim.Spec.Capacity[corev1.ResourceStorage]
		all = append(all, Orphan{
			Node: pv.NodeOf(claim), Pool: pool, Key: string(id), Size: size.Value(), Since: claim.CreationTimestamp.Time, Claimed: "PersistentVolume " + claim.Name,
			Why: fmt.Sprintf("PersistentVolume %s has no volume (%s)", claim.Name, handle),
		})
	}
	return all
}
