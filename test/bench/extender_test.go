package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/scheduler"
	"github.com/dozo-dev/dozo/test/bench/report"
)

const gib = 1 << 30

// TestExtender asks both of kube-scheduler's questions for one pod after another, over HTTP. Every pod passes on
// all nodes and leaves a promise, the most work there can be, and one node in a hundred has changed since the pod
// before it. What is measured is the extender: the time from the last byte of a question to the last byte of its
// answer, of both questions together.
func TestExtender(t *testing.T) {
	nodes, pods := 50, 5
	if full() {
		nodes, pods = 5000, 500
	}
	for _, c := range []struct {
		name    string
		objects bool
		bound   *report.Bound
	}{
		{"names", false, report.P99AtMost(10)},
		{"whole nodes", true, report.P99AtMost(50)},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newExtender(t, nodes)
			body := x.question(t, c.objects)
			conn, err := net.Dial("tcp", x.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			in := bufio.NewReaderSize(conn, 1<<20)
			versions := places(body, `"resourceVersion":"`)
			var took, busy []float64
			for pod := range pods {
				for i := pod % 100; i < len(versions); i += 100 {
					copy(body[versions[i]:], fmt.Sprintf("%08d", pod))
				}
				var both time.Duration
				before := processorTime(t)
				for _, verb := range []string{scheduler.VerbFilter, scheduler.VerbPrioritize} {
					both += ask(t, conn, in, verb, body, 25*nodes)
				}
				took, busy = append(took, ms(both)), append(busy, ms(processorTime(t)-before))
				x.settle()
			}
			name := fmt.Sprintf("extender: filter and prioritize %d nodes, %s (%.1f MiB each)", nodes, c.name, float64(len(body))/(1<<20))
			keep(t, report.New(name, "host", "ms", c.bound, took), report.New(name+", with its client", "host", "ms of processor", nil, busy))
		})
	}
}

// processorTime is what this process has used so far. A machine that is busy with other work hardly changes it.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// places returns the indexes in text after each occurrence of a word.
func places(text []byte, word string) (all []int) {
	for at := 0; ; {
		n := bytes.Index(text[at:], []byte(word))
		if n < 0 {
			return all
		}
		at += n + len(word)
		all = append(all, at)
	}
}

// ask returns how long the answer took after the question. It is at least so many bytes long.
func ask(t *testing.T, conn net.Conn, in *bufio.Reader, verb string, body []byte, least int) time.Duration {
	t.Helper()
	head := fmt.Sprintf("POST /%s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", verb, len(body))
	out := net.Buffers{[]byte(head), body}
	if _, err := out.WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, answer.Body)
	took := time.Since(start)
	if err != nil || answer.StatusCode != http.StatusOK || n < int64(least) {
		t.Fatalf("%s: status %d, %d bytes: %v", verb, answer.StatusCode, n, err)
	}
	return took
}

// extender is one that knows nodes with two pools each, asked for pods with a volume in each pool.
type extender struct {
	scheduler *scheduler.Scheduler
	nodes     []string
	address   string
	pod       atomic.Int64
}

func newExtender(t *testing.T, nodes int) *extender {
	t.Helper()
	s, err := scheduler.New(scheduler.Weights{Mode: scheduler.Spread, DefaultDivisor: 1})
	if err != nil {
		t.Fatal(err)
	}
	x := &extender{scheduler: s}
	free := scheduler.PoolRoom{Kind: "lvm", Room: scheduler.Room{Available: 1 << 50, MaxVolume: 1 << 50}}
	for i := range nodes {
		x.nodes = append(x.nodes, fmt.Sprintf("node-%04d.rack-%02d.example.org", i, i/40))
		s.SetRooms(x.nodes[i], scheduler.Rooms{"ssd": free, "hdd": free})
	}
	server := httptest.NewServer((&scheduler.Server{
		Scheduler: s,
		Volumes:   func(context.Context, *corev1.Pod) ([]claims.Volume, error) { return x.volumes(), nil },
		Ready:     func() error { return nil },
		Log:       slog.New(slog.DiscardHandler),
		Observe:   func(string, time.Duration, int) {},
	}).Handler())
	t.Cleanup(server.Close)
	x.address = server.Listener.Addr().String()
	return x
}

// volumes are those of the pod in question.
func (x *extender) volumes() (all []claims.Volume) {
	for _, pool := range []string{"ssd", "hdd"} {
		name := fmt.Sprintf("pod-%d-%s", x.pod.Load(), pool)
		all = append(all, claims.Volume{Key: "claim/ns/" + name, Name: "claim ns/" + name, Kind: "lvm", Pool: pool, Bytes: gib})
	}
	return all
}

// settle chooses the pod's node, and goes on to the next pod.
func (x *extender) settle() {
	for _, v := range x.volumes() {
		x.scheduler.Settle(v, x.nodes[int(x.pod.Load())%len(x.nodes)])
	}
	x.pod.Add(1)
}

func (x *extender) question(t *testing.T, objects bool) []byte {
	t.Helper()
	args := extenderv1.ExtenderArgs{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0"}}}
	if objects {
		args.Nodes = &corev1.NodeList{}
		for _, n := range x.nodes {
			args.Nodes.Items = append(args.Nodes.Items, benchNode(n))
		}
	} else {
		args.NodeNames = &x.nodes
	}
	body, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return body
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
