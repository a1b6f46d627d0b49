package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// dozoRepository is the driver's image in the lab.
const dozoRepository = "dozo"

// driverPrograms are the programs that the driver runs on a node. There is no
// shell among them, and none in the image.
func driverPrograms() []string {
	return strings.Fields(`blkid mkfs.ext4 e2fsck resize2fs mkfs.xfs xfs_growfs xfs_db
		mkfs.btrfs btrfs btrfstune
		lvm cryptsetup iscsiadm multipathd mount.nfs mount.cifs stat`)
}

// lvmPrograms are those that LVM runs, by the paths that it runs them by.
func lvmPrograms() map[string]string {
	return map[string]string{"sbin/modprobe": "modprobe", "usr/sbin/thin_check": "thin_check"}
}

// DozoImage assembles the driver's image from a binary and this machine's
// programs. Its tag follows from its content, so that a new build is rolled out
// and an old one is not taken for it.
func DozoImage(binary string) (image Image, tag string, err error) {
	tree := NewFileTree()
	for _, name := range driverPrograms() {
		if err := tree.Program(name); err != nil {
			return Image{}, "", err
		}
	}
	for path, name := range lvmPrograms() {
		if err := tree.ProgramAt(path, name); err != nil {
			return Image{}, "", err
		}
	}
	tree.File("etc/mke2fs.conf", "/etc/mke2fs.conf", 0o644)
	tree.File("usr/bin/dozo", binary, 0o755)
	layer, err := tree.layer()
	if err != nil {
		return Image{}, "", err
	}
	sum := sha256.Sum256(layer)
	tag = "lab-" + hex.EncodeToString(sum[:6])
	return Image{
		Names:      []string{localRegistry + dozoRepository + ":" + tag},
		Entrypoint: []string{"/usr/bin/dozo"},
		Files:      tree,
	}, tag, nil
}
