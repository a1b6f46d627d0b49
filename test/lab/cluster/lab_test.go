package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab/agent"
)

// newTestLab returns a lab of the test's own, which shares nothing with a
// running one but the cache. It is started only with DOZO_TEST_LAB=1, and who
// leaves that out is told; anything missing then fails, since a test that
// quietly does not run proves nothing.
func newTestLab(t *testing.T, kernel Kernel) *Lab {
	t.Helper()
	if os.Getenv("DOZO_TEST_LAB") != "1" {
		t.Skipf("long: NOT RUN: %s starts a cluster of its own; DOZO_TEST_LAB=1 go test -v -timeout 30m ./test/lab/cluster/ runs it", t.Name())
	}
	lab, err := New(NewProgress(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	lab.Name = "selftest"
	if err := lab.Prerequisites(kernel); err != nil {
		t.Fatal(err)
	}
	tools, err := lab.toolchain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if missing := tools.missingBinaries(clusterBinaries()); len(missing) > 0 {
		t.Fatalf("not built yet: %s; run \"go run ./test/lab/cmd/lab build\" first (about ten minutes, once)", strings.Join(missing, ", "))
	}
	return lab
}

// TestLab starts a cluster, uses it, ends it, and looks for what it left.
func TestLab(t *testing.T) {
	lab := newTestLab(t, KernelHost)
	useLab(t, lab, Config{Nodes: 2}, func(t *testing.T) {
		if err := lab.Crash(t.Context(), "n1"); err == nil || !strings.Contains(err.Error(), "--kernel guest") {
			t.Errorf("a node without power of its own is crashed: %v", err)
		}
		loops := []string{attachLoop(t, lab, "/mnt/kept", false), attachLoop(t, lab, "/mnt/deleted", true)}
		t.Cleanup(func() { // after the lab's end
			for _, loop := range loops {
				if backing := loopBacking(loop); strings.Contains(backing, loopFileName) {
					t.Errorf("%s is still attached to %s", loop, backing)
				}
			}
		})
	})
}

// useLab takes a lab through what both kinds of node have in common, with more
// in between.
func useLab(t *testing.T, lab *Lab, c Config, more func(*testing.T)) {
	before := hostState(t, lab)
	t.Cleanup(func() {
		if err := lab.Down(context.Background()); err != nil {
			t.Error("taking the lab down:", err)
		}
	})
	if err := lab.Up(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	t.Run("pods", func(t *testing.T) { testPods(t, lab) })
	t.Run("images", func(t *testing.T) { testImages(t, lab) })
	t.Run("nodes are apart", func(t *testing.T) { testNodesApart(t, lab) })
	t.Run("node authorization", func(t *testing.T) { testNodeAuthorization(t, lab) })
	t.Run("exec", func(t *testing.T) { testExec(t, lab) })
	more(t)
	inside := namespacesOf(t, lab)
	start := time.Now()
	if err := lab.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("down took %v", time.Since(start))
	if left := processesIn(t, inside); len(left) > 0 {
		t.Errorf("processes are left in the lab's namespaces: %v", left)
	}
	if after := hostState(t, lab); after != before {
		t.Errorf("the host changed.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// probeManifest has a pod on every node that mounts a file system which the
// node and the pod's other container are to see.
const probeManifest = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: probe}
spec:
  selector: {matchLabels: {app: probe}}
  template:
    metadata: {labels: {app: probe}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: mounter
        image: dozo.local/busybox:1
        command: [sh, -c, "mkdir -p /share/m && mount -t tmpfs tmpfs /share/m && echo propagated >/share/m/file && echo mounted && exec sleep 3600"]
        securityContext: {privileged: true}
        readinessProbe: {exec: {command: [test, -e, /share/m/file]}, periodSeconds: 1}
        volumeMounts: [{name: share, mountPath: /share, mountPropagation: Bidirectional}]
      - name: observer
        image: dozo.local/busybox:1
        command: [sleep, "3600"]
        volumeMounts: [{name: share, mountPath: /share, mountPropagation: HostToContainer}]
      volumes: [{name: share, hostPath: {path: /var/lib/probe, type: DirectoryOrCreate}}]
`

// testPods proves pods on every node, mount propagation, logs, exec, and
// service account tokens.
func testPods(t *testing.T, lab *Lab) {
	kubectl(t, lab, probeManifest, "apply", "-f", "-")
	kubectl(t, lab, "", "rollout", "status", "daemonset/probe", "--timeout=5m")
	pods := strings.Fields(kubectl(t, lab, "", "get", "pods", "-l", "app=probe", "-o", "name"))
	if len(pods) != 2 {
		t.Fatalf("%d pods, not one per node: %v", len(pods), pods)
	}
	for _, pod := range pods {
		if got := kubectl(t, lab, "", "logs", pod, "-c", "mounter"); got != "mounted\n" {
			t.Errorf("log of %s: %q", pod, got)
		}
		if got := kubectl(t, lab, "", "exec", pod, "-c", "observer", "--", "cat", "/share/m/file"); got != "propagated\n" {
			t.Errorf("%s: the other container sees %q", pod, got)
		}
		token := kubectl(t, lab, "", "exec", pod, "-c", "observer", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
		if strings.Count(token, ".") != 2 {
			t.Errorf("%s: the service account token is %q", pod, token)
		}
	}
	for _, node := range []string{"n1", "n2"} {
		if got := onNode(t, lab, node, "cat", "/var/lib/probe/m/file"); got != "propagated\n" {
			t.Errorf("the mount does not show on %s: %q", node, got)
		}
	}
	if _, err := os.Stat("/var/lib/probe"); err == nil {
		t.Error("a node's directory shows on the host")
	}
}

// testImages imports an image that is assembled on the spot, and runs it.
func testImages(t *testing.T, lab *Lab) {
	program := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	request := ImageRequest{Name: "dozo.local/hello:1", Shell: true, Files: []string{program + ":/hello"}}
	image, err := request.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.LoadImage(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	got := kubectl(t, lab, "", "run", "hello", "--image=dozo.local/hello:1", "--restart=Never", "--attach", "--quiet", "--rm")
	if !strings.Contains(got, "hello") {
		t.Errorf("the image printed %q", got)
	}
	names, err := lab.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sidecar := range []string{"csi-provisioner:v", "csi-snapshotter:v", "csi-resizer:v", "csi-attacher:v",
		"csi-node-driver-registrar:", "livenessprobe:", "pause:1", "agnhost:", "hello:1"} {
		if !strings.Contains(strings.Join(names, "\n"), localRegistry+sidecar) {
			t.Errorf("no image %s%s… on the node: %v", localRegistry, sidecar, names)
		}
	}
}

// testNodesApart proves that a node's files are its own.
func testNodesApart(t *testing.T, lab *Lab) {
	const file = "/var/lib/only-n1"
	onNode(t, lab, "n1", "touch", file)
	if got := onNode(t, lab, "n2", "find", "/var/lib", "-maxdepth", "1", "-name", "only-n1"); got != "" {
		t.Errorf("a file of n1 shows on n2: %s", got)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file of n1 shows on the host")
	}
}

// testExec proves that streams and exit statuses come through.
func testExec(t *testing.T, lab *Lab) {
	for _, node := range []string{"", "n1"} {
		var out, complaint strings.Builder
		err := lab.Exec(t.Context(), node, []string{"sh", "-c", "cat; echo no >&2; exit 7"},
			agent.Streams{In: strings.NewReader("yes"), Out: &out, Err: &complaint})
		if err == nil || !strings.Contains(err.Error(), "exit status 7") || out.String() != "yes" || complaint.String() != "no\n" {
			t.Errorf("node %q: %v, printed %q and %q", node, err, &out, &complaint)
		}
	}
	if err := lab.Exec(t.Context(), "n9", []string{"true"}, agent.Streams{}); err == nil {
		t.Error("a node that the lab does not have runs programs")
	}
}

// testNodeAuthorization proves that a kubelet's credentials are a kubelet's:
// n1 may not change n2.
func testNodeAuthorization(t *testing.T, lab *Lab) {
	as := filepath.Join(lab.Run(), "pki", "n1.kubeconfig")
	s, err := readSpec(lab.Run())
	if err != nil {
		t.Fatal(err)
	}
	label := func(node string) error {
		_, err := command{
			args: []string{filepath.Join(s.Bin, "kubectl"), "--kubeconfig", as, "--server", lab.hostURL(s),
				"label", "node", node, "topology.kubernetes.io/zone=z", "--overwrite"},
			timeout: 30 * time.Second,
		}.run(t.Context())
		return err
	}
	if err := label("n1"); err != nil {
		t.Error("n1 may not label itself:", err)
	}
	if err := label("n2"); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("n1 labels n2: %v", err)
	}
}

// kubectl runs kubectl as the administrator and returns what it prints.
func kubectl(t *testing.T, lab *Lab, stdin string, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t, lab, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryKubectl(t *testing.T, lab *Lab, stdin string, args ...string) (string, error) {
	t.Helper()
	s, err := lab.spec()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command{
		args:    append([]string{filepath.Join(s.Bin, "kubectl"), "--kubeconfig", lab.Kubeconfig()}, args...),
		stdin:   strings.NewReader(stdin),
		timeout: 6 * time.Minute,
	}.run(t.Context())
	return string(out), err
}

// onNode runs a program on a node and returns what it prints.
func onNode(t *testing.T, lab *Lab, node string, args ...string) string {
	t.Helper()
	out, err := tryOnNode(t, lab, node, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryOnNode(t *testing.T, lab *Lab, node string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, complaint strings.Builder
	err := lab.Exec(ctx, node, args, agent.Streams{Out: &out, Err: &complaint})
	if err != nil {
		return "", fmt.Errorf("node %s: %v: %w: %s", node, args, err, &complaint)
	}
	return out.String(), nil
}

// hostState describes what a lab could leave on the host, as text that does
// not depend on what else runs on the machine.
func hostState(t *testing.T, lab *Lab) string {
	t.Helper()
	var state strings.Builder
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, lab.Run()) {
			fmt.Fprint(&state, "mount ", line)
		}
	}
	for _, pattern := range []string{
		"/sys/class/net/" + bridge, "/sys/class/net/node*", "/sys/class/net/cni*", "/run/netns/*",
		cgroupMount + "/" + lab.cgroup(), cgroupMount + "/*/" + lab.cgroup(), lab.Run(),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			fmt.Fprintln(&state, file)
		}
	}
	return state.String()
}
