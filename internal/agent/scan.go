package agent

import (
	"cmp"
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// maxOrphans is how many orphans a NodeStorage lists of a pool.
const maxOrphans = 32

// scan is a comparison of a pool's storage with the objects.
type scan struct {
	at      time.Time
	orphans []v1alpha1.Orphan // sorted by ID, volumes first

	problems map[string]backend.Problem // of volumes, one for each reason
}

func (a *Agent) lastScan(name string) scan {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.scans[name]
}

// count is how many volumes of a pool the node has objects for.
func (a *Agent) count(ctx context.Context, s *session, name string) (n int32) {
	for _, o := range a.volumesOf(ctx, s, name) {
		if o.Status.ID != "" {
			n++
		}
	}
	return n
}

// volumesOf returns the objects of a pool's volumes, which are shared: they must not be changed.
func (a *Agent) volumesOf(ctx context.Context, s *session, name string) (of []*v1alpha1.NodeVolume) {
	var all v1alpha1.NodeVolumeList
	if err := s.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		a.opts.Log.Error("listing volumes", "error", err)
	}
	for i := range all.Items {
		if all.Items[i].Spec.Pool == name {
			of = append(of, &all.Items[i])
		}
	}
	return of
}

// rescan compares a pool with the objects, if it is time.
func (a *Agent) rescan(ctx context.Context, s *session, p *pool.Pool) {
	if time.Since(a.lastScan(p.Name()).at) < a.opts.Scan {
		return
	}
	found, err := a.scan(ctx, s, p)
	if err != nil {
		// Half a list is none. What was found last stays.
		a.opts.Log.Warn("comparing the storage with the objects", "pool", p.Name(), "error", err)
		return
	}
	a.tellProblems(ctx, s, p.Name(), a.lastScan(p.Name()).problems, found.problems)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.scans[p.Name()] = found
}

func (a *Agent) scan(ctx context.Context, s *session, p *pool.Pool) (scan, error) {
	found := scan{at: time.Now(), problems: map[string]backend.Problem{}}
	onDisk, err := a.onDisk(ctx, p)
	if err != nil {
		return found, err
	}
	objects := a.volumesOf(ctx, s, p.Name())
	var snapshots v1alpha1.NodeSnapshotList
	if err := s.client.List(ctx, &snapshots, client.UnsafeDisableDeepCopy); err != nil {
		return found, err
	}
	known := map[string]bool{}
	for _, o := range objects {
		known[volumeKey(record.IDOf(o))] = true
		problems, err := a.inspect(ctx, s, p, o, onDisk)
		if err != nil {
			a.opts.Log.Warn("looking after a volume", "volume", o.Name, "error", err)
		}
		for _, p := range problems {
			found.problems[p.Reason] = p
		}
	}
	for i := range snapshots.Items {
		if o := &snapshots.Items[i]; o.Spec.Pool == p.Name() {
			known[snapshotKey(record.IDOf(o))] = true
		}
	}
	for k, o := range onDisk {
		if !known[k] && a.isThere(ctx, p, o) {
			found.orphans = append(found.orphans, o)
		}
	}
	slices.SortFunc(found.orphans, func(a, b v1alpha1.Orphan) int {
		return cmp.Or(cmp.Compare(a.SnapshotOf, b.SnapshotOf), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

// isThere reports whether an orphan is still on the storage: it may have been deleted, and its object after
// it, since the storage was listed.
func (a *Agent) isThere(ctx context.Context, p *pool.Pool, o v1alpha1.Orphan) (there bool) {
	var err error
	if o.SnapshotOf != "" {
		_, err = p.GetSnapshot(ctx, backend.ID(o.ID))
	} else {
		_, err = p.Get(ctx, backend.ID(o.ID))
	}
	return !errs.Is(err, errs.NotFound)
}

// keys of what can be on a storage: a volume and a snapshot may have the same ID.
func volumeKey(id backend.ID) string   { return string(id) }
func snapshotKey(id backend.ID) string { return "snapshot/" + string(id) }

// onDisk is all volumes and snapshots on a pool's storage that objects are to stand for, by key, each as the
// orphan that it may be.
func (a *Agent) onDisk(ctx context.Context, p *pool.Pool) (map[string]v1alpha1.Orphan, error) {
	all, now := map[string]v1alpha1.Orphan{}, metav1.Now()
	for v, err := range p.List(ctx) {
		if err != nil {
			return nil, err
		}
		if a.opts.NodesOwn == nil || !a.opts.NodesOwn(v.Name) {
			all[volumeKey(v.ID)] = record.OrphanVolume(v, now)
		}
	}
	for s, err := range p.ListSnapshots(ctx) {
		if err != nil {
			return nil, err
		}
		all[snapshotKey(s.ID)] = record.OrphanSnapshot(s, now)
	}
	return all, nil
}

// inspect notes in a volume's status whether it is still there, and well. It returns what is wrong with it.
func (a *Agent) inspect(ctx context.Context, s *session, p *pool.Pool, o *v1alpha1.NodeVolume, onDisk map[string]v1alpha1.Orphan) (problems []backend.Problem, err error) {
	if o.Status.ID == "" || !wanted(o) || !record.Answered(o) {
		return nil, nil
	}
	now, id := o.DeepCopy(), record.IDOf(o)
	answer := record.Answer(o)
	if _, listed := onDisk[volumeKey(id)]; !listed {
		if _, err := p.Get(ctx, id); errs.Is(err, errs.NotFound) && answer == nil { // it may have come after the list
			record.SetAnswer(now, vanished("volume", p, err))
			s.events.Eventf(now, nil, corev1.EventTypeWarning, "VolumeMissing", "Scan", "node %s: the storage does not have the volume any more", a.opts.Node)
		}
	} else {
		if errs.Is(answer, errs.NotFound) { // it is back
			record.SetAnswer(now, nil)
		}
		if problems, err = p.Check(ctx, id); err != nil {
			return nil, err
		}
		record.SetProblems(now, problems)
	}
	if equality.Semantic.DeepEqual(o.Status, now.Status) {
		return problems, nil
	}
	return problems, client.IgnoreNotFound(s.client.Status().Patch(ctx, now, client.MergeFromWithOptions(o, client.MergeFromWithOptimisticLock{})))
}
