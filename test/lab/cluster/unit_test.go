package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAdaptController fails when an update of the module changes the manifest
// that is adapted, before a lab does.
func TestAdaptController(t *testing.T) {
	const manifest = `spec:
  replicas: 2
  minReadySeconds: 35
      containers:
        - name: snapshot-controller
          image: somewhere/snapshot-controller:v1
          args:
            - "--v=5"
            - "--leader-election=true"
`
	got, err := adaptController([]byte(manifest), "dozo.local/snapshot-controller:v8")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  replicas: 1\n", "  minReadySeconds: 0\n", "          image: dozo.local/snapshot-controller:v8\n",
		"            - \"--leader-election=false\"\n",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if _, err := adaptController([]byte("kind: Deployment\n"), "x"); err == nil {
		t.Error("a manifest without the lines to change gives no error")
	}
}

func TestProcessIdentity(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := findProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	if err := p.write(file); err != nil {
		t.Fatal(err)
	}
	read, err := readProcess(file)
	if err != nil || read != p {
		t.Fatalf("read %v, %v; wrote %v", read, err, p)
	}
	if !p.alive() {
		t.Error("a running process is not alive")
	}
	if other := (process{PID: p.PID, Start: "1"}); other.alive() {
		t.Error("another process of the same number counts as alive")
	}
	if err := p.kill(10 * time.Second); err != nil {
		t.Error(err)
	}
	if p.alive() { // a zombie by now: nothing has waited for it
		t.Error("a killed process is alive")
	}
	cmd.Wait() // its error is the signal
}

func TestCommandTellsWhy(t *testing.T) {
	_, err := command{args: []string{"ls", "/nonexistent"}, timeout: time.Minute}.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("the error does not say why: %v", err)
	}
	_, err = command{args: []string{"sleep", "60"}, timeout: 50 * time.Millisecond}.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no end after 50ms") {
		t.Errorf("the error does not name the deadline: %v", err)
	}
}

func TestPollStopsAtFatalErrors(t *testing.T) {
	start := time.Now()
	cause := errors.New("dead")
	err := poll(t.Context(), time.Minute, time.Millisecond, func(context.Context) error { return &fatalError{cause} })
	if !errors.Is(err, cause) || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestSuiteReport(t *testing.T) {
	const report = `[{"SpecReports":[
 {"ContainerHierarchyTexts":["External Storage"],"LeafNodeType":"It","LeafNodeText":"mounts","State":"passed","RunTime":2000000000},
 {"ContainerHierarchyTexts":["External Storage"],"LeafNodeType":"It","LeafNodeText":"grows","State":"failed","RunTime":1},
 {"LeafNodeType":"It","LeafNodeText":"other","State":"skipped"},
 {"LeafNodeType":"SynchronizedBeforeSuite","State":"passed"}]}]`
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, []byte(report), 0o600); err != nil {
		t.Fatal(err)
	}
	summary, err := readSuiteReport(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	summary.print(&out)
	want := "slow:    2.0s External Storage mounts\nFAILED: External Storage grows\n1 passed, 1 failed, 1 skipped\n"
	if out.String() != want {
		t.Errorf("printed\n%s, want\n%s", out.String(), want)
	}
}

// TestNASSecrets: nodes do not get the account, and the values name the Secrets that there are.
func TestNASSecrets(t *testing.T) {
	manifest, err := NAS{Account: "dozo", Password: "account's", CHAP: "twelve-chars-1", SMB: "user's"}.secrets([]byte("pem"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []struct {
			Metadata   struct{ Name, Namespace string }
			StringData map[string]string
		}
	}
	if err := json.Unmarshal(manifest, &list); err != nil || len(list.Items) != 3 {
		t.Fatalf("%s: %v", manifest, err)
	}
	login, node, smb := list.Items[0], list.Items[1], list.Items[2]
	if login.Metadata.Namespace != installNamespace || login.StringData["password"] != "account's" || login.StringData["ca.crt"] != "pem" {
		t.Errorf("the controller's: %+v", login)
	}
	if node.StringData["password"] != "" || node.StringData["node.session.auth.password"] != "twelve-chars-1" || len(node.StringData) != 2 {
		t.Errorf("the nodes': %+v", node)
	}
	if smb.StringData["username"] != nasUser || smb.StringData["password"] != "user's" || len(smb.StringData) != 2 {
		t.Errorf("the nodes', for SMB: %+v", smb)
	}
	for file, names := range map[string][]string{
		"synology-values.yaml": {nasLoginSecret, nasNodeSecret}, "synology-nfs-values.yaml": {nasLoginSecret}, "synology-smb-values.yaml": {nasLoginSecret, nasSMBSecret, nasUser},
	} {
		values, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(names, "https://"+nasSpec().address()+":"+nasPort) {
			if !strings.Contains(string(values), want) {
				t.Errorf("%s does not have %s", file, want)
			}
		}
	}
}
