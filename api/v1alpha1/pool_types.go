package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pool is a place that can make volumes, on every node that it selects, or outside the cluster. Its name is part of every volume's
// handle.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=dozo
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.kind`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.available`
// +kubebuilder:printcolumn:name="Capacity",type=string,JSONPath=`.status.capacity`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name: 1 to 63 of a-z, 0-9 and inner hyphens: it is part of every volume's handle"
type Pool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PoolSpec   `json:"spec"`
	Status PoolStatus `json:"status,omitempty"`
}

// PoolSpec is what a pool is made of.
type PoolSpec struct {
	// Kind of storage, such as loopfile; `dozo kinds` lists them. It cannot be changed.
	//
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=54
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the kind of a pool cannot be changed: make another pool"
	Kind string `json:"kind"`

	// NodeSelector says on which nodes the pool is. None is all nodes that run the driver.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// Options of the kind; `dozo kinds` lists them.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Options map[string]string `json:"options,omitempty"`

	// SecretRef names the Secret, in the namespace of Dozo, with what the kind logs in with. A change of it takes
	// effect at once.
	//
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// Placement chooses between the nodes that a volume may be on: Spread takes the one with the most room,
	// Pack the one with the least that is enough.
	//
	// +optional
	// +kubebuilder:default=Spread
	Placement Placement `json:"placement,omitempty"`
}

// SecretReference names a Secret in the namespace of Dozo: one elsewhere would be read for whoever may make Pools.
type SecretReference struct {
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// Placement is a way to choose between nodes.
//
// +kubebuilder:validation:Enum=Spread;Pack
type Placement string

// The placements.
const (
	Spread Placement = "Spread"
	Pack   Placement = "Pack"
)

// PoolStatus is the pool over all of its nodes.
type PoolStatus struct {
	// ObservedGeneration is the generation of the spec that this is about.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// NodesReady counts the nodes where the pool is open and answers.
	//
	// +optional
	NodesReady int32 `json:"nodesReady,omitempty"`
	// NodesTotal counts the nodes that have the pool.
	//
	// +optional
	NodesTotal int32 `json:"nodesTotal,omitempty"`
	// Nodes is both for people: "2/3".
	//
	// +optional
	Nodes string `json:"nodes,omitempty"`
	// Volumes counts those that Dozo made here.
	//
	// +optional
	Volumes int32 `json:"volumes,omitempty"`
	// Capacity is what volumes can have, used or not, on all nodes that are ready.
	//
	// +optional
	Capacity *resource.Quantity `json:"capacity,omitempty"`
	// Available is what new volumes can still have together.
	//
	// +optional
	Available *resource.Quantity `json:"available,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PoolList is a list of pools.
//
// +kubebuilder:object:root=true
type PoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Pool `json:"items"`
}
