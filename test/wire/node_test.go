package wire

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/test/lab/api"
)

// TestNode: 'dozo node' of a cluster takes its pools from lvmd by their names. What is not served there is a pool
// that is not ready, and says what to do; lvmd is killed and comes back, with one pool more, and the node goes on.
func TestNode(t *testing.T) {
	t.Parallel()
	server, d := api.Start(t), start(t, t.TempDir())
	n := &node{T: t, api: server.Client}
	n.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	n.create(poolObject("images", nil))
	n.create(poolObject("pictures", nil))
	n.create(poolObject("both", map[string]string{"path": "/x"}))
	n.start(server.Kubeconfig(), d)

	n.says("images", "")
	n.says("pictures", `"pictures" is not served here; add it to the pools in `+d.config()+` on node n1, and restart dozo lvmd`)
	n.says("both", "options: they are set where the pool is opened")
	n.makes("images", "v")
	d.kill()
	n.says("images", "does dozo lvmd run?")
	d.add("pictures", t.TempDir())
	d.run()
	n.says("images", "")
	n.says("pictures", "")
	n.makes("images", "w")
	n.makes("pictures", "v")
}

func poolObject(name string, options map[string]string) *v1alpha1.Pool {
	return &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PoolSpec{Kind: "loopfile", Options: options}}
}

// add has the daemon serve one more pool, from its next start.
func (d *daemon) add(name, images string) {
	d.t.Helper()
	text, err := os.ReadFile(d.config())
	if err != nil {
		d.t.Fatal(err)
	}
	text = fmt.Appendf(text, "- {name: %s, kind: loopfile, options: {path: %s, spare: \"0\"}}\n", name, images)
	if err := os.WriteFile(d.config(), text, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// node is 'dozo node' as a process, and what the API server has of it.
type node struct {
	*testing.T
	api    client.Client
	exited chan struct{}
}

func (n *node) start(kubeconfig string, d *daemon) {
	n.Helper()
	dir := n.TempDir()
	cmd := exec.Command(program, "node", "--kind", "loopfile", "--node-name", "n1", "--kubeconfig", kubeconfig,
		"--lvmd-socket", d.socket(), "--endpoint", filepath.Join(dir, "csi.sock"), "--state-dir", filepath.Join(dir, "state"), "--kubelet-dir", dir)
	cmd.Stderr = n.Output()
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	n.exited = make(chan struct{})
	go func() {
		defer close(n.exited)
		_ = cmd.Wait() // it is killed in the end
	}()
	n.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-n.exited
	})
}

func (n *node) create(o client.Object) {
	n.Helper()
	if err := n.api.Create(n.Context(), o); err != nil {
		n.Fatal(err)
	}
}

// says waits until the node says of a pool that it is ready, or why not.
func (n *node) says(pool, why string) {
	n.Helper()
	n.until("pool "+pool+" says "+why, func() (string, bool) {
		var storage v1alpha1.NodeStorage
		if err := n.api.Get(n.Context(), client.ObjectKey{Name: "n1"}, &storage); err != nil {
			return err.Error(), false
		}
		for _, p := range storage.Status.Pools {
			if c := meta.FindStatusCondition(p.Conditions, v1alpha1.ConditionReady); p.Name == pool && c != nil {
				ready := c.Status == metav1.ConditionTrue
				return c.Message, ready == (why == "") && strings.Contains(c.Message, why)
			}
		}
		return "nothing", false
	})
}

// makes asks for a volume and waits until it is there.
func (n *node) makes(pool, id string) {
	n.Helper()
	v := &v1alpha1.NodeVolume{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ObjectName(pool, id)},
		Spec:       v1alpha1.NodeVolumeSpec{ItemSpec: v1alpha1.ItemSpec{Node: "n1", Pool: pool, Name: id}, Size: resource.MustParse("4Mi")},
	}
	n.create(v)
	n.until("volume "+v.Name+" is there", func() (string, bool) {
		if err := n.api.Get(n.Context(), client.ObjectKeyFromObject(v), v); err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%+v", v.Status), meta.IsStatusConditionTrue(v.Status.Conditions, v1alpha1.ConditionReady)
	})
}

func (n *node) until(what string, done func() (string, bool)) {
	n.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		said, ok := done()
		if ok {
			return
		}
		select {
		case <-n.exited:
			n.Fatalf("the process ended, before: %s", what)
		default:
		}
		if time.Now().After(end) {
			n.Fatalf("waited in vain: %s; last: %s", what, said)
		}
	}
}
