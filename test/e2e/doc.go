// Package e2e tests a CSI driver as its users meet it: with claims, pods and snapshots of a real cluster.
//
// [TestDriver] runs the scenarios: those that only use the driver side by side, each in a namespace of its own,
// then those that kill the driver or fill its storage one by one. A scenario ends with the proof that it left
// nothing: no namespace, no PersistentVolume, and on no node anything that the driver made for it.
//
// The package is a module of its own, so that the product does not depend on a Kubernetes client. It knows
// nothing of the lab: any kubeconfig will do, with a node image that [Cluster] names.
package e2e
