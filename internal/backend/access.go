package backend

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// AccessVersion is the newest version of [Access] that this build reads. It is stored in immutable
// PersistentVolumes: fields are added, never changed, and every version ever released is read. An access
// has the oldest version in which all its fields are known: 1 has Local, 2 Encryption, which a node must
// not overlook, 3 ISCSI and Mount.
const AccessVersion = 3

// Access is how a node reaches a volume: data, with exactly one way set. Secrets are named in it,
// never held. RBD comes with the backend that needs it.
type Access struct {
	Version int    `json:"version"`
	Local   *Local `json:"local,omitempty"`
	ISCSI   *ISCSI `json:"iscsi,omitempty"`
	Mount   *Mount `json:"mount,omitempty"`

	Encryption *Encryption `json:"encryption,omitempty"` // nil: the device is used as it is
}

// ISCSI is a disk behind an iSCSI target. What a PersistentVolume keeps has no Target: a node may reach the
// disk only once it was admitted, and by what target is the answer to that; see [Attacher].
type ISCSI struct {
	WWID   string       `json:"wwid"`             // as udev and multipath write it: "3" and the NAA identifier, 33 hexadecimal digits
	Raw    bool         `json:"raw,omitempty"`    // its mark is [Raw] and done, which the node cannot ask for: it is never formatted
	Copied bool         `json:"copied,omitempty"` // its mark is [Mark.Copied], nor can it ask for that: a file system may have the UUID of another volume's
	Target *ISCSITarget `json:"target,omitempty"`
}

// ISCSITarget is where a node finds a disk. Where two disagree the WWID of the disk is right: a number (LUN)
// that was freed is given to another disk.
type ISCSITarget struct {
	IQN     string   `json:"iqn"`
	Portals []string `json:"portals"` // "host:port", "[2001:db8::1]:3260"; the first one first; with several the disk is multipath
	LUN     int      `json:"lun"`
	CHAP    bool     `json:"chap,omitempty"` // the user name and password are in the secret that the node is given when it stages the volume
}

// Mount is a file system that is there already, on a server, and is mounted by the network.
type Mount struct {
	Type    string   `json:"type"`              // "nfs", or "cifs", which needs a login in the secret that the node is given when it stages the volume
	Source  string   `json:"source"`            // "nas.example.org:/volume1/dz-data", with IPv6 addresses in brackets; "//nas.example.org/dz-data", without
	Options []string `json:"options,omitempty"` // that the server needs; those of the class come after them
}

// NFS and CIFS, which is Linux's name for SMB, are the types of [Mount].
const (
	NFS  = "nfs"
	CIFS = "cifs"
)

// IsNetFS reports whether a type of file system is one that is on a server.
func IsNetFS(kind string) bool { return kind == NFS || kind == CIFS }

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

// ISCSIAccess returns the access to a disk by its WWID. A nil target is what a PersistentVolume keeps.
func ISCSIAccess(wwid string, target *ISCSITarget) Access {
	return Access{Version: 3, ISCSI: &ISCSI{WWID: wwid, Target: target}}
}

// MountAccess returns the access to a file system on a server.
func MountAccess(m Mount) Access { return Access{Version: 3, Mount: &m} }

// Check returns errs.Invalid unless a is of a version that this build knows and has one way set.
func (a Access) Check() error {
	if a.Version < 1 || a.Version > AccessVersion {
		return errs.E(errs.Invalid, "access.version: %d is unknown here, this build reads 1 to %d; update Dozo on this node", a.Version, AccessVersion)
	}
	if e := a.Encryption; e != nil && (e.Type != LUKS2 || a.Version < 2) {
		return errs.E(errs.Invalid, "access.encryption: %.40q in version %d; this build knows %q, from version 2 on", e.Type, a.Version, LUKS2)
	}
	if (a.ISCSI != nil || a.Mount != nil) && a.Version < 3 {
		return errs.E(errs.Invalid, "access.version: %d, and iscsi and mount are from version 3 on", a.Version)
	}
	switch way := [...]bool{a.Local != nil, a.ISCSI != nil, a.Mount != nil}; way {
	case [...]bool{true, false, false}:
		return a.Local.check()
	case [...]bool{false, true, false}:
		return a.ISCSI.check()
	case [...]bool{false, false, true}:
		if a.Encryption != nil {
			return errs.E(errs.Invalid, "access.encryption: a file system on a server has no device that could be encrypted here")
		}
		return a.Mount.check()
	}
	return errs.E(errs.Invalid, "access: exactly one way to reach the volume has to be set; this build knows local, iscsi and mount")
}

func (l *Local) check() error {
	if !isLabel(l.Pool) {
		return errs.E(errs.Invalid, "access.local.pool: %.80q is not a pool's name", l.Pool)
	}
	_, err := ParseID(string(l.ID))
	return err
}

// wwids are those of NAA identifiers, the only ones that disks of iSCSI targets have here. They become names of
// files below /dev/disk and arguments, so nothing else may be in them.
var wwids = regexp.MustCompile(`^3[0-9a-f]{16}([0-9a-f]{16})?$`)

// iqns are iSCSI names (RFC 3720, 3.2.6.3) without what needs stringprep.
var iqns = regexp.MustCompile(`^(iqn\.[0-9]{4}-[0-9]{2}\.[a-z0-9.-]+(:[a-z0-9.:-]+)?|eui\.[0-9a-fA-F]{16}|naa\.[0-9a-fA-F]{16,32})$`)

// maxIQN is the longest iSCSI name in bytes (RFC 3720, 3.2.6.1), maxLUN the highest number of a disk that Linux
// looks for by default (scsi_mod.max_luns), maxPortals more than anybody has.
const (
	maxIQN     = 223
	maxLUN     = 511
	maxPortals = 16
)

func (i *ISCSI) check() error {
	if !wwids.MatchString(i.WWID) {
		return errs.E(errs.Invalid, "access.iscsi.wwid: %.80q is not 3 and an NAA identifier in hexadecimal digits", i.WWID)
	}
	t := i.Target
	switch {
	case t == nil:
		return nil
	case len(t.IQN) > maxIQN || !iqns.MatchString(t.IQN):
		return errs.E(errs.Invalid, "access.iscsi.target.iqn: %.80q is not an iSCSI name", t.IQN)
	case t.LUN < 0 || t.LUN > maxLUN:
		return errs.E(errs.Invalid, "access.iscsi.target.lun: %d is not 0 to %d", t.LUN, maxLUN)
	case len(t.Portals) == 0 || len(t.Portals) > maxPortals:
		return errs.E(errs.Invalid, "access.iscsi.target.portals: there are %d, and 1 to %d are allowed", len(t.Portals), maxPortals)
	}
	for n, p := range t.Portals {
		if err := checkPortal(p); err != nil {
			return errs.E(errs.Invalid, "access.iscsi.target.portals[%d]: %w", n, err)
		}
	}
	return nil
}

func checkPortal(p string) error {
	host, port, err := net.SplitHostPort(p)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 || !isServer(host) {
		return errs.E(errs.Invalid, "%.80q is not host:port", p)
	}
	return nil
}

// servers are the names of servers, by DNS or in digits.
var servers = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

func isServer(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Zone() == "" || servers.MatchString(host)
}

// sources are a server and a path or a share on it, without what a mount option or another field of fstab begins with.
var (
	sources = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[^:/\[\]]+):(/[^\x00-\x20\x7f,]*)$`)
	shares  = regexp.MustCompile(`^//([^/\\]+)/([^\x00-\x20\x7f,/\\]+)$`)
)

// maxSource bounds the source of a mount, in bytes.
const maxSource = 1024

func (m *Mount) check() error {
	form, says := sources, "server:/path"
	switch m.Type {
	case NFS:
	case CIFS:
		form, says = shares, "//server/share"
	default:
		return errs.E(errs.Invalid, "access.mount.type: %.40q; this build knows %q and %q", m.Type, NFS, CIFS)
	}
	parts := form.FindStringSubmatch(m.Source)
	if parts == nil || len(m.Source) > maxSource || !isServer(strings.Trim(parts[1], "[]")) || slices.Contains(strings.Split(parts[2], "/"), "..") {
		return errs.E(errs.Invalid, "access.mount.source: %.200q is not %s", m.Source, says)
	}
	return nil
}
