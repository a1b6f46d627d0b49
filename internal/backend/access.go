package backend

import "github.com/dozo-dev/dozo/internal/errs"

// AccessVersion is the version of [Access] that this build writes. It is stored in immutable
// PersistentVolumes: fields are added, never changed, and every version ever released is read.
const AccessVersion = 1

// Access is how a node reaches a volume: data, with exactly one way set. Secrets are named in it,
// never held. Ways over a network (iSCSI, RBD, a mount) come with the backends that need them.
type Access struct {
	Version int    `json:"version"`
	Local   *Local `json:"local,omitempty"`
}

// Local is a volume that is reached by activating it in a pool on the node itself.
type Local struct {
	Pool string `json:"pool"`
	ID   ID     `json:"id"`
}

// LocalAccess returns the access to a volume of a pool on the node itself.
func LocalAccess(pool string, id ID) Access {
	return Access{Version: AccessVersion, Local: &Local{Pool: pool, ID: id}}
}

// Check returns errs.Invalid unless a is of a version that this build knows and has one way set.
func (a Access) Check() error {
	switch {
	case a.Version < 1 || a.Version > AccessVersion:
		return errs.E(errs.Invalid, "access.version: %d is unknown here, this build reads 1 to %d; update Dozo on this node", a.Version, AccessVersion)
	case a.Local == nil:
		return errs.E(errs.Invalid, "access: no way to reach the volume is set; this build knows \"local\"")
	}
	if !isLabel(a.Local.Pool) {
		return errs.E(errs.Invalid, "access.local.pool: %.80q is not a pool's name", a.Local.Pool)
	}
	_, err := ParseID(string(a.Local.ID))
	return err
}
