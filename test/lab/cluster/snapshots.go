package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	snapshotterModule = csiModules + "external-snapshotter/v8"
	snapshotClient    = csiModules + "external-snapshotter/client/v8"
	kubeSystem        = "kube-system"
	snapshotName      = "snapshot-controller"
)

// installSnapshots applies the snapshot API and its controller from the
// manifests that their modules carry.
func (l *Lab) installSnapshots(ctx context.Context, tools toolchain) error {
	crds, err := tools.moduleDir(ctx, snapshotClient)
	if err != nil {
		return err
	}
	if err := l.apply(ctx, tools, filepath.Join(crds, "config", "crd"), nil); err != nil {
		return err
	}
	module, err := tools.moduleDir(ctx, snapshotterModule)
	if err != nil {
		return err
	}
	dir := filepath.Join(module, "deploy", "kubernetes", snapshotName)
	rbac, err := os.ReadFile(filepath.Join(dir, "rbac-"+snapshotName+".yaml"))
	if err != nil {
		return err
	}
	deployment, err := os.ReadFile(filepath.Join(dir, "setup-"+snapshotName+".yaml"))
	if err != nil {
		return err
	}
	deployment, err = adaptController(deployment, localRegistry+snapshotName+":"+tools.versions[snapshotterModule])
	if err != nil {
		return err
	}
	manifests := bytes.Join([][]byte{rbac, deployment}, []byte("\n---\n"))
	if err := l.apply(ctx, tools, "-", manifests); err != nil {
		return err
	}
	l.Progress.Step("snapshot API and controller installed")
	return nil
}

// adaptController points the upstream Deployment at the local image, makes one
// replica of it.
func adaptController(manifest []byte, image string) ([]byte, error) {
	for _, change := range []struct{ pattern, replacement string }{
		{`(?m)^(\s+)image: .*$`, "${1}image: " + image},
		{`(?m)^(\s+replicas:) \d+$`, "${1} 1"},
		{`(?m)^(\s+minReadySeconds:) \d+$`, "${1} 0"},
		{`(?m)^(\s+)- "--leader-election=true"$`, "${1}- \"--leader-election=false\""},
	} {
		pattern := regexp.MustCompile(change.pattern)
		if !pattern.Match(manifest) {
			return nil, fmt.Errorf("the snapshot controller's manifest has no line like %s: adapt adaptController to it", change.pattern)
		}
		manifest = pattern.ReplaceAll(manifest, []byte(change.replacement))
	}
	return manifest, nil
}

// awaitSnapshots waits for the controller's pod: the first proof that pods
// start, see the API server's Service and carry a token.
func (l *Lab) awaitSnapshots(ctx context.Context, api *apiClient) error {
	err := l.await(ctx, 2*time.Minute, func(ctx context.Context) error {
		deployment, err := api.deployment(ctx, kubeSystem, snapshotName)
		if err != nil {
			return err
		}
		if available, message := deployment.condition("Available"); !available {
			return fmt.Errorf("%s", message)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the snapshot controller does not run: %w", err)
	}
	l.Progress.Step("snapshot controller running")
	return nil
}

// moduleDir is where the module cache has a module's files.
func (t toolchain) moduleDir(ctx context.Context, module string) (string, error) {
	out, err := goCommand(t.source, 5*time.Minute, "mod", "download", "-json", module).run(ctx)
	if err != nil {
		return "", err
	}
	var info struct{ Dir string }
	if err := json.Unmarshal(out, &info); err != nil {
		return "", err
	}
	return info.Dir, nil
}

// apply applies a file, a directory (with its kustomization) or standard input.
func (l *Lab) apply(ctx context.Context, tools toolchain, source string, stdin []byte) error {
	flag := "-f"
	if _, err := os.Stat(filepath.Join(source, "kustomization.yaml")); err == nil {
		flag = "-k"
	}
	_, err := command{
		args:    []string{tools.path("kubectl"), "--kubeconfig", l.Kubeconfig(), "apply", "--server-side", flag, source},
		stdin:   strings.NewReader(string(stdin)),
		timeout: 2 * time.Minute,
	}.run(ctx)
	return err
}
