package naslab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/lab"
)

// Left lists whatever a NAS and those who use it in the same kernel could leave: targets and their devices, images, shares, exports and loop
// devices of the one, sessions, disks, records and mounts of the others.
func Left(t testing.TB) (all []string) {
	t.Helper()
	for _, pattern := range []string{"/sys/kernel/config/target/iscsi/iqn.*", "/sys/kernel/config/target/core/iblock_*/*-*",
		"/volume1/@iSCSI/*", "/volume1/@sharesnap/*", "/volume1/[^@]*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	all = append(all, lab.InitiatorLeft()...)
	h := host.New()
	loops, err := h.LoopDevices()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loops {
		all = append(all, fmt.Sprintf("loop device %s over %s", l.Path, l.File))
	}
	mounts, err := h.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.FsType == "cifs" || strings.HasPrefix(m.FsType, "nfs") && m.FsType != "nfsd" || strings.HasPrefix(m.Source, "/dev/sd") {
			all = append(all, "mount "+m.MountPoint)
		}
	}
	return append(all, exported(t)...)
}

// exported are the entries of the NFS server's memory that are of a share. That there is nothing it remembers too, in comments.
func exported(t testing.TB) (all []string) {
	t.Helper()
	for _, cache := range []string{"nfsd.export", "nfsd.fh"} {
		text, err := os.ReadFile("/proc/net/rpc/" + cache + "/content")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "/volume1/") && !strings.HasPrefix(line, "#") {
				all = append(all, cache+": "+strings.TrimSpace(line))
			}
		}
	}
	return all
}
