package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Where a node's components find their files, as on a real machine.
const (
	kubeletConfigFile = "/etc/kubernetes/kubelet.yaml"
	kubeletClientFile = "/etc/kubernetes/kubelet.kubeconfig"
	proxyClientFile   = "/etc/kubernetes/proxy.kubeconfig"
	containerdConfig  = "/etc/containerd/dozo-lab.toml"
	containerdSocket  = "/run/containerd/containerd.sock"
	cniConfigDir      = "/etc/cni/dozo-lab.d"
	nodeLogDir        = "/var/log"
)

// nodeInit is process 1 of a node's namespaces: RUN-DIRECTORY NODE.
func nodeInit(args []string) error {
	s, err := readSpec(args[0])
	if err != nil {
		return err
	}
	n, err := s.node(args[1])
	if err != nil {
		return err
	}
	if err := waitForCable(); err != nil {
		return err
	}
	root := newNodeRoot(s.nodeDir(n.Name))
	err = inOrder(
		func() error { return unix.Sethostname([]byte(n.Name)) },
		makePrivate,
		func() error { return nodeNetworkUp(context.Background(), s, n) },
		// Before the root is a mount of its own: links do not cross mounts.
		func() error { return cloneImageStore(s.Images, root.path("var/lib/containerd")) },
		func() error { return root.assemble(s) },
		func() error { return s.configureNode(n, root, "/"+filepath.Join(s.Cgroup, n.Name)) },
		root.enter,
		maskSysctls,
	)
	if err != nil {
		return err
	}
	return superviseAsInit(nodeProgram, StageNode, n.Name, n.address())
}

// waitForCable reads until the manager has connected the interface and closes
// its end of the pipe.
func waitForCable() error {
	pipe, err := inheritedFile(extraFD, "the start signal")
	if err != nil {
		return err
	}
	defer pipe.Close()
	_, err = io.Copy(io.Discard, pipe)
	return err
}

// nodeManager starts a node's components inside its root: NODE ADDRESS.
func nodeManager(args []string) error {
	name, address := args[0], args[1]
	events, err := inheritedFile(eventsFD, "the events file")
	if err != nil {
		return err
	}
	path := nodeBin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if err := os.Setenv("PATH", path); err != nil { // also for the lookups below
		return err
	}
	if err := startComponents(name, address, &supervisor{node: name, logs: nodeLogDir, events: events}); err != nil {
		return err
	}
	select {} // killed with the namespaces
}

// startComponents starts a node's components, with the kubelet once the API
// server is ready.
func startComponents(name, address string, sup *supervisor) error {
	if err := sup.start("containerd", "containerd", "--config", containerdConfig); err != nil {
		return err
	}
	ctx := context.Background()
	if err := poll(ctx, time.Minute, 100*time.Millisecond, containerdReady); err != nil {
		return fmt.Errorf("containerd does not answer; see %s/containerd.log: %w", sup.logs, err)
	}
	api, err := newAPIClient("/etc/kubernetes/pki", serverURL)
	if err != nil {
		return err
	}
	if err := poll(ctx, readyTimeout, 200*time.Millisecond, api.ready); err != nil {
		return fmt.Errorf("the API server does not become ready: %w", err)
	}
	if err := sup.start("kubelet", "kubelet", "--config="+kubeletConfigFile, "--kubeconfig="+kubeletClientFile,
		"--hostname-override="+name, "--node-ip="+address, "--cert-dir=/etc/kubernetes/pki", "--v=2"); err != nil {
		return err
	}
	// The conntrack limits are kernel-wide and stay as the host has them.
	return sup.start("kube-proxy", "kube-proxy", "--kubeconfig="+proxyClientFile, "--hostname-override="+name,
		"--proxy-mode=iptables", "--cluster-cidr="+podNetwork, "--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0", "--v=1")
}

// containerdReady asks for the version, the cheapest call.
func containerdReady(ctx context.Context) error {
	_, err := command{args: []string{"ctr", "version"}, timeout: 10 * time.Second}.run(ctx)
	return err
}

// configureNode writes the node's files below its root. The cgroup is where the
// kubelet makes those of pods.
func (s *spec) configureNode(n nodeSpec, root nodeRoot, cgroup string) error {
	dirs := []string{"etc/kubernetes/pki", "etc/containerd", cniConfigDir}
	if err := makeDirs(root.root, 0o755, dirs...); err != nil {
		return err
	}
	for name, source := range map[string]string{
		"/etc/kubernetes/pki/ca.crt":      "ca.crt",
		"/etc/kubernetes/pki/kubelet.crt": n.Name + ".crt",
		"/etc/kubernetes/pki/kubelet.key": n.Name + ".key",
		kubeletClientFile:                 n.Name + ".kubeconfig",
		proxyClientFile:                   "proxy.kubeconfig",
	} {
		data, err := os.ReadFile(filepath.Join(s.pkiDir(), source))
		if err != nil {
			return err
		}
		if err := os.WriteFile(root.path(name), data, 0o600); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		kubeletConfigFile: kubeletConfig(cgroup),
		containerdConfig:  containerdToml(s.runtime()),
		filepath.Join(cniConfigDir, "10-bridge.conflist"): cniConfig(n.podSubnet()),
		"/etc/hostname":    n.Name + "\n",
		"/etc/machine-id":  fmt.Sprintf("%032x\n", 0xd020+n.Index),
		"/etc/resolv.conf": "",
		"/etc/hosts":       n.hosts(),
	} {
		// A link (resolv.conf on many systems) would be followed out of the node.
		if err := os.RemoveAll(root.path(name)); err != nil {
			return err
		}
		if err := os.WriteFile(root.path(name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
