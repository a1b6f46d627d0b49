package scheduler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/dozo-dev/dozo/internal/claims"
)

const benchNodes = 5000

// BenchmarkFilterAndPrioritize answers both calls for one pod after another over 5,000 nodes, as
// kube-scheduler sends them, decoding and encoding included, and prints the median and the 99th percentile.
// Every pod passes on all nodes and leaves a promise, the most work there can be.
func BenchmarkFilterAndPrioritize(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(map[bool]string{false: "names", true: "nodes"}[full], func(b *testing.B) {
			s := newScheduler(b)
			nodes := make([]string, benchNodes)
			for i := range nodes {
				nodes[i] = fmt.Sprintf("node-%04d.rack-%02d.example.org", i, i/40)
				has(s, nodes[i], map[string]int64{"ssd": 1 << 50, "hdd": 1 << 50})
			}
			server := newServer(s)
			pod := 0
			server.Volumes = func(context.Context, *corev1.Pod) ([]claims.Volume, error) {
				name := fmt.Sprint("pod", pod)
				return []claims.Volume{volume(name, "ssd", gib), volume(name+"-log", "hdd", gib)}, nil
			}
			body := benchBody(b, full, nodes)
			h := server.Handler()
			var took []time.Duration
			b.SetBytes(int64(2 * len(body)))
			for b.Loop() {
				start := time.Now()
				for _, path := range []string{"/filter", "/prioritize"} {
					w := &counter{header: http.Header{}}
					h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
					if w.status != 0 || w.bytes < 100*benchNodes/4 {
						b.Fatalf("%s: status %d, %d bytes", path, w.status, w.bytes)
					}
				}
				took = append(took, time.Since(start))
				s.Settle(volume(fmt.Sprint("pod", pod), "ssd", gib), nodes[pod%benchNodes])
				s.Settle(volume(fmt.Sprint("pod", pod, "-log"), "hdd", gib), nodes[pod%benchNodes])
				pod++
			}
			slices.Sort(took)
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			b.ReportMetric(ms(took[len(took)/2]), "median-ms")
			b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
			b.ReportMetric(float64(len(body))/(1<<20), "MiB/request")
		})
	}
}

// counter is a response whose body goes nowhere, as it would into a socket.
type counter struct {
	header http.Header
	status int // 0 if none was written
	bytes  int
}

func (c *counter) Header() http.Header         { return c.header }
func (c *counter) WriteHeader(status int)      { c.status = status }
func (c *counter) Write(p []byte) (int, error) { c.bytes += len(p); return len(p), nil }

func benchBody(b *testing.B, full bool, nodes []string) []byte {
	args := extenderv1.ExtenderArgs{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0"}}}
	if !full {
		args.NodeNames = &nodes
	} else {
		args.Nodes = &corev1.NodeList{}
		for _, n := range nodes {
			args.Nodes.Items = append(args.Nodes.Items, benchNode(n))
		}
		one, err := json.Marshal(args.Nodes.Items[0])
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("a node has %d bytes", len(one))
	}
	return marshal(b, args)
}

// benchNode is a node as a kubelet of 1.36 writes it: with its conditions, addresses, what it is, and ten
// images. kube-scheduler leaves managedFields out.
func benchNode(name string) corev1.Node {
	now := metav1.Now()
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: "0f8fad5b-d9cb-469f-a165-70867728950e", ResourceVersion: "12345678", CreationTimestamp: now,
		Labels: map[string]string{
			"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
			"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "rack-01", "topology.dozo.dev/node": name,
		},
		Annotations: map[string]string{
			"csi.volume.kubernetes.io/nodeid":                        `{"lvm.dozo.dev":"` + name + `"}`,
			"node.alpha.kubernetes.io/ttl":                           "0",
			"volumes.kubernetes.io/controller-managed-attach-detach": "true",
		},
	}}
	n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.244.1.0/24", []string{"10.244.1.0/24"}
	list := corev1.ResourceList{}
	for name, q := range map[corev1.ResourceName]string{"cpu": "64", "memory": "263846092Ki", "pods": "110", "ephemeral-storage": "459850824Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0"} {
		list[name] = resource.MustParse(q)
	}
	n.Status.Capacity, n.Status.Allocatable = list, list
	for _, c := range []corev1.NodeConditionType{"MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable", "Ready"} {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
			Type: c, Status: "False", LastHeartbeatTime: now, LastTransitionTime: now,
			Reason: "KubeletHasSufficient" + string(c), Message: "kubelet has sufficient memory available, no pressure",
		})
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: "InternalIP", Address: "10.1.2.3"}, {Type: "Hostname", Address: name}}
	n.Status.NodeInfo = corev1.NodeSystemInfo{
		MachineID: "5f0c4e0b7f5e4ac7a7f3e8c8ee1d7a5b", SystemUUID: "5f0c4e0b-7f5e-4ac7-a7f3-e8c8ee1d7a5b", BootID: "e1d0b0c7-58be-4c2b-9d2e-0fd4a8d9b6a1",
		KernelVersion: "6.12.48-amd64", OSImage: "Debian GNU/Linux 13 (trixie)", ContainerRuntimeVersion: "containerd://2.1.4",
		KubeletVersion: "v1.36.3", OperatingSystem: "linux", Architecture: "amd64",
	}
	for i := range 10 {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names: []string{
				fmt.Sprintf("registry.example.org/team/service-%d@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", i),
				fmt.Sprintf("registry.example.org/team/service-%d:v1.2.3", i),
			}, SizeBytes: 123456789,
		})
	}
	return n
}
