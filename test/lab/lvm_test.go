package lab_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/test/lab"
)

func TestLVMVolumeGrowsMounted(t *testing.T) {
	if !lab.Run(t, lab.Guest{
		Disks:    []lab.Disk{{Size: 512 << 20}},
		Modules:  []string{"dm-mod"},
		Programs: []string{"pvcreate", "vgcreate", "lvcreate", "lvextend", "mkfs.ext4", "mount", "resize2fs"},
	}) {
		return
	}
	lab.Output(t, "pvcreate", lab.DiskPath(0))
	lab.Output(t, "vgcreate", "pool", lab.DiskPath(0))
	lab.Output(t, "lvcreate", "--yes", "--size", "64m", "--name", "volume", "pool")
	lab.Output(t, "mkfs.ext4", "-q", "/dev/pool/volume")
	dir := mountAt(t, "/dev/pool/volume")
	sum := writeRandom(t, filepath.Join(dir, "data"), 8<<20)
	before := fileSystemSize(t, dir)

	lab.Output(t, "lvextend", "--size", "256m", "pool/volume")
	lab.Output(t, "resize2fs", "/dev/pool/volume")

	if after := fileSystemSize(t, dir); after < 3*before {
		t.Errorf("the file system grew from %d to %d bytes, want about four times as much", before, after)
	}
	lab.Output(t, "umount", dir)
	lab.Output(t, "e2fsck", "-f", "-n", "/dev/pool/volume")
	lab.Output(t, "mount", "/dev/pool/volume", dir)
	if got := readSum(t, filepath.Join(dir, "data")); got != sum {
		t.Errorf("the file's checksum is %x after growing, want %x", got, sum)
	}
	lab.Output(t, "umount", dir)
	lab.Output(t, "vgremove", "--yes", "pool")
	if _, err := os.Stat("/dev/mapper/pool-volume"); !os.IsNotExist(err) {
		t.Errorf("the removed volume's device is still there: %v", err)
	}
}
