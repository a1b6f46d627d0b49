package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"

	corev1 "k8s.io/api/core/v1"
)

// The resources that scenarios use beside those of the typed client.
const (
	pods       = "pods"
	claims     = "persistentvolumeclaims"
	volumes    = "persistentvolumes"
	namespaces = "namespaces"
	events     = "events"
	nodes      = "nodes"
	snapshots  = "volumesnapshots"

	nodeVolumes = "nodevolumes"

	snapshotContents = "volumesnapshotcontents"
)

// resource returns the full name of one of the above.
func resource(name string) schema.GroupVersionResource {
	if name == snapshots || name == snapshotContents {
		return schema.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: name}
	}
	if name == nodeVolumes {
		return schema.GroupVersionResource{Group: "dozo.dev", Version: "v1alpha1", Resource: name}
	}
	return schema.GroupVersionResource{Version: "v1", Resource: name}
}

// Cluster is access to the cluster under test.
type Cluster struct {
	Image   string // of test pods: it has GNU's tools, and is on every node or can be pulled
	rest    *rest.Config
	typed   kubernetes.Interface
	dynamic dynamic.Interface
}

// Connect uses a kubeconfig file; with none, KUBECONFIG or the default one.
func Connect(kubeconfig, image string) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster to test: %w; start one, and: eval \"$(go run ./test/lab/cmd/lab env)\"", err)
	}
	// Scenarios run side by side: the default of 5 requests a second would be what the timings measure.
	config.QPS, config.Burst = 200, 400
	c := &Cluster{Image: image, rest: config}
	if c.typed, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	c.dynamic, err = dynamic.NewForConfig(config)
	return c, err
}

// Exec runs a program in a pod's first container and returns what it prints. An error has what it
// complained about.
func (c *Cluster) Exec(ctx context.Context, namespace, pod string, stdin io.Reader, program ...string) (string, error) {
	var out, complaint bytes.Buffer
	err := c.stream(ctx, namespace, pod, remotecommand.StreamOptions{Stdin: stdin, Stdout: &out, Stderr: &complaint}, program)
	if err != nil {
		return out.String(), fmt.Errorf("pod %s/%s: %s: %w: %s", namespace, pod, strings.Join(program, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// stream connects a program's standard streams.
func (c *Cluster) stream(ctx context.Context, namespace, pod string, o remotecommand.StreamOptions, program []string) error {
	request := c.typed.CoreV1().RESTClient().Post().Resource(pods).Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Command: program, Stdin: o.Stdin != nil, Stdout: true, Stderr: o.Stderr != nil,
		}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(c.rest, "GET", request.URL().String())
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, o)
}
