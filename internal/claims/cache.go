package claims

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgo "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Scheme returns a scheme of the types of Kubernetes and our own.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	if err := clientgo.AddToScheme(s); err != nil {
		return nil, errs.E(errs.Internal, "scheme: %w", err)
	}
	if err := v1alpha1.AddToScheme(s); err != nil {
		return nil, errs.E(errs.Internal, "scheme: %w", err)
	}
	return s, nil
}

// NewReader returns a reader of a cluster, and its cache, which is to be started. Objects of other types
// that the cache is to have are given with how; all are kept without what only the API server needs.
func NewReader(cfg *rest.Config, kinds []backend.Kind, others map[client.Object]cache.ByObject) (Reader, cache.Cache, error) {
	scheme, err := Scheme()
	if err != nil {
		return Reader{}, nil, err
	}
	objects := map[client.Object]cache.ByObject{&corev1.PersistentVolumeClaim{}: {}, &storagev1.StorageClass{}: {}}
	for object, how := range others {
		objects[object] = how
	}
	c, err := cache.New(cfg, cache.Options{Scheme: scheme, ByObject: objects, DefaultTransform: cache.TransformStripManagedFields()})
	if err != nil {
		return Reader{}, nil, errs.E(errs.Unavailable, "the API server: %w", err)
	}
	live, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return Reader{}, nil, errs.E(errs.Unavailable, "the API server: %w", err)
	}
	return Reader{Cache: c, Live: live, Kinds: kinds}, c, nil
}
