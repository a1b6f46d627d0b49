package main

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	testdriver "github.com/dozo-dev/dozo/test/driver"
	"github.com/dozo-dev/dozo/test/lab/api"
)

const (
	password = "correct horse battery staple"
	// The chart gives its rights to the controller of a kind by name, so the fake goes by that here, and uses a Secret that
	// the chart's values name.
	outsideKind = "synology"
	loginSecret = "nas-login"
)

// nas is storage outside the cluster that wants a password, and can be away.
type nas struct {
	mu     sync.Mutex
	away   bool
	logins int                      // with the right password
	pools  map[string]*fake.Backend // as opened last
}

// kind is that of pools on it. It has two options, as real ones do.
func (n *nas) kind() backend.Kind {
	k := fake.Kind(fake.Options{Outside: true, Total: 1 << 30})
	k.Name = outsideKind
	k.Options = []backend.Parameter{{Name: "url", Required: true, Help: "where it is"}}
	open := k.Open
	k.Open = func(ctx context.Context, c backend.Config) (backend.Backend, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		switch {
		case n.away:
			return nil, errs.E(errs.Unavailable, "%s does not answer", c.Options["url"])
		case string(c.Secrets["password"]) != password:
			return nil, errs.E(errs.Invalid, "secret: the password is refused")
		}
		b, err := open(ctx, c)
		if err == nil {
			n.logins++
			n.pools[c.Pool] = b.(*fake.Backend)
		}
		return b, err
	}
	return k
}

func (n *nas) goAway(away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away = away
	for _, b := range n.pools {
		b.Arm(func(e *fake.Errors) {
			e.Down = nil
			if away {
				e.Down = errs.E(errs.Unavailable, "https://nas:5001 does not answer")
			}
		})
	}
}

func (n *nas) opened(pool string) *fake.Backend {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pools[pool]
}

// central is 'dozo controller' of a kind outside the cluster, in this process, with a real API server.
type central struct {
	*api.Server
	t    *testing.T
	nas  *nas
	log  *lockedBuffer
	conn *grpc.ClientConn
}

// lockedBuffer is a log that is written and read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const namespace = "dozo"

func startCentral(t *testing.T) *central {
	c := &central{Server: api.Start(t), t: t, nas: &nas{pools: map[string]*fake.Backend{}}, log: &lockedBuffer{}}
	c.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	config := c.asInstalled()
	socket := "unix://" + filepath.Join(t.TempDir(), "csi.sock")
	flags := serveFlags{endpoint: socket, nodeName: "controller", cluster: clusterFlags{namespace: namespace}}
	o := newDriverOptions(role{controller: true}, flags, slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	o.kind = c.nas.kind()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveController(ctx, o, config) }()
	var err error
	log.SetLogger(logr.FromSlogHandler(o.log.Handler()))
	if c.conn, err = grpc.NewClient(socket, testdriver.DialOptions()...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
		if strings.Contains(c.log.String(), password) {
			t.Error("the password is in the log")
		}
		if strings.Contains(c.log.String(), "forbidden") {
			t.Error("the chart's rights are not enough: see the log")
		}
		if t.Failed() {
			t.Log(c.log.String())
		}
	})
	return c
}

// asInstalled installs what the chart has for the controller, and returns how that reaches the API: with the chart's rights.
func (c *central) asInstalled() *rest.Config {
	c.t.Helper()
	scheme := api.Scheme(c.t)
	if err := appsv1.AddToScheme(scheme); err != nil {
		c.t.Fatal(err)
	}
	const component = outsideKind + "-controller"
	for _, o := range api.Rendered(c.t, scheme, component) {
		if _, ok := o.(*appsv1.Deployment); !ok {
			c.make(o)
		}
	}
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":dozo-" + component,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	return config
}

func (c *central) make(o client.Object) {
	c.t.Helper()
	if err := c.Client.Create(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}

func (c *central) secret(name, value string) {
	c.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if _, err := controllerutil.CreateOrUpdate(c.t.Context(), c.Client, s, func() error {
		s.Data = map[string][]byte{"password": []byte(value)}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *central) pool(name, secret string) {
	c.t.Helper()
	c.make(&v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PoolSpec{
		Kind: outsideKind, Options: map[string]string{"url": "https://nas:5001"}, SecretRef: &v1alpha1.SecretReference{Name: secret},
	}})
}

func (c *central) object(name string) *v1alpha1.Pool {
	c.t.Helper()
	p := &v1alpha1.Pool{}
	if err := c.Client.Get(c.t.Context(), client.ObjectKey{Name: name}, p); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// until waits for something, as long as a slow machine may need.
func (c *central) until(what string, done func() bool) {
	c.t.Helper()
	for end := time.Now().Add(90 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// says waits until a Pool is ready, or is not and says why.
func (c *central) says(pool string, ready metav1.ConditionStatus, words ...string) {
	c.t.Helper()
	var last *metav1.Condition
	defer func() {
		if c.t.Failed() {
			c.t.Logf("pool %s says %+v", pool, last)
		}
	}()
	c.until("pool "+pool+" says Ready "+string(ready)+": "+strings.Join(words, " "), func() bool {
		last = meta.FindStatusCondition(c.object(pool).Status.Conditions, v1alpha1.ConditionReady)
		return last != nil && last.Status == ready && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(last.Message+last.Reason, w) })
	})
}

// events are the reasons of those about a Pool.
func (c *central) events(pool string) (reasons []string) {
	c.t.Helper()
	scheme := api.Scheme(c.t)
	if err := eventsv1.AddToScheme(scheme); err != nil {
		c.t.Fatal(err)
	}
	reader, err := client.New(c.Config, client.Options{Scheme: scheme})
	if err != nil {
		c.t.Fatal(err)
	}
	var all eventsv1.EventList
	if err := reader.List(c.t.Context(), &all); err != nil {
		c.t.Fatal(err)
	}
	for _, e := range all.Items {
		if e.Regarding.Name == pool {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

// TestCentral is the life of storage outside the cluster, from Pools without their Secret to one that is deleted. It is
// one test since a process runs one controller.
func TestCentral(t *testing.T) {
	c := startCentral(t)
	ctl := csi.NewControllerClient(c.conn)
	t.Run("no Secret", func(t *testing.T) {
		c.pool("p", loginSecret)
		c.says("p", metav1.ConditionFalse, "NotFound", "secretRef.name", loginSecret, namespace)
		c.secret("somebody-elses", password)
		c.pool("q", "somebody-elses")
		c.says("q", metav1.ConditionFalse, "Invalid", "has no right to read the Secret somebody-elses")
	})
	t.Run("a wrong password, and the right one", func(t *testing.T) {
		c.secret(loginSecret, "wrong\n")
		c.says("p", metav1.ConditionFalse, "Invalid", "password is refused")
		c.secret(loginSecret, password+"\n")
		c.says("p", metav1.ConditionTrue)
		p := c.object("p")
		if p.Status.Capacity.Value() != 1<<30 || p.Status.Available.Value() != 1<<30 || p.Status.Volumes != 0 {
			t.Errorf("the status is %+v", p.Status)
		}
	})
	t.Run("volumes", func(t *testing.T) { centralVolumes(t, c, ctl) })
	t.Run("a node whose address changes", func(t *testing.T) { centralAddresses(t, c, ctl) })
	t.Run("a Secret that changes", func(t *testing.T) {
		before := c.nas.opened("p")
		c.secret(loginSecret, "stolen")
		c.says("p", metav1.ConditionFalse, "password is refused")
		if _, err := ctl.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: "p:v"}); err != nil {
			t.Errorf("what was open is not served any more: %v", err)
		}
		c.secret(loginSecret, password)
		c.says("p", metav1.ConditionTrue)
		c.until("the pool is another one", func() bool { return c.nas.opened("p") != before })
	})
	t.Run("storage that goes away", func(t *testing.T) { centralAway(t, c, ctl) })
	t.Run("a Pool that is deleted", func(t *testing.T) { centralDeleted(t, c, ctl) })
}

// TestNodeAlone: a node of such a kind has nothing to ask of the API server, of which there is none here.
func TestNodeAlone(t *testing.T) {
	hosttest.NeedRoot(t)
	dir := t.TempDir()
	socket := "unix://" + filepath.Join(dir, "csi.sock")
	o := newDriverOptions(role{node: true}, serveFlags{
		endpoint: socket, nodeName: "n1", stateDir: filepath.Join(dir, "state"), kubeletDir: dir,
	}, slog.New(slog.DiscardHandler))
	o.kind = (&nas{}).kind()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveNodeAlone(ctx, o) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient(socket, testdriver.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	info, err := csi.NewNodeClient(conn).NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || info.GetNodeId() != "n1" || info.GetAccessibleTopology() != nil || info.GetMaxVolumesPerNode() != 0 {
		t.Errorf("%v, %v", info, err)
	}
	_, err = csi.NewControllerClient(conn).ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a node that is a controller: %v", err)
	}
}

func centralVolumes(t *testing.T, c *central, ctl csi.ControllerClient) {
	c.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	use := &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "ext4"}},
	}
	made, err := ctl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
		Name: "v", Parameters: map[string]string{"pool": "p"}, VolumeCapabilities: []*csi.VolumeCapability{use},
		CapacityRange: &csi.CapacityRange{RequiredBytes: 64 << 20},
	})
	if err != nil || made.GetVolume().GetAccessibleTopology() != nil {
		t.Fatal(made, err)
	}
	publish := func(node string) (*csi.ControllerPublishVolumeResponse, error) {
		return ctl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{
			VolumeId: "p:v", NodeId: node, VolumeCapability: use, VolumeContext: made.GetVolume().GetVolumeContext(),
		})
	}
	if p, err := publish("n1"); err != nil || !strings.Contains(p.GetPublishContext()["dozo.dev/access"], "portals") {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := publish("n2"); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "n2") {
		t.Errorf("a node that does not exist: %v", err)
	}
	c.make(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}})
	if _, err := publish("n2"); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "n1") {
		t.Errorf("a second node: %v", err)
	}
	if err := c.Client.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := ctl.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: "p:v", NodeId: "n1"}); err != nil {
		t.Errorf("a node that was deleted: %v", err)
	}
	if _, err := publish("n2"); err != nil {
		t.Error(err)
	}
}

// centralAway has another Pool made meanwhile: storage that is away at the start is no other case.
func centralAway(t *testing.T, c *central, ctl csi.ControllerClient) {
	c.nas.goAway(true)
	c.pool("late", loginSecret)
	c.says("late", metav1.ConditionFalse, "Unavailable", "does not answer")
	_, err := ctl.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: "late:v"})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a volume of a pool that never opened: %v", err)
	}
	_, err = ctl.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: "p:v", NodeId: "n2"})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("whether the node is out nobody knows: %v", err)
	}
	c.secret(loginSecret, password+" ") // any change has p looked at, which would take a minute else
	c.says("p", metav1.ConditionFalse, "Unavailable", "does not answer")
	c.secret(loginSecret, password)
	c.nas.goAway(false)
	c.says("late", metav1.ConditionTrue)
	c.says("p", metav1.ConditionTrue)
	c.until("events say so", func() bool {
		e := c.events("late")
		return slices.Contains(e, "NotReady") && slices.Contains(e, "Ready")
	})
}

func centralDeleted(t *testing.T, c *central, ctl csi.ControllerClient) {
	v := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: *c.object("p").Status.Capacity}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: outsideKind + ".dozo.dev", VolumeHandle: "p:v"}},
	}}
	c.make(v)
	c.until("the Pool is held", func() bool { return controllerutil.ContainsFinalizer(c.object("p"), v1alpha1.PoolFinalizer) })
	if err := c.Client.Delete(t.Context(), c.object("p")); err != nil {
		t.Fatal(err)
	}
	c.until("it says what keeps it", func() bool {
		in := meta.FindStatusCondition(c.object("p").Status.Conditions, v1alpha1.ConditionInUse)
		return in != nil && strings.Contains(in.Message, "1 PersistentVolumes")
	})
	if _, err := ctl.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: "p:v"}); err != nil {
		t.Errorf("its volume is not served any more: %v", err)
	}
	if err := c.Client.Delete(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	// What takes its finalizer off is the controller manager, which does not run here.
	if err := c.Client.Patch(t.Context(), v, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))); err != nil {
		t.Fatal(err)
	}
	c.until("it goes with the last", func() bool {
		return apierrors.IsNotFound(c.Client.Get(t.Context(), client.ObjectKey{Name: "p"}, &v1alpha1.Pool{}))
	})
	c.until("nothing of it is served", func() bool {
		_, err := ctl.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: "p:v"})
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "configure its pool")
	})
}
