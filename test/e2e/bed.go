package e2e

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dozo-dev/dozo/test/e2e/timings"
)

// bed is what one scenario runs in: a namespace of its own.
type bed struct {
	*suite
	t  *testing.T
	ns string
	// started is when the scenario began: what the driver's logs say before is not about it.
	started time.Time
	// volumes are the PersistentVolumes that the scenario had, which have to be gone in the end.
	volumes map[string]bool
	// timed is off for scenarios that disturb the driver: their times say nothing of usual ones.
	timed bool
}

// newBed makes the namespace, and has it dismantled at the scenario's end.
func newBed(t *testing.T, s *suite) *bed {
	t.Helper()
	b := &bed{suite: s, t: t, started: time.Now(), volumes: map[string]bool{}, timed: true}
	ctx, cancel := context.WithTimeout(t.Context(), requestLimit)
	defer cancel()
	ns, err := s.cluster.typed.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "dozo-e2e-", Annotations: map[string]string{"dozo.dev/scenario": t.Name()},
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "privileged"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.ns = ns.Name
	t.Cleanup(b.dismantle)
	return b
}

// time records how long an operation took.
func (b *bed) time(operation string, since time.Time) {
	if b.timed {
		b.times.Add(operation, time.Since(since))
	}
}

// await follows one object until ok is content with it (nil: it is not there), and returns it. It ends the
// scenario after limit, with what ok saw last.
func await[T any](b *bed, s selection, what string, ok func(*T) (done bool, saw string)) *T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), usualLimit)
	defer cancel()
	var object *T
	saw := "nothing: the API server did not answer"
	err := b.cluster.follow(ctx, s, func(now current) bool {
		object = nil
		for _, u := range now {
			var err error
			if object, err = typed[T](u); err != nil {
				saw = err.Error()
				return false
			}
		}
		var done bool
		done, saw = ok(object)
		return done
	})
	if err != nil {
		b.t.Fatalf("waited %v for %s; last seen: %s", usualLimit, what, saw)
	}
	return object
}

// awaitNone waits until no selected object is left.
func (b *bed) awaitNone(s selection, what string) bool {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), usualLimit)
	defer cancel()
	var left []string
	err := b.cluster.follow(ctx, s, func(now current) bool {
		left = slices.Sorted(maps.Keys(now))
		return len(left) == 0
	})
	if err != nil {
		b.t.Errorf("waited %v for %s to be gone; left: %v", usualLimit, what, left)
	}
	return err == nil
}

// dismantle deletes what the scenario made and proves that nothing is left of it.
func (b *bed) dismantle() {
	if b.t.Failed() {
		b.diagnose()
		if b.keep {
			b.t.Logf("DOZO_E2E_KEEP: namespace %s is left as it is", b.ns)
			return
		}
	}
	ctx := context.Background()
	b.findVolumes(ctx)
	b.deleteAll(ctx, pods)
	start := time.Now()
	// Together: a snapshot does not go while a claim waits to be made of it, nor a claim while it is copied.
	if b.driver.Can.Snapshot {
		b.deleteAll(ctx, claims, snapshots)
	} else {
		b.deleteAll(ctx, claims)
	}
	for _, name := range slices.Sorted(maps.Keys(b.volumes)) {
		if !b.awaitNone(one(volumes, "", name), "PersistentVolume "+name) {
			b.diagnose()
		} else if len(b.volumes) == 1 && !b.t.Failed() {
			b.time(timings.Deleted, start) // one alone: with several, the last ones waited for the first
		}
	}
	if err := b.cluster.typed.CoreV1().Namespaces().Delete(ctx, b.ns, metav1.DeleteOptions{}); err != nil {
		b.t.Error(err)
	}
	b.awaitNone(one(namespaces, "", b.ns), "namespace "+b.ns)
	for name := range b.volumes {
		b.checkNoTraces(ctx, name)
	}
}

// checkNoTraces proves that no node has anything of a volume, nor storage outside of them.
func (b *bed) checkNoTraces(ctx context.Context, volume string) {
	b.t.Helper()
	found, err := b.nodes.traces(ctx, b.driver, volume)
	if err != nil {
		b.t.Error(err)
	}
	for _, left := range found {
		b.t.Errorf("volume %s is deleted; left: %v", volume, left)
	}
	if left, err := b.onStorage(ctx, volume); err != nil || len(left) > 0 {
		b.t.Errorf("volume %s is deleted; left on the storage: %q, %v", volume, left, err)
	}
}

// findVolumes adds the volumes of claims that the scenario did not wait for itself.
func (b *bed) findVolumes(ctx context.Context) {
	list, err := b.cluster.typed.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		b.t.Error(err)
		return
	}
	for _, pv := range list.Items {
		if pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.Namespace == b.ns {
			b.volumes[pv.Name] = true
		}
	}
}

// deleteAll deletes all objects of resources in the namespace at once and waits until they are gone.
func (b *bed) deleteAll(ctx context.Context, resources ...string) {
	b.t.Helper()
	for _, r := range resources {
		s := selection{resource: r, namespace: b.ns}
		if err := s.in(b.cluster).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			b.t.Error(err)
		}
	}
	for _, r := range resources {
		b.awaitNone(selection{resource: r, namespace: b.ns}, r+" in "+b.ns)
	}
}
