package sanity

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/synology"
)

// TestSynology runs the suite on LUNs and shares of a NAS with real logins and mounts, in a guest for each since a process runs it once.
func TestSynology(t *testing.T) {
	for name, w := range map[string]world{
		"ext4":  {fs: "ext4", size: 64 * mib},
		"xfs":   {fs: "xfs", size: 320 * mib},
		"block": {fs: "block", size: 64 * mib},
		"nfs":   {fs: "nfs", size: 64 * mib},
		"smb":   {fs: "cifs", size: 64 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			if !lab.Run(t, synology.Guest()) {
				return
			}
			o := synology.Options{}
			if isShare(w.fs) {
				o.Pool = synology.Protocol(name)
			}
			w.nas = synology.Start(t, o)
			w.pool = w.nas.Spec
			w.run(t)
		})
	}
}

// isShare reports whether it is a shared folder of a NAS that is used as this file system.
func isShare(fs string) bool { return fs == "nfs" || fs == "cifs" }

// absentOnNAS are the specs that are skipped besides those of all storage outside.
func absentOnNAS(fs string) map[string]string {
	all := map[string]string{
		"GroupController":        "a NAS takes one snapshot at a time",
		"ModifyVolume":           "volumes of a NAS have no limits",
		"volume attribute class": "likewise",
	}
	if isShare(fs) {
		all["napshot"] = "of a share there are no snapshots"
	}
	return all
}

// secretsFile has what nodes log in with, as the suite reads it.
func secretsFile(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"NodeStageVolumeSecret": synology.NodeSecret()})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "secrets.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
