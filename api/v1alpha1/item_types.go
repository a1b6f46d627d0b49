package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ItemSpec is what the specs of NodeVolumes and NodeSnapshots have in common.
type ItemSpec struct {
	// Node that it is on.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the node cannot be changed: storage stays where it is"
	Node string `json:"node"`

	// Pool that it is in.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the pool cannot be changed: storage stays where it is"
	Pool string `json:"pool"`

	// Name that was asked for, kept with the storage for people.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the name cannot be changed"
	Name string `json:"name"`

	// Absent asks the node to delete the storage, and this object after it. Unlike a deletion of the object
	// it may be refused, say because somebody uses the volume, and then nothing is lost: it is not tried
	// again until somebody asks again.
	//
	// +optional
	Absent bool `json:"absent,omitempty"`

	// Attempt is raised to have the node try again at once what failed. It means nothing else.
	//
	// +optional
	Attempt int64 `json:"attempt,omitempty"`
}

// ItemStatus is what the statuses of NodeVolumes and NodeSnapshots have in common.
type ItemStatus struct {
	// ObservedGeneration is the generation of the object that the Ready condition answers.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ID in its pool, once it exists. What has one and is not found on the storage any more is reported, and
	// never made anew.
	//
	// +optional
	ID string `json:"id,omitempty"`
	// Size that a volume has, or that one made from a snapshot has at least.
	//
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// Progress is what the node is doing, while it takes long.
	//
	// +optional
	Progress string `json:"progress,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Item returns the parts that NodeVolumes and NodeSnapshots have in common.
func (v *NodeVolume) Item() (*ItemSpec, *ItemStatus) { return &v.Spec.ItemSpec, &v.Status.ItemStatus }

// Item returns the parts that NodeVolumes and NodeSnapshots have in common.
func (s *NodeSnapshot) Item() (*ItemSpec, *ItemStatus) { return &s.Spec.ItemSpec, &s.Status.ItemStatus }
