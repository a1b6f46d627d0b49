// Package v1alpha1 is Dozo's API in a cluster: [Pool] says what storage there is and on which nodes,
// [NodeStorage] what each node has of it, and [NodeVolume] and [NodeSnapshot] are what is kept there.
//
// People write Pools. The controller writes the specs of NodeVolumes and NodeSnapshots, the agent of a
// node the status of its own objects and no others.
//
// +kubebuilder:object:generate=true
// +groupName=dozo.dev
package v1alpha1

//go:generate go tool controller-gen object crd:maxDescLen=400 paths=. output:crd:dir=../../deploy/chart/dozo/crds
