// Package cluster runs a real Kubernetes on one machine for tests: etcd, the
// control plane and several nodes with containerd and the kubelet, all built
// from Go modules or installed from Debian packages.
//
// Everything runs below one process, the init of private mount, network, PID,
// UTS and IPC namespaces. Each node is a further set of namespaces nested in
// those, with a root directory of its own, joined to the others by a bridge.
// Killing that one init ends all of it: the kernel then drops every process,
// mount and interface. Only loop devices and cgroups outlive it; [Lab.Down]
// removes them.
package cluster
