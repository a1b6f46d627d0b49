package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/dozo-dev/dozo/test/driver"
	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/lab/api"
)

const (
	nodeName = "node"
	program  = "dozo"       // in the directory that the guest sees too
	config   = "kubeconfig" // there, too

	metricsPort = "9100"
	patience    = 5 * time.Minute
)

// cluster is what a volume passes on its way, all but the provisioner and the kubelet: dozo controller, over its
// socket, and an API server on this machine, dozo node with LVM in a guest.
type cluster struct {
	*api.Server
	t     *testing.T
	net   *lab.Net
	csi   csi.ControllerClient
	http  http.Client // in the guests' network
	steps int
}

func newCluster(t *testing.T, n *lab.Net) *cluster {
	t.Helper()
	c := &cluster{Server: api.Start(t), t: t, net: n}
	c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = n.InNetwork(func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}}
	t.Cleanup(c.showLogs)
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(n.Dir(), program), "github.com/dozo-dev/dozo/cmd/dozo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c.must(c.Client.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}))
	c.letIn()
	c.startController()
	return c
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// letIn makes the API server one that the guest reaches, and writes how.
func (c *cluster) letIn() {
	c.t.Helper()
	var l net.Listener
	c.must(c.net.InNetwork(func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(c.net.IP(lab.Host).String(), "0"))
		return err
	}))
	c.t.Cleanup(func() { l.Close() })
	go forward(l, strings.TrimPrefix(c.Config.Host, "https://"))

	k, err := clientcmd.LoadFromFile(c.Kubeconfig())
	c.must(err)
	c.must(clientcmdapi.FlattenConfig(k))
	for _, cluster := range k.Clusters {
		cluster.Server, cluster.TLSServerName = "https://"+l.Addr().String(), "127.0.0.1"
	}
	c.must(clientcmd.WriteToFile(*k, filepath.Join(c.net.Dir(), config)))
}

// forward hands on what comes in, until the listener is closed.
func forward(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
			}()
		}
	}
}

func (c *cluster) startController() {
	c.t.Helper()
	socket := "unix://" + filepath.Join(c.t.TempDir(), "csi.sock")
	cmd := exec.Command(filepath.Join(c.net.Dir(), program), "controller", "--kind", "lvm", "--kubeconfig", c.Kubeconfig(),
		"--namespace", "default", "--endpoint", socket)
	start(c.t, c.net, cmd)
	conn, err := grpc.NewClient(socket, driver.DialOptions()...)
	c.must(err)
	c.t.Cleanup(func() { conn.Close() })
	c.csi = csi.NewControllerClient(conn)
}

// start starts a process that ends with the test.
func start(t *testing.T, n *lab.Net, cmd *exec.Cmd) {
	t.Helper()
	log, err := os.Create(filepath.Join(n.Dir(), cmd.Args[1]+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
	})
}

// showLogs shows what the processes said at last, if the test failed.
func (c *cluster) showLogs() {
	if !c.t.Failed() {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(c.net.Dir(), "*.log"))
	for _, log := range logs {
		text, err := os.ReadFile(log)
		c.t.Logf("%s (%v) ends with:\n%s", filepath.Base(log), err, text[max(0, len(text)-6000):])
	}
}

// order has the guest do something, and returns its answer.
func (c *cluster) order(format string, args ...any) string {
	c.t.Helper()
	c.steps++
	c.net.Put(fmt.Sprint("order.", c.steps), fmt.Sprintf(format, args...))
	return c.net.Get(fmt.Sprint("answer.", c.steps), patience)
}

// used is what dozo node has used since it was started.
type used struct {
	commands float64 // of LVM
	inThem   time.Duration
	memory   float64 // now, in MiB
}

func (u used) since(before used) used {
	return used{u.commands - before.commands, u.inThem - before.inThem, u.memory}
}

// used reads the node's metrics.
func (c *cluster) used() (u used) {
	c.t.Helper()
	answer, err := c.http.Get("http://" + net.JoinHostPort(c.net.IP(nodeName).String(), metricsPort) + "/metrics")
	c.must(err)
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		switch metric, labels, _ := strings.Cut(name, "{"); {
		case err != nil: // a comment
		case metric == "process_resident_memory_bytes":
			u.memory = value / (1 << 20)
		case metric == "dozo_host_command_duration_seconds_count" && strings.Contains(labels, `program="lvm"`):
			u.commands += value
		case metric == "dozo_host_command_duration_seconds_sum" && strings.Contains(labels, `program="lvm"`):
			u.inThem += time.Duration(value * float64(time.Second))
		}
	}
	return u
}
