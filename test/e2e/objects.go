package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/dozo-dev/dozo/test/e2e/timings"
)

// dataDir is where test pods have their volume; block volumes are the file below it.
const (
	dataDir     = "/data"
	blockDevice = "/dev/volume"
)

// claim describes a claim of the driver's class; the functions change it.
func (b *bed) claim(name, size string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.ns},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &b.driver.StorageClass,
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: apiresource.MustParse(size)}},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// from makes a claim a copy of something.
func from(group, kind, name string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: kind, Name: name}
		if group != "" {
			c.Spec.DataSource.APIGroup = &group
		}
	}
}

// class makes a class like the driver's, changed, for the length of the scenario.
func (b *bed) class(suffix string, change func(*storagev1.StorageClass)) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	api := b.cluster.typed.StorageV1().StorageClasses()
	c, err := api.Get(ctx, b.driver.StorageClass, metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	c.ObjectMeta = metav1.ObjectMeta{Name: b.ns + "-" + suffix}
	change(c)
	if _, err := api.Create(ctx, c, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := api.Delete(context.Background(), c.Name, metav1.DeleteOptions{}); err != nil {
			b.t.Error(err)
		}
	})
	return c.Name
}

func ofClass(name string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &name }
}

// ofPool makes a class whose volumes are in another pool of the driver, and claims of it.
func (b *bed) ofPool(pool string, change ...func(*storagev1.StorageClass)) func(*corev1.PersistentVolumeClaim) {
	b.t.Helper()
	return ofClass(b.class("in-"+pool, func(c *storagev1.StorageClass) {
		c.Parameters["pool"] = pool
		for _, f := range change {
			f(c)
		}
	}))
}

// withFileSystem makes a class with another file system, and claims of it.
func (b *bed) withFileSystem(kind string) func(*corev1.PersistentVolumeClaim) {
	b.t.Helper()
	return ofClass(b.class(kind, func(c *storagev1.StorageClass) { c.Parameters["csi.storage.k8s.io/fstype"] = kind }))
}

// atOnce binds claims of a class before a pod uses them.
func atOnce(c *storagev1.StorageClass) {
	mode := storagev1.VolumeBindingImmediate
	c.VolumeBindingMode = &mode
}

// onlyOn allows volumes of a class on one node.
func (b *bed) onlyOn(node string) func(*storagev1.StorageClass) {
	return func(c *storagev1.StorageClass) {
		c.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{
			Key: b.driver.TopologyKey, Values: []string{node},
		}}}}
	}
}

func asBlock(c *corev1.PersistentVolumeClaim) {
	mode := corev1.PersistentVolumeBlock
	c.Spec.VolumeMode = &mode
}

// pod describes a pod that does nothing by itself, with a volume at [dataDir]: what happens in it, scenarios
// start with [bed.exec].
func (b *bed) pod(name, claim string, change ...func(*corev1.Pod)) *corev1.Pod {
	// Not 0: such a pod is gone from the API at once, before the kubelet has let go of its volumes. And with
	// a process namespace of the pod the program is not the first in it, so that SIGTERM ends it.
	grace, shared := int64(1), true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: b.ns},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace, ShareProcessNamespace: &shared,
			Containers: []corev1.Container{{
				Name: "test", Image: b.cluster.Image, Command: []string{"sleep", "infinity"},
				VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: dataDir}},
			}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
			}}},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func withDevice(p *corev1.Pod) {
	p.Spec.Containers[0].VolumeMounts = nil
	p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "data", DevicePath: blockDevice}}
}

// onNode has the scheduler choose a node, unlike spec.nodeName: volumes are made where the scheduler said.
func onNode(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node} }
}

func (b *bed) createClaim(c *corev1.PersistentVolumeClaim) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	if _, err := b.cluster.typed.CoreV1().PersistentVolumeClaims(b.ns).Create(ctx, c, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) createPod(p *corev1.Pod) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	if _, err := b.cluster.typed.CoreV1().Pods(b.ns).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// createSnapshot makes a snapshot of a claim and waits until it can be used.
func (b *bed) createSnapshot(name, claim string) {
	b.t.Helper()
	start := time.Now()
	b.snapshotFrom(name, map[string]any{"persistentVolumeClaimName": claim})
	b.time(timings.SnapshotReady, start)
}

// snapshotFrom makes a snapshot of a source and waits until it can be used.
func (b *bed) snapshotFrom(name string, source map[string]any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	_, err := b.cluster.dynamic.Resource(resource(snapshots)).Namespace(b.ns).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
		"metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"volumeSnapshotClassName": b.driver.SnapshotClass,
			"source":                  source,
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	type snapshot struct {
		Status struct {
			ReadyToUse bool `json:"readyToUse"`
			Error      struct {
				Message string `json:"message"`
			} `json:"error"`
		} `json:"status"`
	}
	await(b, one(snapshots, b.ns, name), "snapshot "+name+" to be ready", func(s *snapshot) (bool, string) {
		if s == nil {
			return false, "absent"
		}
		return s.Status.ReadyToUse, "not ready: " + s.Status.Error.Message
	})
}

// awaitBound waits for a claim's volume and notes it, to be looked for in the end.
func (b *bed) awaitBound(name string) *corev1.PersistentVolumeClaim {
	b.t.Helper()
	c := await(b, one(claims, b.ns, name), "PVC "+name+" to be Bound", func(c *corev1.PersistentVolumeClaim) (bool, string) {
		return c != nil && c.Status.Phase == corev1.ClaimBound, describeClaim(c)
	})
	b.volumes[c.Spec.VolumeName] = true
	return c
}

func (b *bed) awaitReady(name string) *corev1.Pod {
	b.t.Helper()
	return await(b, one(pods, b.ns, name), "pod "+name+" to be Ready", func(p *corev1.Pod) (bool, string) {
		return podReady(p), describePod(p)
	})
}

// launch creates a claim with a pod that uses it, and waits for both. The times go to the operations named, if
// they are.
func (b *bed) launch(c *corev1.PersistentVolumeClaim, p *corev1.Pod, bound, running string) (*corev1.PersistentVolumeClaim, *corev1.Pod) {
	b.t.Helper()
	start := time.Now()
	b.createClaim(c)
	b.createPod(p)
	c = b.awaitBound(c.Name)
	if bound != "" {
		b.time(bound, start)
	}
	p = b.awaitReady(p.Name)
	if running != "" {
		b.time(running, start)
	}
	return c, p
}

// start creates a pod with a claim that has a volume, and waits for it.
func (b *bed) start(p *corev1.Pod) *corev1.Pod {
	b.t.Helper()
	start := time.Now()
	b.createPod(p)
	p = b.awaitReady(p.Name)
	b.time(timings.PodRunningAgain, start)
	return p
}

// deletePod deletes a pod and waits until it is gone: the kubelet has unpublished its volumes then.
func (b *bed) deletePod(name string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	if err := b.cluster.typed.CoreV1().Pods(b.ns).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
	b.awaitNone(one(pods, b.ns, name), "pod "+name)
}

// deleteClaim deletes a claim and waits until it is gone.
func (b *bed) deleteClaim(name string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	if err := b.cluster.typed.CoreV1().PersistentVolumeClaims(b.ns).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		b.t.Fatal(err)
	}
	b.awaitNone(one(claims, b.ns, name), "PVC "+name)
}

// patch changes an object by a JSON merge patch.
func (b *bed) patch(s selection, name, change string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	if _, err := s.in(b.cluster).Patch(ctx, name, types.MergePatchType, []byte(change), metav1.PatchOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// request has a claim ask for a size.
func (b *bed) request(claim, size string) {
	b.t.Helper()
	b.patch(selection{resource: claims, namespace: b.ns}, claim, fmt.Sprintf(`{"spec":{"resources":{"requests":{"storage":%q}}}}`, size))
}

// volume is a PersistentVolume that is there.
func (b *bed) volume(name string) *corev1.PersistentVolume {
	b.t.Helper()
	return await(b, one(volumes, "", name), "the volume", func(v *corev1.PersistentVolume) (bool, string) { return v != nil, "absent" })
}

// exec runs a program in a pod and returns what it prints.
func (b *bed) exec(pod string, program ...string) string {
	b.t.Helper()
	out, err := b.tryExec(pod, program...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bed) tryExec(pod string, program ...string) (string, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), requestLimit)
	defer cancel()
	out, err := b.cluster.Exec(ctx, b.ns, pod, nil, program...)
	return strings.TrimSpace(out), err
}

// write fills a file with random data, which is on the device when it returns, and returns its checksum.
func (b *bed) write(pod, file string, mib int) string {
	b.t.Helper()
	b.exec(pod, "dd", "if=/dev/urandom", "of="+file, "bs=1M", "count="+strconv.Itoa(mib), "conv=fsync,notrunc")
	return b.checksum(pod, file, mib)
}

// checksum is that of the first MiB of a file or device. It is computed in the pod: the way out is through the
// kubelet and the API server, which take seconds for it on slow nodes.
func (b *bed) checksum(pod, file string, mib int) string {
	b.t.Helper()
	out := b.exec(pod, "sh", "-c", `head -c "$1" "$0" | wc -c; head -c "$1" "$0" | sha256sum`, file, strconv.Itoa(mib)+"M")
	size, sum, _ := strings.Cut(out, "\n")
	if b.number(size) != int64(mib)<<20 || len(sum) < sha256.Size*2 {
		b.t.Fatalf("pod %s: %s has %s bytes to read, not %d MiB, and the checksum %q", pod, file, size, mib, sum)
	}
	return sum[:16]
}

// verify compares a checksum.
func (b *bed) verify(pod, file string, mib int, want string) {
	b.t.Helper()
	if got := b.checksum(pod, file, mib); got != want {
		b.t.Fatalf("pod %s: %s has checksum %s, not the %s that was written", pod, file, got, want)
	}
}

// number reads a number that a program printed.
func (b *bed) number(s string) int64 {
	b.t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}
