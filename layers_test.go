package dozo_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dozo-dev/dozo/"

// layer is what one part of the tree may import: of this module the packages in uses (a trailing "/*"
// means all below), and of other modules nothing that is in never.
type layer struct {
	of    string // packages, a trailing "/*" means all below
	uses  []string
	never []string
	why   string
}

// The rules of ARCHITECTURE.md, innermost first. The first that fits a package is its rule.
var layers = []layer{
	{of: "api/*", never: []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "google.golang.org"},
		why: "the API is types: whoever imports it gets apimachinery and nothing more"},
	{of: "internal/errs", never: []string{"k8s.io", "google.golang.org", "os/exec", "net/http"},
		why: "everything stands on errs, so it stands on nothing"},
	{of: "internal/errs/errstest", uses: []string{"internal/errs"}, why: "a check of errors knows only errors"},
	{of: "internal/backend", uses: []string{"internal/errs"}, never: []string{"k8s.io", "google.golang.org", "golang.org/x", "os/exec", "net/http"},
		why: "the contract is data and interfaces: an implementation in it would become everybody's"},
	{of: "internal/host", uses: []string{"internal/errs"}, never: []string{"google.golang.org", "k8s.io/api", "k8s.io/client-go"},
		why: "the host is mechanism: it knows neither volumes nor Kubernetes (k8s.io/mount-utils is the one exception)"},
	{of: "internal/host/hosttest", uses: []string{"internal/errs", "internal/host"}, why: "a stand-in for the host knows only the host"},
	{of: "internal/backend/all", uses: []string{"internal/backend", "internal/backend/*", "internal/host"}, why: "the list of kinds is a list"},
	{of: "internal/backend/backendtest", uses: []string{"internal/backend", "internal/errs", "internal/pool", "internal/backend/fake"},
		why: "the law knows the contract, and no kind but the fake that it is tried on"},
	{of: "internal/backend/lvm", uses: []string{"internal/backend", "internal/backend/lvm/*", "internal/errs", "internal/host", "internal/host/block", "internal/host/dm", "internal/keylock"},
		never: []string{"k8s.io/api", "k8s.io/client-go", "google.golang.org/grpc"},
		why:   "a backend knows its storage and the host: never another kind, never Kubernetes, never who calls it"},
	{of: "internal/backend/lvm/metadata", why: "the format is a format: it reads bytes and knows nobody"},
	{of: "internal/backend/lvm/layout", uses: []string{"internal/backend/lvm/metadata", "internal/backend/lvm/vg"}, why: "a layout is arithmetic over a volume group"},
	{of: "internal/backend/lvm/devices", uses: []string{"internal/errs", "internal/host", "internal/host/block", "internal/host/fs"},
		never: []string{"k8s.io", "google.golang.org"}, why: "whether a device is empty has nothing to do with what becomes of it"},
	{of: "internal/backend/lvm/vg", uses: []string{"internal/backend/lvm/metadata", "internal/errs", "internal/host"}, never: []string{"k8s.io", "google.golang.org"},
		why: "volume groups are LVM's: what a pool makes of them is not theirs to know"},
	{of: "internal/backend/synology/dsm", uses: []string{"internal/errs"}, never: []string{"k8s.io", "google.golang.org", "golang.org/x", "os/exec"},
		why: "the client of a NAS speaks its Web API: it knows neither volumes nor this machine"},
	{of: "internal/backend/synology", uses: []string{"internal/backend", "internal/backend/synology/dsm", "internal/errs", "internal/keylock"},
		never: []string{"k8s.io", "google.golang.org", "os/exec"},
		why:   "volumes on a NAS are made through its client: never another kind, never Kubernetes, and nothing of this machine"},
	{of: "internal/backend/*", uses: []string{"internal/backend", "internal/errs", "internal/host"},
		never: []string{"k8s.io/api", "k8s.io/client-go", "google.golang.org/grpc"},
		why:   "a backend knows its storage and the host: never another kind, never Kubernetes, never who calls it"},
	{of: "internal/host/crypt", uses: []string{"internal/host", "internal/host/fs", "internal/backend", "internal/errs"},
		why: "encryption looks at a device as mkfs does before it writes to it"},
	{of: "internal/host/connect", uses: []string{"internal/host", "internal/host/dm", "internal/host/iscsi", "internal/backend", "internal/errs", "internal/keylock"},
		why: "what connects knows the ways, and who is at a target that volumes share"},
	{of: "internal/host/iscsi", uses: []string{"internal/host", "internal/errs"}, why: "the initiator knows targets and disks, and not what they are for"},
	{of: "internal/host/*", uses: []string{"internal/host", "internal/backend", "internal/errs"},
		why: "the host acts on a backend's data (Access), and knows no backend"},
	{of: "internal/keylock", uses: []string{"internal/backend", "internal/errs"}, why: "locks, and which of them an operation on a volume takes"},
	{of: "internal/pool", uses: []string{"internal/backend", "internal/errs", "internal/host", "internal/keylock"}, never: []string{"google.golang.org/grpc", "k8s.io"},
		why: "policy is the same for every kind and every front"},
	{of: "internal/node", uses: []string{"internal/backend", "internal/errs", "internal/host", "internal/host/*", "internal/pool", "internal/keylock"},
		never: []string{"google.golang.org/grpc", "k8s.io"}, why: "the node works without CSI and without Kubernetes"},
	{of: "internal/socket", uses: []string{"internal/errs"}, why: "a socket knows nothing of what is served on it"},
	{of: "internal/wire/proto", why: "it is generated"},
	{of: "internal/wire", uses: []string{"internal/backend", "internal/errs", "internal/keylock", "internal/pool", "internal/socket", "internal/wire/proto"},
		never: []string{"k8s.io", "os/exec"}, why: "the wire carries the contract of any kind: it knows none, and does nothing itself"},
	{of: "internal/csi", uses: []string{"internal/backend", "internal/errs", "internal/host", "internal/pool", "internal/node", "internal/socket"},
		why: "a front translates: it imports what it fronts and no other front"},
	{of: "internal/demo", uses: []string{"internal/backend", "internal/host"},
		why: "the demo is a client: it sees the driver over CSI only, as a kubelet does"},
	{of: "internal/agent/record", uses: []string{"api/*", "internal/backend", "internal/errs"},
		why: "the two ends of the agent share what their objects mean, and nothing that acts"},
	{of: "internal/agent", uses: []string{"api/*", "internal/agent/record", "internal/backend", "internal/errs", "internal/host", "internal/pool"}, never: []string{"google.golang.org/grpc"},
		why: "the agent brings objects onto local pools: it knows no front and no kind"},
	{of: "internal/agent/remote", uses: []string{"api/*", "internal/agent/record", "internal/backend", "internal/errs", "internal/pool"}, never: []string{"google.golang.org/grpc"},
		why: "the other end of the agent speaks to it through objects only"},
	{of: "internal/controller", uses: []string{"api/*", "internal/controller/*"}, why: "the list of reconcilers is a list"},
	{of: "internal/pv", uses: []string{"internal/backend"}, never: []string{"sigs.k8s.io/controller-runtime", "google.golang.org"},
		why: "what a PersistentVolume of ours means is read from it alone"},
	{of: "internal/controller/pool/open", uses: []string{"api/*", "internal/agent/record", "internal/errs", "internal/pool"}, never: []string{"google.golang.org/grpc"},
		why: "what opens pools for a cluster knows objects and pools: no kind, and no front"},
	{of: "internal/controller/*", uses: []string{"api/*", "internal/agent/record", "internal/backend", "internal/claims", "internal/errs", "internal/pv"}, never: []string{"google.golang.org/grpc"},
		why: "a reconciler sees objects: storage is the agents' work"},
	{of: "internal/imports", uses: []string{"api/*", "internal/agent/record", "internal/backend", "internal/errs", "internal/pv"}, never: []string{"google.golang.org/grpc", "os/exec"},
		why: "what a person asks of a cluster goes through its objects: storage is the agents' work, or that of a pool that it is handed"},
	{of: "internal/orphans", uses: []string{"api/*", "internal/agent/record", "internal/backend", "internal/errs", "internal/pv"}, never: []string{"google.golang.org/grpc", "os/exec"},
		why: "what a person asks of a cluster goes through its objects: storage is the agents' work"},
	{of: "internal/claims", uses: []string{"api/*", "internal/backend", "internal/errs"}, never: []string{"google.golang.org/grpc", "os/exec"},
		why: "what a pod asks for is read from objects; who wants to know it is not its business"},
	{of: "internal/scheduler", uses: []string{"api/*", "internal/backend", "internal/claims", "internal/errs"}, never: []string{"google.golang.org/grpc", "os/exec"},
		why: "the extender decides over figures: it touches no storage, and no other front"},
	{of: "internal/webhook", uses: []string{"internal/claims", "internal/errs"}, never: []string{"google.golang.org/grpc", "os/exec"},
		why: "admission sees pods and claims, and no other front"},
	{of: "cmd/*", uses: []string{"internal/*", "api/*"}, why: "commands wire; they may import all"},
	{of: "test/*", uses: []string{"api/*", "internal/*", "test/*"}, why: "tests of the whole may import all"},
}

func TestLayers(t *testing.T) {
	for _, f := range sources(t) {
		pkg := path.Dir(f)
		i := slices.IndexFunc(layers, func(l layer) bool { return matches(l.of, pkg) })
		if i < 0 {
			if pkg != "." {
				t.Errorf("%s: no layer for package %s: add it to the rules in layers_test.go and to ARCHITECTURE.md", f, pkg)
			}
			continue
		}
		for _, imported := range imports(t, f) {
			if reason := layers[i].refuses(pkg, imported, strings.HasSuffix(f, "_test.go")); reason != "" {
				t.Errorf("%s imports %s: %s", f, imported, reason)
			}
		}
	}
}

// refuses says why a package may not import another, "" if it may. Tests of a package may use the
// stand-ins and the law beside what their package may use.
func (l layer) refuses(pkg, imported string, test bool) string {
	ours, isOurs := strings.CutPrefix(imported, module)
	if !isOurs {
		for _, n := range l.never {
			if imported == n || strings.HasPrefix(imported, n+"/") {
				if n == "k8s.io" && strings.HasPrefix(imported, "k8s.io/mount-utils") && strings.HasPrefix(pkg, "internal/host") {
					continue
				}
				return l.why
			}
		}
		return ""
	}
	if ours == pkg || slices.ContainsFunc(l.uses, func(u string) bool { return matches(u, ours) }) {
		return ""
	}
	if test && slices.Contains(forTests, ours) {
		return ""
	}
	return l.why
}

// forTests are the packages that tests of any layer may use.
var forTests = []string{"internal/errs/errstest", "internal/host/hosttest", "internal/backend/fake", "internal/backend/backendtest", "internal/pool", "internal/host", "internal/backend", "internal/errs", "test/lab", "test/lab/api", "test/driver", "test/dsmsim"}

// TestOnlyCommandsNameTheKinds is the rule that keeps a new kind out of everything but itself.
func TestOnlyCommandsNameTheKinds(t *testing.T) {
	for _, f := range sources(t) {
		if slices.Contains(imports(t, f), module+"internal/backend/all") && !strings.HasPrefix(f, "cmd/") && !strings.HasPrefix(f, "test/") {
			t.Errorf("%s imports backend/all: only commands choose kinds", f)
		}
	}
	for _, dir := range []string{"internal/pool", "internal/node", "internal/csi"} {
		for _, f := range sources(t) {
			if path.Dir(f) != dir {
				continue
			}
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, kind := range kinds(t) {
				if strings.Contains(strings.ToLower(string(text)), kind) {
					t.Errorf("%s names the kind %q: what is above the backends knows none of them", f, kind)
				}
			}
		}
	}
}

// kinds are the directories of backends, and the kinds still to come.
func kinds(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("internal/backend")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"drbd", "synology", "cephfs", "topolvm"}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains([]string{"all", "backendtest", "fake"}, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestRulesCanFail tries the rules on imports that must be refused.
func TestRulesCanFail(t *testing.T) {
	for _, c := range []struct{ pkg, imported string }{
		{"internal/errs", "k8s.io/klog/v2"},
		{"internal/backend/synology/dsm", module + "internal/backend"},
		{"internal/backend", "os/exec"},
		{"internal/backend", module + "internal/host"},
		{"internal/backend/loopfile", module + "internal/pool"},
		{"internal/backend/loopfile", module + "internal/backend/lvm"},
		{"internal/backend/loopfile", "google.golang.org/grpc/codes"},
		{"internal/host", module + "internal/backend"},
		{"internal/pool", "google.golang.org/grpc/codes"},
		{"internal/node", module + "internal/csi"},
		{"internal/csi", module + "internal/flex"},
		{"internal/demo", module + "internal/pool"},
		{"internal/wire", module + "internal/backend/loopfile"},
		{"internal/wire", module + "internal/host"},
		{"internal/pool", module + "internal/wire"},
		{"internal/scheduler", module + "internal/webhook"},
		{"internal/webhook", module + "internal/scheduler"},
		{"internal/claims", module + "internal/pool"},
		{"api/v1alpha1", module + "internal/backend"},
		{"api/v1alpha1", "sigs.k8s.io/controller-runtime/pkg/client"},
		{"internal/agent", module + "internal/csi"},
		{"internal/agent/remote", module + "internal/agent"},
		{"internal/controller/pool/status", module + "internal/pool"},
	} {
		i := slices.IndexFunc(layers, func(l layer) bool { return matches(l.of, c.pkg) })
		if i < 0 || layers[i].refuses(c.pkg, c.imported, false) == "" {
			t.Errorf("%s may import %s: the rules allow what they must not", c.pkg, c.imported)
		}
	}
}

func matches(pattern, pkg string) bool {
	if below, ok := strings.CutSuffix(pattern, "/*"); ok {
		return strings.HasPrefix(pkg, below+"/")
	}
	return pattern == pkg
}

// sources lists the module's Go files, without those of modules inside it.
func sources(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && p != "." {
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil || strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata" {
				return filepath.SkipDir
			}
		}
		if strings.HasSuffix(p, ".go") {
			files = append(files, filepath.ToSlash(p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, i := range f.Imports {
		all = append(all, strings.Trim(i.Path.Value, `"`))
	}
	return all
}
