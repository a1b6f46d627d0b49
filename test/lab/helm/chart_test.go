package helm

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	chart = "../../../deploy/chart/dozo"
	// snapshotAPI is what a cluster with snapshots says that it has.
	snapshotAPI = "snapshot.storage.k8s.io/v1/VolumeSnapshotClass"
)

var update = flag.Bool("update", false, "write the golden files anew")

// cases are the files of values in testdata, and the cluster's APIs.
func cases() map[string][]string {
	return map[string][]string{
		"plain":    {"--api-versions", snapshotAPI},
		"full":     nil,
		"optional": nil,
	}
}

// command is the helm command.
type command struct{ program string }

// newCommand builds it, with the lab's settings, so that both find it in Go's cache.
func newCommand(t *testing.T) command {
	t.Helper()
	cmd := exec.Command("go", "tool", "-n", "helm")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return command{strings.TrimSpace(string(out))}
}

// run runs it as a user would, and returns what it printed.
func (c command) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(c.program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HELM_CACHE_HOME="+t.TempDir())
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	return out.String() + said.String(), err
}

// render returns what is installed in one of the cases.
func (c command) render(t *testing.T, name string) string {
	t.Helper()
	args := append([]string{"template", "dozo", chart, "--namespace", "dozo",
		"--values", filepath.Join(chart, "testdata", name+".values.yaml")}, cases()[name]...)
	out, err := c.run(t, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// TestGolden shows a change of the chart as what it changes in a cluster.
func TestGolden(t *testing.T) {
	helm := newCommand(t)
	for name := range cases() {
		golden := filepath.Join(chart, "testdata", name+".golden.yaml")
		got := helm.render(t, name)
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is not what the chart renders: look at the change with\n  go -C test/lab/helm test -run Golden -update && git diff deploy/chart\n%s",
				golden, firstDifference(got, string(want)))
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "first difference:\n  got  " + g[i] + "\n  want " + w[i]
		}
	}
	return "one of them is longer"
}

func TestLint(t *testing.T) {
	helm := newCommand(t)
	for name := range cases() {
		out, err := helm.run(t, "lint", "--strict", chart, "--values", filepath.Join(chart, "testdata", name+".values.yaml"))
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestWrongValues are refused by name, before anything is installed.
func TestWrongValues(t *testing.T) {
	helm := newCommand(t)
	for set, says := range map[string]string{
		"pools.images.options.path=relative":          "/pools/images/options/path",
		"pools.images.options.pth=/x":                 "'pth'",
		"pools.images.kind=zfs":                       "/pools/images/kind",
		"pools.images.placement=Random":               "/pools/images/placement",
		"pools.images.nodeSelector.disk=big":          "/pools/images/nodeSelector",
		"pools.images.options.path=/srv/disks/a":      "pools.images.options.path",
		"drivers.loopfile.enabled=false":              "drivers.loopfile.enabled",
		"drivers.lvm.enabled=perhaps":                 "/drivers/lvm/enabled",
		"drivers.zfs.enabled=true":                    "'zfs'",
		"pools.images=null,storageClasses.dozo=null":  "there is nothing to install",
		"storageClasses.dozo.volumeBindingMode=Later": "/storageClasses/dozo/volumeBindingMode",
		"snapshots.default=zfs":                       "/snapshots/default",
		"controller.replicas=0":                       "/controller/replicas",
		"pools.Images.kind=loopfile":                  "Images",
		"pools.images.options.requireMount=yes":       "/pools/images/options/requireMount",
		"storageClasses.dozo.pool=none":               "storageClasses.dozo.pool",
		"storageClasses.dozo.fsType=ntfs":             "/storageClasses/dozo/fsType",
		"storageClasses.dozo.reclaimPolicy=Recycle":   "/storageClasses/dozo/reclaimPolicy",
		"snapshots.enabled=maybe":                     "/snapshots/enabled",
		"image.pullPolicy=Sometimes":                  "/image/pullPolicy",
		"sidecars.atacher.tag=v1":                     "'atacher'",
		"pools.images.secret=login":                   "/pools/images",
		"pools.n.kind=synology,pools.n.secret=s":      "/pools/n",
		"pools.n.kind=synology,pools.n.options.url=u": "/pools/n",
		"drivers.synology.secrets={A}":                "/drivers/synology/secrets",
		"drivers.synology.hostPorts.health=0":         "/drivers/synology/hostPorts/health",
		"drivers.synology.initiator=host":             "/drivers/synology/initiator",
		"storageClasses.dozo.nodeSecret=A":            "/storageClasses/dozo/nodeSecret",
		"node.terminationGracePeriodSeconds=5":        "/node/terminationGracePeriodSeconds",
		"node.maxUnavailable=0":                       "/node/maxUnavailable",
		"metrics.port=9808":                           "/metrics/port",
		"pools.images.kind=lvm":                       "pools.images.options.volumeGroup: missing",
		"pools.d.kind=loopfile":                       "/pools/d",
		"drivers.lvm.lvmd.socket=/run/lvmd.sock":      "/drivers/lvm/lvmd/socket",
		"drivers.lvm.lvmd.socket=relative/lvmd.sock":  "/drivers/lvm/lvmd/socket",
		"drivers.lvm.lvmd.socket=/run/dozo/lvmd/s,pools.d.kind=lvm,pools.d.options.volumeGroup=vg0": "remove them here: volumeGroup",
		"scheduler.enabled=perhaps":                "/scheduler/enabled",
		"scheduler.mode=random":                    "/scheduler/mode",
		"scheduler.defaultDivisor=0":               "/scheduler/defaultDivisor",
		"scheduler.divisors.ssd=-1":                "/scheduler/divisors/ssd",
		"scheduler.divisors.S S=1":                 "'S S'",
		"scheduler.clusterIP=dozo-scheduler.dozo":  "/scheduler/clusterIP",
		"webhook.schedulerNames=default-scheduler": "/webhook/schedulerNames",
		"webhook.failurePolicy=Fail":               "'failurePolicy'",
		"poools.images.kind=loopfile":              "'poools'",
	} {
		out, err := helm.run(t, "template", "dozo", chart, "--set", set)
		if err == nil || !strings.Contains(out, says) {
			t.Errorf("--set %s: %v, does not name %s:\n%.400s", set, err, says, out)
		}
	}
}
