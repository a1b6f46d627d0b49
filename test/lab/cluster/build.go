package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	kubernetesModule = "k8s.io/kubernetes"
	csiModules       = "github.com/kubernetes-csi/"
	ownTools         = "./cmd/"
	// buildTimeout bounds one binary; the first one compiles most of
	// Kubernetes, which takes minutes on two cores.
	buildTimeout = 30 * time.Minute
)

// binary is one program of the tools module.
type binary struct {
	name string
	pkg  string
	test bool // a test binary: go test -c
}

// clusterBinaries are what every lab needs.
func clusterBinaries() []binary {
	return []binary{
		{name: "etcd", pkg: "go.etcd.io/etcd/server/v3"},
		{name: "kube-apiserver", pkg: kubernetesModule + "/cmd/kube-apiserver"},
		{name: "kube-controller-manager", pkg: kubernetesModule + "/cmd/kube-controller-manager"},
		{name: "kube-scheduler", pkg: kubernetesModule + "/cmd/kube-scheduler"},
		{name: "kubelet", pkg: kubernetesModule + "/cmd/kubelet"},
		{name: "kube-proxy", pkg: kubernetesModule + "/cmd/kube-proxy"},
		{name: "kubectl", pkg: kubernetesModule + "/cmd/kubectl"},
		{name: "csi-provisioner", pkg: csiModules + "external-provisioner/v6/cmd/csi-provisioner"},
		{name: "csi-attacher", pkg: csiModules + "external-attacher/v4/cmd/csi-attacher"},
		{name: "csi-resizer", pkg: csiModules + "external-resizer/v2/cmd/csi-resizer"},
		{name: "csi-snapshotter", pkg: csiModules + "external-snapshotter/v8/cmd/csi-snapshotter"},
		{name: "snapshot-controller", pkg: csiModules + "external-snapshotter/v8/cmd/snapshot-controller"},
		{name: "csi-node-driver-registrar", pkg: ownTools + "node-driver-registrar"},
		{name: "livenessprobe", pkg: ownTools + "livenessprobe"},
		{name: "pause", pkg: ownTools + "pause"},
		{name: "e2e-images", pkg: ownTools + "e2e-images"},
		{name: "agnhost", pkg: kubernetesModule + "/test/images/agnhost"},
	}
}

// suiteBinaries are what the upstream storage suite needs besides.
func suiteBinaries() []binary {
	return []binary{
		{name: "ginkgo", pkg: "github.com/onsi/ginkgo/v2/ginkgo"},
		{name: "e2e.test", pkg: "./e2e", test: true},
	}
}

// toolchain is a directory of built binaries and the versions they are of.
type toolchain struct {
	source   string // the Go module that they are built from
	dir      string
	versions map[string]string // by module path
}

func (t toolchain) path(name string) string { return filepath.Join(t.dir, name) }

// toolchain computes where this source's binaries are, built or not.
func (l *Lab) toolchain(ctx context.Context) (toolchain, error) {
	source, err := findSource()
	if err != nil {
		return toolchain{}, err
	}
	key, err := sourceKey(source)
	if err != nil {
		return toolchain{}, err
	}
	versions, err := moduleVersions(ctx, source)
	if err != nil {
		return toolchain{}, err
	}
	version := versions[kubernetesModule]
	if version == "" {
		return toolchain{}, fmt.Errorf("%s names no %s", source, kubernetesModule)
	}
	dir := filepath.Join(l.Cache, "bin", version+"-"+key)
	return toolchain{source: source, dir: dir, versions: versions}, nil
}

// sourceKey changes whenever a build of the tools module could.
func sourceKey(source string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOARCH)
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, strings.TrimPrefix(path, source), len(data))
		sum.Write(data)
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)[:6]), err
}

// moduleVersions reads the selected version of every module.
func moduleVersions(ctx context.Context, source string) (map[string]string, error) {
	out, err := goCommand(source, time.Minute, "list", "-m", "-f", "{{.Path}} {{.Version}}", "all").run(ctx)
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			versions[path] = version
		}
	}
	return versions, nil
}

// goCommand runs the go tool in the tools module, whatever workspace or flags
// the caller's environment sets.
func goCommand(dir string, timeout time.Duration, args ...string) command {
	return command{
		args:    append([]string{"go"}, args...),
		dir:     dir,
		env:     []string{"GOWORK=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0"},
		timeout: timeout,
	}
}

// Build makes every binary that is not built yet.
func (l *Lab) Build(ctx context.Context, suite bool) error {
	_, err := l.build(ctx, suite)
	return err
}

func (l *Lab) build(ctx context.Context, suite bool) (toolchain, error) {
	unlock, err := l.lock(ctx, "cache")
	if err != nil {
		return toolchain{}, err
	}
	defer unlock()
	return l.buildLocked(ctx, suite)
}

// buildLocked is build for a caller that holds the cache's lock.
func (l *Lab) buildLocked(ctx context.Context, suite bool) (toolchain, error) {
	tools, err := l.toolchain(ctx)
	if err != nil {
		return tools, err
	}
	if err := os.MkdirAll(tools.dir, 0o755); err != nil {
		return tools, err
	}
	wanted := clusterBinaries()
	if suite {
		wanted = append(wanted, suiteBinaries()...)
	}
	for _, b := range wanted {
		if _, err := os.Stat(tools.path(b.name)); err == nil {
			continue
		}
		if err := l.buildOne(ctx, tools, b); err != nil {
			return tools, err
		}
	}
	return tools, use(tools.dir)
}

// buildOne writes the binary under another name first, so that an interrupted
// build leaves nothing that looks finished.
func (l *Lab) buildOne(ctx context.Context, tools toolchain, b binary) error {
	start := time.Now()
	partial := tools.path("." + b.name + ".partial")
	args := []string{"build"}
	if b.test {
		args = []string{"test", "-c"}
	}
	args = append(args, "-trimpath", "-ldflags", linkerFlags(tools.versions[kubernetesModule]), "-o", partial, b.pkg)
	l.Progress.Step("building %s …", b.name)
	if _, err := goCommand(tools.source, buildTimeout, args...).run(ctx); err != nil {
		return err
	}
	if err := os.Rename(partial, tools.path(b.name)); err != nil {
		return err
	}
	l.Progress.Step("built %s in %.1fs", b.name, time.Since(start).Seconds())
	return nil
}

// linkerFlags stamp the version: components refuse to talk to a v0.0.0.
func linkerFlags(version string) string {
	const pkg = "k8s.io/component-base/version"
	minor := ""
	if parts := strings.Split(version, "."); len(parts) > 1 {
		minor = parts[1]
	}
	return fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=%[3]s -X %[1]s.gitTreeState=clean",
		pkg, version, minor)
}

// missingBinaries names what Build would have to make.
func (t toolchain) missingBinaries(wanted []binary) []string {
	var missing []string
	for _, b := range wanted {
		if _, err := os.Stat(t.path(b.name)); err != nil {
			missing = append(missing, b.name)
		}
	}
	return missing
}
