package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/test/lab/api"
)

// install applies what the chart has for the agents, and binds it to a service account of theirs.
func (b *bed) install(namespace, account string) {
	b.t.Helper()
	ctx := b.t.Context()
	chart, err := api.Chart()
	b.must(err)
	text, err := os.ReadFile(filepath.Join(chart, "files", "agent.yaml"))
	b.must(err)
	for _, doc := range strings.Split(string(text), "\n---\n") {
		o := &unstructured.Unstructured{}
		b.must(yaml.Unmarshal([]byte(doc), &o.Object))
		b.must(b.Client.Create(ctx, o))
	}
	b.must(b.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	b.must(b.Client.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}))
	b.must(b.Client.Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "dozo-agent"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: account}},
	}))
}

// tokenOn returns the credentials of a service account's pod on a node; without a node, of no pod.
func (b *bed) tokenOn(namespace, account, node string) *rest.Config {
	b.t.Helper()
	ctx := b.t.Context()
	r := &authenticationv1.TokenRequest{}
	if node != "" {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account + "-" + node},
			Spec: corev1.PodSpec{
				NodeName: node, ServiceAccountName: account, Containers: []corev1.Container{{Name: "dozo", Image: "dozo"}},
			},
		}
		b.must(b.Client.Create(ctx, p))
		r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	b.must(b.Client.SubResource("token").Create(ctx, sa, r))
	config := rest.AnonymousClientConfig(b.Config)
	config.BearerToken = r.Status.Token
	config.QPS, config.Burst = 1000, 1000
	return config
}

// TestAgentsWriteTheirOwnNode: with the role and the policy of the chart an agent can do all of its work, and
// nothing to what is another node's.
func TestAgentsWriteTheirOwnNode(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	const account = "dozo-fake-node"
	b.install("storage", account)
	b.node("n1", "fast")
	b.node("n2", "fast")
	b.pool("fast", fake.KindName, nil)
	one := b.tokenOn("storage", account, "n1")

	f := newFakes(fake.Options{})
	b.agentAs(one, "n1", t.TempDir(), f.Kind)
	b.ready("fast", "n1")
	pool := remote.New("fast", b.controller(t).view, backend.FullMask())
	for _, work := range []func() error{
		func() error { _, err := pool.Create(ctx, request("v1")); return err },
		func() error {
			_, err := pool.CreateSnapshot(ctx, backend.SnapshotRequest{ID: "s1", Name: "s1", Source: "v1"})
			return err
		},
		func() error { _, err := pool.Expand(ctx, "v1", 2<<20); return err },
		func() error { return pool.DeleteSnapshot(ctx, "s1") },
		func() error { _, err := pool.Create(ctx, request("v2")); return err },
		func() error { return pool.Delete(ctx, "v2") },
	} {
		b.must(work())
	}

	theirs := record.NewVolume("fast", "n2", request("theirs"))
	b.must(b.Client.Create(ctx, theirs))
	ns := &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
	b.must(b.Client.Create(ctx, ns))
	mine := &v1alpha1.NodeVolume{}
	b.must(b.Client.Get(ctx, client.ObjectKey{Name: "fast.v1"}, mine))
	touch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
	answer := client.RawPatch("application/merge-patch+json", []byte(`{"status":{"progress":"lying"}}`))
	larger := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"size":"1Ti"}}`))
	unbound := b.tokenOn("storage", account, "")
	b.enforced(one)
	for what, c := range map[string]struct {
		as   *rest.Config
		do   func(client.Client) error
		says string
	}{
		"free another node's volume":   {one, func(c client.Client) error { return c.Patch(ctx, theirs.DeepCopy(), touch) }, "of node n1"},
		"answer for another node":      {one, func(c client.Client) error { return c.Status().Patch(ctx, theirs.DeepCopy(), answer) }, "of node n1"},
		"delete another node's volume": {one, func(c client.Client) error { return c.Delete(ctx, theirs.DeepCopy()) }, "of node n1"},
		"write another node's storage": {one, func(c client.Client) error { return c.Status().Update(ctx, ns.DeepCopy()) }, "of node n1"},
		"make another node's storage": {one, func(c client.Client) error {
			return c.Create(ctx, &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: "n3"}})
		}, "of node n1"},
		"ask itself for more": {one, func(c client.Client) error { return c.Patch(ctx, mine.DeepCopy(), larger) }, "do not change it"},
		"make a volume":       {one, func(c client.Client) error { return c.Create(ctx, record.NewVolume("fast", "n1", request("new"))) }, "cannot create"},
		"change a pool": {one, func(c client.Client) error {
			return c.Delete(ctx, &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "fast"}})
		}, "cannot delete"},
		"read a secret":                    {one, func(c client.Client) error { return c.List(ctx, &corev1.SecretList{}) }, "cannot list"},
		"write with a token of no node":    {unbound, func(c client.Client) error { return c.Status().Patch(ctx, mine.DeepCopy(), answer) }, "bound to a pod"},
		"its own, as a check of this test": {one, func(c client.Client) error { return c.Status().Patch(ctx, mine.DeepCopy(), answer) }, ""},
	} {
		t.Run(what, func(t *testing.T) {
			cl, err := client.New(c.as, client.Options{Scheme: api.Scheme(t)})
			if err != nil {
				t.Fatal(err)
			}
			err = c.do(cl)
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err)):
				t.Errorf("%v, want to be forbidden with %q", err, c.says)
			}
		})
	}
}

// enforced waits until the API server enforces the policy, which it does a moment after it was made.
func (b *bed) enforced(as *rest.Config) {
	b.t.Helper()
	cl, err := client.New(as, client.Options{Scheme: api.Scheme(b.t)})
	b.must(err)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := cl.Create(b.t.Context(), &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}, client.DryRunAll)
		if err != nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal("the policy is not enforced")
		}
	}
}

// request asks for a volume of a fake, as a pool would.
func request(name string) backend.Request {
	return backend.Request{ID: backend.IDFor(name), Name: name, Size: 1 << 20, Parameters: map[string]string{"colour": "red"}}
}
