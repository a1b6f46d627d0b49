package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestDefinitions: the upstream suite is told the same of each driver as our scenarios are, and knows what is skipped.
func TestDefinitions(t *testing.T) {
	for name, d := range Drivers() {
		text, err := os.ReadFile(filepath.Join("upstream", name+".yaml"))
		if err != nil {
			t.Error(err)
			continue
		}
		var upstream struct {
			StorageClass, SnapshotClass struct{ FromExistingClassName string }
			DriverInfo                  struct {
				Name            string
				SupportedFsType map[string]struct{}
				Capabilities    map[string]bool
			}
			InlineVolumes []any
		}
		if err := yaml.Unmarshal(text, &upstream); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if u := upstream.DriverInfo.Name; u != d.Name {
			t.Errorf("%s: upstream's name is %s, ours %s", name, u, d.Name)
		}
		if s, c := upstream.StorageClass.FromExistingClassName, upstream.SnapshotClass.FromExistingClassName; s != d.StorageClass || c != d.SnapshotClass {
			t.Errorf("%s: upstream's classes are %q and %q, ours %q and %q", name, s, c, d.StorageClass, d.SnapshotClass)
		}
		for what, can := range map[string]bool{
			"block": d.Can.Block, "controllerExpansion": d.Can.Expand, "snapshotDataSource": d.Can.Snapshot, "pvcDataSource": d.Can.Clone,
			"capacity": d.Can.Capacity, "topology": d.Can.NodeBound, "singleNodeVolume": d.Can.NodeBound,
			"RWX": d.Can.ManyWriters || d.Can.Outside && d.Can.Block, // of devices that nodes reach as devices
		} {
			if upstream.DriverInfo.Capabilities[what] != can {
				t.Errorf("%s: %s is %v, which is not what Can says", name, what, !can)
			}
		}
		if inline := len(upstream.InlineVolumes) > 0; inline != d.Can.Inline {
			t.Errorf("%s: upstream tests inline volumes: %v, ours %v", name, inline, d.Can.Inline)
		}
		if _, ext4 := upstream.DriverInfo.SupportedFsType["ext4"]; ext4 != d.Can.Block {
			t.Errorf("%s: upstream formats ext4: %v; volumes are devices: %v", name, ext4, d.Can.Block)
		}
		if _, err := os.Stat(filepath.Join("upstream", name+".skip")); err != nil {
			t.Error(err)
		}
		if d.Can.Outside != (d.Storage.Machine != "") || d.Can.Outside == d.Can.NodeBound {
			t.Errorf("%s: volumes are either on nodes or on a machine that has a name: %+v", name, d.Storage)
		}
	}
}
