package scheduler

import (
	"context"
	"log/slog"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Objects are the types that a [Feed] needs in the cache beside those of [claims.NewReader]. Of pods only
// those that do not run yet are kept, and of these only what says where their inline volumes will be.
func Objects() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&v1alpha1.NodeStorage{}: {},
		&corev1.Pod{}: {
			Field:     fields.OneTermEqualSelector("status.phase", string(corev1.PodPending)),
			Transform: slim,
		},
	}
}

func slim(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	small := &corev1.Pod{}
	small.Namespace, small.Name, small.UID, small.ResourceVersion = pod.Namespace, pod.Name, pod.UID, pod.ResourceVersion
	small.Spec.NodeName = pod.Spec.NodeName
	for _, v := range pod.Spec.Volumes {
		if v.CSI != nil {
			small.Spec.Volumes = append(small.Spec.Volumes, v)
		}
	}
	return small, nil
}

// Feed keeps a scheduler's figures and promises current from the API server.
type Feed struct {
	Scheduler *Scheduler
	Reader    claims.Reader
	Log       *slog.Logger

	synced atomic.Bool
}

// Ready returns errs.Unavailable until everything was read once. After that figures may be old while the
// API server does not answer: the volume's own node has the last word.
func (f *Feed) Ready() error {
	if !f.synced.Load() {
		return errs.E(errs.Unavailable, "the capacities of nodes have not been read yet")
	}
	return nil
}

// Run watches until ctx is done. The cache has to run meanwhile. Room is read before claims, since claims
// that name no pool are understood by the pools there are.
func (f *Feed) Run(ctx context.Context, c cache.Cache) error {
	if _, err := c.GetInformer(ctx, &storagev1.StorageClass{}); err != nil {
		return watchError(ctx, "storage classes", err)
	}
	for _, w := range []struct {
		what    string
		object  client.Object
		handler toolscache.ResourceEventHandler
	}{
		{"NodeStorage", &v1alpha1.NodeStorage{}, handler(f.onStorage, f.onStorageGone)},
		{"claims", &corev1.PersistentVolumeClaim{}, handler(f.onClaim, f.onClaimGone)},
		{"pods", &corev1.Pod{}, handler(f.onPod, f.onPodGone)},
	} {
		informer, err := c.GetInformer(ctx, w.object)
		if err != nil {
			return watchError(ctx, w.what, err)
		}
		registration, err := informer.AddEventHandler(w.handler)
		if err != nil {
			return watchError(ctx, w.what, err)
		}
		if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
			return nil
		}
	}
	f.synced.Store(true)
	f.Log.Info("capacities are read")
	<-ctx.Done()
	return nil
}

func watchError(ctx context.Context, what string, err error) error {
	switch {
	case ctx.Err() != nil:
		return nil
	case meta.IsNoMatchError(err):
		return errs.E(errs.Unsupported, "watching %s: the API server does not know them; install Dozo's CRDs: %w", what, err)
	}
	return errs.E(errs.Unavailable, "watching %s: %w", what, err)
}

// handler calls one function for what is there, new or changed, and one for what is gone.
func handler[T client.Object](there, gone func(T)) toolscache.ResourceEventHandler {
	call := func(f func(T), object any) {
		if last, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
			object = last.Obj
		}
		if t, ok := object.(T); ok {
			f(t)
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { call(there, object) },
		UpdateFunc: func(_, object any) { call(there, object) },
		DeleteFunc: func(object any) { call(gone, object) },
	}
}

func (f *Feed) onStorage(n *v1alpha1.NodeStorage)     { f.Scheduler.SetRooms(n.Name, roomsOf(n)) }
func (f *Feed) onStorageGone(n *v1alpha1.NodeStorage) { f.Scheduler.SetRooms(n.Name, nil) }

// roomsOf leaves out pools that are not open: what they last had is not what they can give.
func roomsOf(n *v1alpha1.NodeStorage) Rooms {
	rooms := Rooms{}
	for i := range n.Status.Pools {
		p := &n.Status.Pools[i]
		if !meta.IsStatusConditionTrue(p.Conditions, v1alpha1.ConditionReady) {
			continue
		}
		rooms[p.Name] = PoolRoom{Kind: p.Kind, Room: Room{Available: p.Available.Value(), MaxVolume: p.MaximumVolumeSize.Value()}}
	}
	return rooms
}

func (f *Feed) onClaim(c *corev1.PersistentVolumeClaim) {
	key := claims.ClaimKey(c.Namespace, c.Name)
	node := claims.SelectedNode(c)
	switch {
	case c.Spec.VolumeName != "":
		f.Scheduler.Made(key)
	case node == "":
		f.Scheduler.Unsettle(key)
	default:
		v, ok, err := f.Reader.OfClaim(context.Background(), c)
		if err != nil {
			f.Log.Warn("a claim that is being made does not count", "claim", c.Namespace+"/"+c.Name, "error", err)
			return
		}
		if ok {
			f.Scheduler.Settle(v, node)
		}
	}
}

func (f *Feed) onClaimGone(c *corev1.PersistentVolumeClaim) {
	f.Scheduler.Drop(claims.ClaimKey(c.Namespace, c.Name))
}

func (f *Feed) onPod(p *corev1.Pod) {
	if p.Spec.NodeName == "" {
		return
	}
	for _, v := range f.Reader.Inline(p) {
		f.Scheduler.Settle(v, p.Spec.NodeName)
	}
}

// onPodGone is called when a pod runs, has failed or is deleted: its inline volumes are made, or will not be.
func (f *Feed) onPodGone(p *corev1.Pod) {
	for _, v := range f.Reader.Inline(p) {
		f.Scheduler.Made(v.Key)
	}
}
