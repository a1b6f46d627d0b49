package csi

import (
	"fmt"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// usage is how a caller wants to use a volume: a VolumeCapability, checked.
type usage struct {
	block        bool
	fsType       string
	mountFlags   []string
	readOnly     bool
	singleWriter bool // at one target path only
	manyNodes    bool // at the same time
	mode         csi.VolumeCapability_AccessMode_Mode
}

// reach is from where a volume can be used, which decides how.
type reach int

const (
	inPlace  reach = iota // it is on a node
	asDevice              // a disk, which is attached to nodes
	asSealed              // the same, encrypted: what is on it is the node's own
	asFolder              // a file system on a server
)

// reach is that of the volumes of a class.
func (c class) reach() reach {
	switch {
	case c.pool.Shares(c.parameters):
		return asFolder
	case c.pool.Kind().NodeBound || c.pool.Capabilities().Attacher == nil:
		return inPlace
	case pool.IsEncrypted(c.parameters):
		return asSealed
	}
	return asDevice
}

// reachedBy is that of a volume which exists.
func reachedBy(a backend.Access) reach {
	switch {
	case a.Mount != nil:
		return asFolder
	case a.ISCSI != nil && a.Encryption != nil:
		return asSealed
	case a.ISCSI != nil:
		return asDevice
	}
	return inPlace
}

// fits returns errs.Unsupported, with what to ask for instead, if a volume cannot be used so. Two nodes that mount one
// file system on one device destroy it, one of them only reading too: it replays the journal, or sees it change.
func (u usage) fits(field string, r reach) error {
	switch {
	case r == asFolder && u.block:
		return errs.E(errs.Unsupported, "%s.block: these volumes are file systems on a server and no devices; ask for volumeMode: Filesystem, or use a class whose volumes are devices", field)
	case r == asFolder && u.fsType != "" && !backend.IsNetFS(u.fsType):
		return errs.E(errs.Unsupported, "%s.mount.fs_type: %s: these volumes are file systems on a server already; say nothing, %s or %s (the class's %sfstype)", field, u.fsType, backend.NFS, backend.CIFS, foreignPrefix)
	case r != asFolder && backend.IsNetFS(u.fsType):
		return errs.E(errs.Unsupported, "%s.mount.fs_type: %s: these volumes are devices, on which ext4, xfs or btrfs is made", field, u.fsType)
	case !u.manyNodes, r == asFolder, r == asDevice && u.block:
		return nil
	case r == asSealed && u.block:
		return errs.E(errs.Unsupported, "%s.access_mode: %v: an encrypted volume is used on one node at a time, since the node makes its key and keeps it on the device; "+
			"ask for ReadWriteOnce or ReadWriteOncePod, or leave encryption to the application", field, u.mode)
	case r != inPlace:
		return errs.E(errs.Unsupported, "%s.access_mode: %v: a file system on a device is mounted on one node at a time: ask for ReadWriteOnce or ReadWriteOncePod; "+
			"for many nodes use a class whose volumes are shared folders (protocol: nfs), or volumeMode: Block if the application itself can share a device", field, u.mode)
	}
	return errs.E(errs.Unsupported, "%s.access_mode: %v: these volumes are used on one node at a time; ask for ReadWriteOnce "+
		"(any number of pods on that node) or ReadWriteOncePod (one pod), and set readOnly in the pod where it only reads", field, u.mode)
}

// usages are how a volume is to be usable, all of them.
type usages []usage

// fit is fits of all.
func (us usages) fit(field string, r reach) error {
	for i, u := range us {
		if err := u.fits(fmt.Sprintf("%s[%d]", field, i), r); err != nil {
			return err
		}
	}
	return nil
}

// maxMountFlags is CSI's limit for all mount flags together, in bytes.
const maxMountFlags = 4 << 10

// usageOf returns what a capability asks for. errs.Invalid names the part of the field that is
// missing or wrong; errs.Unsupported that which is right but cannot be had here.
func usageOf(field string, c *csi.VolumeCapability) (usage, error) {
	if c == nil {
		return usage{}, missing(field)
	}
	u, err := accessModeOf(field+".access_mode", c.GetAccessMode().GetMode())
	if err != nil {
		return usage{}, err
	}
	switch {
	case c.GetBlock() != nil:
		u.block = true
	case c.GetMount() != nil:
		m := c.GetMount()
		if err := checkMount(field+".mount", m); err != nil {
			return usage{}, err
		}
		u.fsType, u.mountFlags = m.GetFsType(), m.GetMountFlags()
	default:
		return usage{}, errs.E(errs.Invalid, "%s.access_type: missing; it is block or mount", field)
	}
	return u, nil
}

// accessModeOf reads an access mode. Whether it can be had is up to the volume; see [usage.fits].
func accessModeOf(field string, mode csi.VolumeCapability_AccessMode_Mode) (usage, error) {
	switch mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		return usage{}, nil
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		return usage{singleWriter: true}, nil
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		return usage{readOnly: true}, nil
	case csi.VolumeCapability_AccessMode_UNKNOWN:
		return usage{}, missing(field)
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		return usage{manyNodes: true, mode: mode, readOnly: true}, nil
	case csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		return usage{manyNodes: true, mode: mode}, nil
	}
	return usage{}, errs.E(errs.Unsupported, "%s: %d is unknown to this version", field, mode)
}

func checkMount(field string, m *csi.VolumeCapability_MountVolume) error {
	if m.GetVolumeMountGroup() != "" {
		return errs.E(errs.Invalid, "%s.volume_mount_group: not supported, and VOLUME_MOUNT_GROUP is not advertised; Kubernetes sets fsGroup itself", field)
	}
	// It becomes part of a command's name on the node: letters and digits and nothing else.
	if t := m.GetFsType(); len(t) > 16 || strings.Trim(t, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return errs.E(errs.Invalid, "%s.fs_type: %.80q is not the name of a file system, like ext4 or xfs", field, t)
	}
	size := 0
	for _, f := range m.GetMountFlags() {
		size += len(f)
	}
	if size > maxMountFlags { // their text may be a secret: it is not repeated
		return errs.E(errs.Invalid, "%s.mount_flags: %d bytes long, at most %d are allowed", field, size, maxMountFlags)
	}
	return nil
}

// fileSystems are the types that a volume is to be used with.
func fileSystems(all []*csi.VolumeCapability) (types []string) {
	for _, c := range all {
		if m := c.GetMount(); m != nil {
			types = append(types, m.GetFsType())
		}
	}
	return types
}

// usagesOf returns what a list of capabilities asks for, of which a volume has to satisfy all.
func usagesOf(field string, all []*csi.VolumeCapability) (usages, error) {
	if len(all) == 0 {
		return nil, missing(field)
	}
	var us usages
	for i, c := range all {
		u, err := usageOf(fmt.Sprintf("%s[%d]", field, i), c)
		if err != nil {
			return nil, err
		}
		us = append(us, u)
	}
	return us, nil
}
