package backend

import "github.com/dozo-dev/dozo/internal/errs"

// AccessVersion is the newest version of [Access] that this build reads. It is stored in immutable
// PersistentVolumes: fields are added, never changed, and every version ever released is read. An access
// has the oldest version in which all its fields are known: 1 has Local, 2 Encryption, which a node must
// not overlook.
const AccessVersion = 2

// Access is how a node reaches a volume: data, with exactly one way set. Secrets are named in it,
// never held. Ways over a network (iSCSI, RBD, a mount) come with the backends that need them.
type Access struct {
	Version int    `json:"version"`
	Local   *Local `json:"local,omitempty"`

	Encryption *Encryption `json:"encryption,omitempty"` // nil: the device is used as it is
}

// Encryption says that what is on the device is encrypted on the node. The key is in the secret that
// the node is given when it stages the volume.
type Encryption struct {
	Type    string `json:"type"`              // "luks2"
	Discard bool   `json:"discard,omitempty"` // discards are passed on: freed space is given back, and shows which parts are in use
}

// LUKS2 is the one [Encryption.Type] there is.
const LUKS2 = "luks2"

// Encrypted returns a with its device encrypted.
func (a Access) Encrypted(e Encryption) Access {
	a.Version, a.Encryption = max(a.Version, 2), &e
	return a
}

// Local is a volume that is reached by activating it in a pool on the node itself.
type Local struct {
	Pool string `json:"pool"`
	ID   ID     `json:"id"`
}

// LocalAccess returns the access to a volume of a pool on the node itself.
func LocalAccess(pool string, id ID) Access {
	return Access{Version: 1, Local: &Local{Pool: pool, ID: id}}
}

// Check returns errs.Invalid unless a is of a version that this build knows and has one way set.
func (a Access) Check() error {
	switch {
	case a.Version < 1 || a.Version > AccessVersion:
		return errs.E(errs.Invalid, "access.version: %d is unknown here, this build reads 1 to %d; update Dozo on this node", a.Version, AccessVersion)
	case a.Local == nil:
		return errs.E(errs.Invalid, "access: no way to reach the volume is set; this build knows \"local\"")
	}
	if e := a.Encryption; e != nil && (e.Type != LUKS2 || a.Version < 2) {
		return errs.E(errs.Invalid, "access.encryption: %.40q in version %d; this build knows %q, from version 2 on", e.Type, a.Version, LUKS2)
	}
	if !isLabel(a.Local.Pool) {
		return errs.E(errs.Invalid, "access.local.pool: %.80q is not a pool's name", a.Local.Pool)
	}
	_, err := ParseID(string(a.Local.ID))
	return err
}
