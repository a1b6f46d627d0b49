package sanity

import (
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab"
)

// TestLVM runs the suite on real LVM volumes in a guest, one for each since a process runs it once.
func TestLVM(t *testing.T) {
	for name, w := range map[string]world{
		"thick": {fs: "ext4", size: 64 * mib},
		"thin":  {fs: "ext4", size: 64 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !lab.Run(t, lab.Guest{
				MemoryMiB: 768, Disks: []lab.Disk{{Size: 4 << 30}},
				Modules: []string{"dm-mod", "dm-snapshot", "dm-thin-pool"}, Programs: []string{"lvm"},
			}) {
				return
			}
			lab.Output(t, "vgcreate", "vg", lab.DiskPath(0))
			w.pool = pool.Spec{Name: name, Kind: "lvm", Options: map[string]string{"volumeGroup": "vg", "type": name, "overprovision": "2.0"}}
			w.run(t)
			for _, l := range strings.Fields(lab.Output(t, "lvs", "--noheadings", "-o", "lv_name", "vg")) {
				if l != "dozo."+name {
					t.Errorf("left behind: LV %s", l)
				}
			}
		})
	}
}
