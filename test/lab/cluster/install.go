package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Installation is an installation of Dozo in the lab: the chart, with the
// helm command, as users install it.
type Installation struct {
	Values []string // further files of values for the chart
}

const (
	installNamespace = "dozo"
	installRelease   = "dozo"
	installTimeout   = 5 * time.Minute
	helmBuildTimeout = 30 * time.Minute
)

// namespaceManifest is what docs/install.md has users do where pod security
// is enforced; the lab does it always, so that the label is known to be enough.
const namespaceManifest = `apiVersion: v1
kind: Namespace
metadata:
  name: ` + installNamespace + `
  labels: {pod-security.kubernetes.io/enforce: privileged}
`

// Install builds Dozo from this source, installs it or brings the installation
// up to date, and proves that a claim is bound and a pod writes to it.
func (l *Lab) Install(ctx context.Context, in Installation) error {
	s, err := l.spec()
	if err != nil {
		return err
	}
	tools, err := l.toolchain(ctx)
	if err != nil {
		return err
	}
	tag, err := l.loadDozo(ctx, tools)
	if err != nil {
		return err
	}
	if err := l.apply(ctx, tools, "-", []byte(namespaceManifest)); err != nil {
		return err
	}
	if s.NAS {
		if err := l.applySecrets(ctx, tools); err != nil {
			return err
		}
	}
	if err := l.helm(ctx, tools, l.helmArgs(tools, tag, in)...); err != nil {
		return err
	}
	l.Progress.Step("chart installed; the driver runs on %d nodes", len(s.Nodes))
	return l.proveVolume(ctx, tools)
}

// loadDozo builds the driver and its image and puts that on every node.
func (l *Lab) loadDozo(ctx context.Context, tools toolchain) (tag string, err error) {
	repository := repositoryOf(tools)
	binary := filepath.Join(l.Run(), "dozo")
	l.Progress.Step("building dozo …")
	_, err = goCommand(repository, buildTimeout, "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/dozo").run(ctx)
	if err != nil {
		return "", err
	}
	image, tag, err := DozoImage(binary)
	if err != nil {
		return "", err
	}
	present, err := l.Images(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range present {
		if name == image.Names[0] {
			l.Progress.Step("image %s is on the nodes already", name)
			return tag, nil
		}
	}
	if err := l.LoadImage(ctx, image); err != nil {
		return "", err
	}
	l.Progress.Step("image %s loaded on every node", image.Names[0])
	return tag, nil
}

func repositoryOf(tools toolchain) string { return filepath.Join(tools.source, "..", "..", "..") }

// helmArgs is the command that docs/install.md shows, with the lab's images.
func (l *Lab) helmArgs(tools toolchain, tag string, in Installation) []string {
	repository := repositoryOf(tools)
	args := []string{"upgrade", installRelease, filepath.Join(repository, "deploy", "chart", "dozo"),
		"--install", "--namespace", installNamespace, "--wait", "--timeout", installTimeout.String(),
		"--values", filepath.Join(repository, "test", "lab", "chart-values.yaml"),
		"--set-string", "image.tag=" + tag}
	for sidecar, module := range map[string]string{
		"attacher": "external-attacher/v4", "provisioner": "external-provisioner/v6", "resizer": "external-resizer/v2", "snapshotter": "external-snapshotter/v8",
	} {
		args = append(args, "--set-string", "sidecars."+sidecar+".tag="+tools.versions[csiModules+module])
	}
	for _, file := range in.Values {
		args = append(args, "--values", file)
	}
	return args
}

// helm runs the helm command, built from the module in test/lab/helm. Its
// first build takes minutes, so it is told apart.
func (l *Lab) helm(ctx context.Context, tools toolchain, args ...string) error {
	source := filepath.Join(filepath.Dir(tools.source), "helm")
	out, err := goCommand(source, helmBuildTimeout, "tool", "-n", "helm").run(ctx)
	if err != nil {
		return err
	}
	program := strings.TrimSpace(string(out))
	_, err = command{
		args:    append([]string{program}, args...),
		env:     []string{"KUBECONFIG=" + l.Kubeconfig(), "HELM_CACHE_HOME=" + filepath.Join(l.Run(), "helm")},
		timeout: installTimeout + time.Minute,
	}.run(ctx)
	if err != nil {
		return fmt.Errorf("%w\nlook at: lab kubectl -n %s get pods,events", err, installNamespace)
	}
	return nil
}

// proofManifest is a claim of the class that the lab's values make, and a pod
// that keeps what it wrote only if the volume is there.
const proofManifest = `apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: lab-proof, namespace: default}
spec:
  storageClassName: dozo
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 512Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: lab-proof, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: writer
    image: dozo.local/busybox:1
    command: [sh, -c, "echo kept >/data/proof && sync && exec sleep 1000000"]
    readinessProbe: {exec: {command: [grep, -q, kept, /data/proof]}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: lab-proof}}]
`

// proveVolume shows that it works from the claim to the pod. Claim and pod
// stay: they are something to look at, and to find again after an update.
func (l *Lab) proveVolume(ctx context.Context, tools toolchain) error {
	start := time.Now()
	kubectl := func(args ...string) ([]byte, error) {
		return command{
			args:    append([]string{tools.path("kubectl"), "--kubeconfig", l.Kubeconfig(), "--namespace", "default"}, args...),
			timeout: 4 * time.Minute,
		}.run(ctx)
	}
	there, err := kubectl("get", "pod/lab-proof", "--ignore-not-found", "--output", "name")
	if err != nil {
		return err
	}
	if len(there) == 0 {
		if err := l.apply(ctx, tools, "-", []byte(proofManifest)); err != nil {
			return err
		}
	}
	for _, wait := range []struct{ what, object, until string }{
		{"claim bound", "pvc/lab-proof", "jsonpath={.status.phase}=Bound"},
		{"pod running on it", "pod/lab-proof", "condition=Ready"},
	} {
		if _, err := kubectl("wait", wait.object, "--for", wait.until, "--timeout", "3m"); err != nil {
			return fmt.Errorf("no %s: %w", wait.what, err)
		}
		l.Progress.Step("%s after %.1fs", wait.what, time.Since(start).Seconds())
	}
	return nil
}
