package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newTestLab returns a lab of the test's own, which shares nothing with a
// running one but the cache. DOZO_LAB=off skips; anything missing fails, since
// a test that quietly does not run proves nothing.
func newTestLab(t *testing.T) *Lab {
	t.Helper()
	if os.Getenv("DOZO_LAB") == "off" {
		t.Skip("SKIPPED: DOZO_LAB=off; the cluster tier of the lab is NOT tested")
	}
	lab, err := New(NewProgress(t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	lab.Name = "selftest"
	if err := lab.Prerequisites(); err != nil {
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
	lab := newTestLab(t)
	before := hostState(t, lab)
	t.Cleanup(func() {
		if err := lab.Down(context.Background()); err != nil {
			t.Error("taking the lab down:", err)
		}
	})
	if err := lab.Up(t.Context(), 2, false); err != nil {
		t.Fatal(err)
	}
	t.Run("pods", func(t *testing.T) { testPods(t, lab) })
	t.Run("images", func(t *testing.T) { testImages(t, lab) })
	t.Run("nodes are apart", func(t *testing.T) { testNodesApart(t, lab) })
	t.Run("node authorization", func(t *testing.T) { testNodeAuthorization(t, lab) })
	loops := []string{attachLoop(t, lab, "/mnt/kept", false), attachLoop(t, lab, "/mnt/deleted", true)}
	inside := namespacesOf(t, lab)
	start := time.Now()
	if err := lab.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("down took %v", time.Since(start))
	if left := processesIn(t, inside); len(left) > 0 {
		t.Errorf("processes are left in the lab's namespaces: %v", left)
	}
	for _, loop := range loops {
		if backing := loopBacking(loop); strings.Contains(backing, loopFileName) {
			t.Errorf("%s is still attached to %s", loop, backing)
		}
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
	kubectl(t, lab, "", "rollout", "status", "daemonset/probe", "--timeout=90s")
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
		file := filepath.Join(nodeRootPath(t, lab, node), "var/lib/probe/m/file")
		if data, err := os.ReadFile(file); err != nil || string(data) != "propagated\n" {
			t.Errorf("the mount does not show on %s: %q, %v", node, data, err)
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
	file := "var/lib/only-n1"
	if err := os.WriteFile(filepath.Join(nodeRootPath(t, lab, "n1"), file), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{nodeRootPath(t, lab, "n2"), "/"} {
		if _, err := os.Stat(filepath.Join(other, file)); err == nil {
			t.Errorf("a file of n1 shows below %s", other)
		}
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
	s, err := readSpec(lab.Run())
	if err != nil {
		t.Fatal(err)
	}
	out, err := command{
		args:    append([]string{filepath.Join(s.Bin, "kubectl"), "--kubeconfig", lab.Kubeconfig()}, args...),
		stdin:   strings.NewReader(stdin),
		timeout: 2 * time.Minute,
	}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// nodeRootPath is a node's root directory as seen from the host.
func nodeRootPath(t *testing.T, lab *Lab, node string) string {
	t.Helper()
	proc, err := lab.procDir(node)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(proc, "root")
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
