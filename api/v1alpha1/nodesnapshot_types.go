package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeSnapshot is a snapshot on one node, where its volume is or was. Its name is [ObjectName] of its pool
// and ID. Deleting it deletes the snapshot.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=dozo
// +kubebuilder:subresource:status
// +kubebuilder:selectablefield:JSONPath=`.spec.node`
// +kubebuilder:selectablefield:JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Volume",type=string,JSONPath=`.spec.volume`
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.startsWith(self.spec.pool + '.') && size(self.metadata.name) > size(self.spec.pool) + 1",message="metadata.name: it is the pool, a dot and the snapshot's ID"
type NodeSnapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NodeSnapshotSpec   `json:"spec"`
	Status NodeSnapshotStatus `json:"status,omitempty"`
}

// NodeSnapshotSpec is what is wanted.
//
// +kubebuilder:validation:XValidation:rule="has(self.group) == has(oldSelf.group) && (!has(self.group) || self.group == oldSelf.group)",message="group: cannot be changed"
type NodeSnapshotSpec struct {
	ItemSpec `json:",inline"`

	// Volume is the ID of the volume that it is of.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a snapshot is of one volume"
	Volume string `json:"volume"`

	// Group is set if the snapshot is taken together with others, at one instant.
	//
	// +optional
	Group *SnapshotGroup `json:"group,omitempty"`
}

// SnapshotGroup is a group of snapshots that are taken together. Every one of them names all, so that the
// node needs to see only one to take them all.
type SnapshotGroup struct {
	// ID of the group in its pool.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	ID string `json:"id"`
	// Members are all snapshots of the group.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	// +listType=atomic
	Members []SnapshotMember `json:"members"`
}

// SnapshotMember is one snapshot of a group.
type SnapshotMember struct {
	// +kubebuilder:validation:MaxLength=63
	ID string `json:"id"`
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
	// Volume is the ID of the volume that it is of.
	//
	// +kubebuilder:validation:MaxLength=63
	Volume string `json:"volume"`
}

// NodeSnapshotStatus is what there is.
type NodeSnapshotStatus struct {
	ItemStatus `json:",inline"`

	// Created is the instant whose data it holds.
	//
	// +optional
	Created *metav1.MicroTime `json:"created,omitempty"`
}

// NodeSnapshotList is a list of them.
//
// +kubebuilder:object:root=true
type NodeSnapshotList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeSnapshot `json:"items"`
}
