package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeStorage is what one node has of all pools. It has the name of its node, is owned by it, and is written
// by the agents there, one for each driver: an entry of pools belongs to the driver of its kind.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=dozo,path=nodestorages
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.status.pools[*].name`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.pools[*].conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.pools[*].available`
// +kubebuilder:printcolumn:name="Volumes",type=string,JSONPath=`.status.pools[*].volumes`
// +kubebuilder:printcolumn:name="Orphans",type=string,priority=1,JSONPath=`.status.pools[*].orphans`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeStorage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status NodeStorageStatus `json:"status,omitempty"`
}

// NodeStorageStatus is what the node has.
type NodeStorageStatus struct {
	// +optional
	// +listType=map
	// +listMapKey=name
	Pools []NodePool `json:"pools,omitempty"`
}

// NodePool is a pool on one node. The figures are from the last time that it answered.
type NodePool struct {
	// Name of the Pool.
	//
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Kind of storage, and so which driver's agent writes this.
	Kind string `json:"kind"`
	// ObservedGeneration is the generation of the Pool that is open here, or could not be opened.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Capacity is what volumes can have, used or not.
	//
	// +optional
	Capacity resource.Quantity `json:"capacity"`
	// Available is what new volumes can still have together.
	//
	// +optional
	Available resource.Quantity `json:"available"`
	// MaximumVolumeSize is the largest volume that could be made now.
	//
	// +optional
	MaximumVolumeSize resource.Quantity `json:"maximumVolumeSize"`
	// Volumes counts the NodeVolumes here.
	//
	// +optional
	Volumes int32 `json:"volumes"`
	// Orphans counts the volumes and snapshots on the storage that no object stands for. They are never
	// deleted unless somebody asks for it.
	//
	// +optional
	Orphans int32 `json:"orphans"`
	// OrphanNames are the first of them: the ID of a volume, "snapshot/" and the ID of a snapshot.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=set
	OrphanNames []string `json:"orphanNames,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// NodeStorageList is a list of them.
//
// +kubebuilder:object:root=true
type NodeStorageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeStorage `json:"items"`
}
