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
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.status.summary.ready`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.summary.available`
// +kubebuilder:printcolumn:name="Volumes",type=integer,JSONPath=`.status.summary.volumes`
// +kubebuilder:printcolumn:name="Orphans",type=integer,JSONPath=`.status.summary.orphans`
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
	// Summary is all of them in one line, for people.
	//
	// +optional
	Summary NodeSummary `json:"summary,omitempty"`
}

// NodeSummary is what all pools of a node have, for a table. Room is not added up: pools may share their disks.
type NodeSummary struct {
	// Ready is how many of the pools are open and answer: "2/3".
	//
	// +optional
	Ready string `json:"ready,omitempty"`
	// Available is what new volumes can have in each pool: "fast 12Gi, safe 6Gi".
	//
	// +optional
	Available string `json:"available,omitempty"`
	// Volumes counts the NodeVolumes here.
	//
	// +optional
	Volumes int32 `json:"volumes"`
	// Orphans counts what is on the storage and in no object.
	//
	// +optional
	Orphans int32 `json:"orphans"`
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
	// OrphanItems are the first of them.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	OrphanItems []Orphan `json:"orphanItems,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Orphan is a volume or a snapshot on the storage that no object stands for, with all that is needed to make
// its object anew.
type Orphan struct {
	// ID in its pool.
	//
	// +kubebuilder:validation:MaxLength=63
	ID string `json:"id"`
	// Name that it was made with.
	//
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
	// Size that it has.
	Size resource.Quantity `json:"size"`
	// Since is when it was first found to be one.
	Since metav1.Time `json:"since"`
	// SourceSnapshot is what a volume was made as a copy of.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	SourceSnapshot string `json:"sourceSnapshot,omitempty"`
	// SourceVolume likewise.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	SourceVolume string `json:"sourceVolume,omitempty"`
	// SnapshotOf is the ID of the volume that a snapshot is of. None: it is a volume.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	SnapshotOf string `json:"snapshotOf,omitempty"`
	// Group of a snapshot that was taken together with others.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Group string `json:"group,omitempty"`
}

// NodeStorageList is a list of them.
//
// +kubebuilder:object:root=true
type NodeStorageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeStorage `json:"items"`
}
