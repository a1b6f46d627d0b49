package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeVolume is a volume on one node. Its name is [ObjectName] of its pool and ID: whoever makes it first
// has the name, and the node that it records is where the volume is. Deleting it deletes the volume,
// irrevocably; a deletion that may be refused is asked for with spec.absent.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=dozo
// +kubebuilder:subresource:status
// +kubebuilder:selectablefield:JSONPath=`.spec.node`
// +kubebuilder:selectablefield:JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.node`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.status.size`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.startsWith(self.spec.pool + '.') && size(self.metadata.name) > size(self.spec.pool) + 1",message="metadata.name: it is the pool, a dot and the volume's ID"
type NodeVolume struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NodeVolumeSpec   `json:"spec"`
	Status NodeVolumeStatus `json:"status,omitempty"`
}

// NodeVolumeSpec is what is wanted.
//
// +kubebuilder:validation:XValidation:rule="has(self.limit) == has(oldSelf.limit) && (!has(self.limit) || quantity(self.limit).compareTo(quantity(oldSelf.limit)) == 0)",message="limit: cannot be changed"
// +kubebuilder:validation:XValidation:rule="has(self.parameters) == has(oldSelf.parameters) && (!has(self.parameters) || self.parameters == oldSelf.parameters)",message="parameters: cannot be changed"
// +kubebuilder:validation:XValidation:rule="has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)",message="source: cannot be changed"
// +kubebuilder:validation:XValidation:rule="has(self.importFrom) == has(oldSelf.importFrom) && (!has(self.importFrom) || self.importFrom == oldSelf.importFrom)",message="importFrom: cannot be changed"
// +kubebuilder:validation:XValidation:rule="!has(self.importFrom) || !has(self.source)",message="importFrom: what is imported is no copy of a source"
type NodeVolumeSpec struct {
	ItemSpec `json:",inline"`

	// Size that it has at least. Raised, the volume grows; volumes never shrink. 0 of what is imported: the
	// size that it has.
	Size resource.Quantity `json:"size"`

	// Limit is the largest that a volume which exists already may be to be taken for this one.
	//
	// +optional
	Limit *resource.Quantity `json:"limit,omitempty"`

	// Parameters of the kind, all of them.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Parameters map[string]string `json:"parameters,omitempty"`

	// IOLimits bound how fast the volume is read and written. None: not at all. They can be changed.
	//
	// +optional
	IOLimits *IOLimits `json:"ioLimits,omitempty"`

	// Source is what the volume starts as a copy of, in the same pool on the same node. None: blank.
	//
	// +optional
	Source *VolumeSource `json:"source,omitempty"`

	// ImportFrom names storage on the node that Dozo did not make and that becomes this volume, as it is:
	// of kind lvm a logical volume, such as vg0/data.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	ImportFrom string `json:"importFrom,omitempty"`
}

// IOLimits are bounds of a volume; 0 is none.
type IOLimits struct {
	// ReadBytesPerSecond is the most that is read.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	ReadBytesPerSecond int64 `json:"readBytesPerSecond,omitempty"`
	// WriteBytesPerSecond is the most that is written.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	WriteBytesPerSecond int64 `json:"writeBytesPerSecond,omitempty"`
	// ReadOperationsPerSecond bounds how many reads there are.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	ReadOperationsPerSecond int64 `json:"readOperationsPerSecond,omitempty"`
	// WriteOperationsPerSecond bounds how many writes there are.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	WriteOperationsPerSecond int64 `json:"writeOperationsPerSecond,omitempty"`
}

// VolumeSource names one snapshot or volume by its ID.
//
// +kubebuilder:validation:ExactlyOneOf=snapshot;volume
type VolumeSource struct {
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Snapshot string `json:"snapshot,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Volume string `json:"volume,omitempty"`
}

// NodeVolumeStatus is what there is.
type NodeVolumeStatus struct {
	ItemStatus `json:",inline"`

	// Problems are what is wrong with the volume as its storage sees it.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	Problems []VolumeProblem `json:"problems,omitempty"`
}

// VolumeProblem is something that is wrong with a volume.
type VolumeProblem struct {
	// +kubebuilder:validation:Enum=Degraded;Inaccessible;DataLoss
	Severity string `json:"severity"`
	// Reason is CamelCase, for programs.
	Reason string `json:"reason"`
	// Message is for people.
	Message string `json:"message"`
}

// NodeVolumeList is a list of them.
//
// +kubebuilder:object:root=true
type NodeVolumeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeVolume `json:"items"`
}
