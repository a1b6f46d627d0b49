// Package controller is the list of the reconcilers that run once in a cluster, beside the CSI controller of
// a driver. Each is a package, named for what it looks after and what it does with it.
package controller

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/controller/csistoragecapacity/publish"
	"github.com/dozo-dev/dozo/internal/controller/nodevolume/lost"
	"github.com/dozo-dev/dozo/internal/controller/persistentvolumeclaim/place"
	"github.com/dozo-dev/dozo/internal/controller/persistentvolumeclaim/release"
	"github.com/dozo-dev/dozo/internal/controller/persistentvolumeclaim/tell"
	"github.com/dozo-dev/dozo/internal/controller/pool/guard"
	"github.com/dozo-dev/dozo/internal/controller/pool/status"
	"github.com/dozo-dev/dozo/internal/controller/volumeattachment/readmit"
)

// Options configure the reconcilers of one driver.
type Options struct {
	Kind      string // of the Pools that are the driver's
	Namespace string // where CSIStorageCapacities are kept
	Outside   bool   // the storage is on no node, so all that is about nodes' storage is left out

	// AddressesKey is where VolumeAttachments of storage outside say for which addresses of the node it was attached.
	AddressesKey string

	// DeleteClaims has the claims deleted whose volumes are on a node that was deleted, after Grace;
	// 0: [release.DefaultGrace].
	DeleteClaims bool
	Grace        time.Duration
}

// Scheme knows the types that they use.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, storagev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Add has the manager run all of them, on the replica that is the leader.
func Add(mgr manager.Manager, o Options) error {
	for _, r := range o.reconcilers() {
		if err := r.Add(mgr); err != nil {
			return err
		}
	}
	return nil
}

type reconciler interface{ Add(manager.Manager) error }

func (o Options) reconcilers() []reconciler {
	driver := o.Kind + ".dozo.dev"
	if o.Outside {
		return []reconciler{
			&guard.Reconciler{Kind: o.Kind, Outside: true},
			&readmit.Reconciler{Driver: driver, Key: o.AddressesKey},
		}
	}
	all := []reconciler{
		&status.Reconciler{Kind: o.Kind},
		&guard.Reconciler{Kind: o.Kind},
		&publish.Reconciler{Kind: o.Kind, Driver: driver, Namespace: o.Namespace},
		&place.Reconciler{Driver: driver},
		&lost.Reconciler{Kind: o.Kind},
		&tell.Reconciler{Driver: driver},
	}
	if o.DeleteClaims {
		all = append(all, &release.Reconciler{Driver: driver, Grace: cmp.Or(o.Grace, release.DefaultGrace)})
	}
	return all
}
