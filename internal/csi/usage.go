package csi

import (
	"fmt"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/errs"
)

// usage is how a caller wants to use a volume: a VolumeCapability, checked.
type usage struct {
	block        bool
	fsType       string
	mountFlags   []string
	readOnly     bool
	singleWriter bool // at one target path only
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

// accessModeOf says yes to what one node can do with a volume. More nodes need a backend that can
// share, and the contract has none yet.
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
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		return usage{}, errs.E(errs.Unsupported, "%s: %v: these volumes are used on one node at a time; ask for ReadWriteOnce "+
			"(any number of pods on that node) or ReadWriteOncePod (one pod), and set readOnly in the pod where it only reads", field, mode)
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

// checkUsages checks a list of capabilities, of which a volume has to satisfy all.
func checkUsages(field string, all []*csi.VolumeCapability) error {
	if len(all) == 0 {
		return missing(field)
	}
	for i, c := range all {
		if _, err := usageOf(fmt.Sprintf("%s[%d]", field, i), c); err != nil {
			return err
		}
	}
	return nil
}
