package cluster

import "fmt"

// kubeletConfig has the serving and client authentication of a real cluster.
// Intervals are shorter than the defaults where tests wait for them: an online
// expansion reaches the file system at the next sync, a minute by default.
func kubeletConfig(cgroupRoot string) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: /etc/kubernetes/pki/kubelet.crt
tlsPrivateKeyFile: /etc/kubernetes/pki/kubelet.key
clusterDomain: %s
clusterDNS: [10.96.0.10]
containerRuntimeEndpoint: unix://%s
cgroupDriver: cgroupfs
cgroupRoot: %s
enforceNodeAllocatable: [pods]
failCgroupV1: false
failSwapOn: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%}
imageGCHighThresholdPercent: 100
resolvConf: ""
serializeImagePulls: false
nodeStatusUpdateFrequency: 10s
syncFrequency: 5s
volumeStatsAggPeriod: 10s
`, clusterDomain, containerdSocket, cgroupRoot)
}

// containerdToml makes the runtime use cgroups directly, without systemd.
func containerdToml(runtime string) string {
	return fmt.Sprintf(`version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = %q
`, pauseImage, cniBinDir, cniConfigDir, runtime)
}

// cniConfig bridges a node's pods; other nodes' pods are routed to.
func cniConfig(subnet string) string {
	return fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "dozo-lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]],
            "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni-ipam"}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
`, subnet)
}

// storeToml is the configuration of the containerd that only imports images:
// without the CRI plugin, which wants a network.
func storeToml(root string) string {
	return fmt.Sprintf(`version = 2
root = %q
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
`, root, containerdSocket)
}
