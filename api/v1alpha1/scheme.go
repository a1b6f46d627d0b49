package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group.
const Group = "dozo.dev"

// GroupVersion returns the version of the group that this package is.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: "v1alpha1"}
}

// AddToScheme makes a scheme know the types.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(),
		&Pool{}, &PoolList{},
		&NodeStorage{}, &NodeStorageList{},
		&NodeVolume{}, &NodeVolumeList{},
		&NodeSnapshot{}, &NodeSnapshotList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
