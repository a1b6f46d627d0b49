package imports

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/errs"
)

// synologyCSI is the name of Synology's own driver.
const synologyCSI = "csi.san.synology.com"

// FromSynologyCSI reads which volumes of Synology's own driver there are; with a claim only that one's. The handle of its
// PersistentVolumes is the UUID of the LUN or the share, and their attribute "protocol" says which of them (its
// pkg/driver/controllerserver.go and pkg/dsm/service/dsm.go; where there is no such attribute it is a LUN).
func (i *Importer) FromSynologyCSI(ctx context.Context, claim client.ObjectKey, pool string) ([]Move, error) {
	return i.moves(ctx, "Synology's driver", []string{synologyCSI}, claim, func(m *Move) error {
		const iscsi = "iscsi"
		protocol := cmp.Or(m.Old.Spec.CSI.VolumeAttributes["protocol"], iscsi)
		m.Is = "of " + synologyCSI + ", " + protocol + ", " + m.Request.From
		m.Request.Pool, m.Request.Parameters = pool, map[string]string{"protocol": protocol}
		if protocol != iscsi {
			m.Request.FSType = "" // what it says of a share is csi-provisioner's default
		} else if !m.Request.Block && slices.Contains(m.Request.AccessModes, corev1.ReadWriteMany) {
			m.Refused = errs.E(errs.Unsupported, "PersistentVolume %s is a file system on a LUN for ReadWriteMany, which destroys data; import the LUN by itself (--lun), for a claim with ReadWriteOnce", m.Old.Name)
		}
		return nil
	})
}
