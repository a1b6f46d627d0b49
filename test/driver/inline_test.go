package driver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// inlineHandle is a handle as the kubelet makes them.
func inlineHandle(digit string) string { return "csi-" + strings.Repeat(digit, 64) }

// inlineRequest is what the kubelet sends for a volume in a pod's spec; edit changes it.
func inlineRequest(dir, handle string, edit func(*csi.NodePublishVolumeRequest)) *csi.NodePublishVolumeRequest {
	r := &csi.NodePublishVolumeRequest{
		VolumeId: handle, TargetPath: filepath.Join(dir, "pods", "uid", handle), VolumeCapability: capability(),
		VolumeContext: map[string]string{
			"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/pod.uid": "uid", "size": "32Mi",
		},
	}
	edit(r)
	return r
}

func asIs(*csi.NodePublishVolumeRequest) {}

// inlineBed is a driver whose pool lets inline volumes have a limit, and the directory of a pod.
func inlineBed(t *testing.T, limit string) (Driver, clients) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "pods", "uid"), 0o700))
	d := StartWith(t, dir, "", map[string]string{"inlineLimit": limit})
	return d, dial(d.Dial(t), dir)
}

// nothingLeft is what deleting an inline volume promises: the pod's directory is the kubelet's.
func nothingLeft(t *testing.T, d Driver) {
	t.Helper()
	pods := filepath.Join(d.Dir, "pods", "uid")
	entries, err := os.ReadDir(pods)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("left in the pod's directory: %v", entries)
	}
	must(t, os.Remove(pods), os.Remove(filepath.Dir(pods)))
	d.NothingLeft(t)
	must(t, os.MkdirAll(pods, 0o700))
}

func unpublish(t *testing.T, c clients, r *csi.NodePublishVolumeRequest) {
	t.Helper()
	_, err := c.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: r.VolumeId, TargetPath: r.TargetPath})
	must(t, err)
}

func TestInlineVolume(t *testing.T) {
	d, c := inlineBed(t, "64Mi")
	r := inlineRequest(d.Dir, inlineHandle("a"), asIs)
	for range 2 {
		_, err := c.NodePublishVolume(t.Context(), r)
		must(t, err)
	}
	file := filepath.Join(r.TargetPath, "file")
	must(t, os.WriteFile(file, []byte("kept"), 0o600))
	s, err := c.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: r.VolumeId, VolumePath: r.TargetPath})
	must(t, err)
	if total := s.GetUsage()[0].GetTotal(); total < 16*mib || total > 32*mib {
		t.Errorf("the pod sees %d bytes of 32 MiB", total)
	}
	_, err = c.NodePublishVolume(t.Context(), inlineRequest(d.Dir, r.VolumeId, func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["size"] = "16Mi" }))
	expect(t, err, codes.AlreadyExists, `volume_context["size"]`)
	unpublish(t, c, r)
	unpublish(t, c, r)
	nothingLeft(t, d)

	readOnly := inlineRequest(d.Dir, inlineHandle("b"), func(r *csi.NodePublishVolumeRequest) { r.Readonly = true })
	_, err = c.NodePublishVolume(t.Context(), readOnly)
	must(t, err)
	if err := os.WriteFile(filepath.Join(readOnly.TargetPath, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a read-only volume was written to: %v", err)
	}
	unpublish(t, c, readOnly)
	nothingLeft(t, d)
}

// TestInlineLimit: all of them together stay within the pool's limit, which comes back with their end.
func TestInlineLimit(t *testing.T) {
	d, c := inlineBed(t, "64Mi")
	first, second, third := inlineRequest(d.Dir, inlineHandle("1"), asIs), inlineRequest(d.Dir, inlineHandle("2"), asIs), inlineRequest(d.Dir, inlineHandle("3"), asIs)
	for _, r := range []*csi.NodePublishVolumeRequest{first, second} {
		_, err := c.NodePublishVolume(t.Context(), r)
		must(t, err)
	}
	_, err := c.NodePublishVolume(t.Context(), third)
	expect(t, err, codes.ResourceExhausted, "inlineLimit of 64Mi")
	unpublish(t, c, first)
	_, err = c.NodePublishVolume(t.Context(), third)
	must(t, err)
	unpublish(t, c, second)
	unpublish(t, c, third)
	nothingLeft(t, d)
}

func TestBadInlineVolumes(t *testing.T) {
	d, c := inlineBed(t, "64Mi")
	for name, bad := range map[string]struct {
		edit func(*csi.NodePublishVolumeRequest)
		code codes.Code
		says string
	}{
		"no size":           {func(r *csi.NodePublishVolumeRequest) { delete(r.VolumeContext, "size") }, codes.InvalidArgument, `volume_context["size"]: missing`},
		"wrong size":        {func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["size"] = "1.5 GB" }, codes.InvalidArgument, `volume_context["size"]`},
		"no bytes":          {func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["size"] = "0" }, codes.InvalidArgument, `volume_context["size"]`},
		"unknown attribute": {func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["sizeLimit"] = "1Gi" }, codes.InvalidArgument, `volume_context["sizeLimit"]: unknown; known are: pool, size`},
		"unknown pool":      {func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["pool"] = "gold" }, codes.InvalidArgument, "images"},
		"too large":         {func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["size"] = "1Gi" }, codes.ResourceExhausted, "inlineLimit"},
		"another's handle":  {func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "images:v" }, codes.InvalidArgument, "volume_id"},
		"raw block": {func(r *csi.NodePublishVolumeRequest) {
			r.VolumeCapability.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		}, codes.InvalidArgument, "volume_capability.block"},
		"file system unknown": {func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.GetMount().FsType = "ntfs" }, codes.InvalidArgument, "ntfs"},
		"no pod directory":    {func(r *csi.NodePublishVolumeRequest) { r.TargetPath = d.Dir + "/pods/gone/volume" }, codes.InvalidArgument, "target_path"},
		"a climbing target":   {func(r *csi.NodePublishVolumeRequest) { r.TargetPath = d.Dir + "/pods/../../x" }, codes.InvalidArgument, "target_path"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.NodePublishVolume(t.Context(), inlineRequest(d.Dir, inlineHandle("c"), bad.edit))
			expect(t, err, bad.code, bad.says)
			nothingLeft(t, d)
		})
	}
}

// TestInlineNeedsConsent: a pool makes none unless it is told how much they may take.
func TestInlineNeedsConsent(t *testing.T) {
	d, c := inlineBed(t, "0")
	_, err := c.NodePublishVolume(t.Context(), inlineRequest(d.Dir, inlineHandle("d"), asIs))
	expect(t, err, codes.InvalidArgument, "set its option inlineLimit")
	nothingLeft(t, d)
}

// TestInlineSparesOthers: a volume that somebody else made under such a name is neither used nor deleted.
func TestInlineSparesOthers(t *testing.T) {
	d, c := inlineBed(t, "64Mi")
	made, err := c.CreateVolume(t.Context(), createRequest(func(r *csi.CreateVolumeRequest) { r.Name = inlineHandle("e") }))
	must(t, err)
	r := inlineRequest(d.Dir, inlineHandle("e"), asIs)
	_, err = c.NodePublishVolume(t.Context(), r)
	expect(t, err, codes.AlreadyExists, "volume_id")
	unpublish(t, c, r)
	_, err = c.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: made.Volume.VolumeId})
	must(t, err)
	_, err = c.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: made.Volume.VolumeId})
	must(t, err)
	nothingLeft(t, d)
}

// reboot undoes what does not outlive a restart of the node: mount and device; the record is then of
// another boot.
func reboot(t *testing.T, d Driver, r *csi.NodePublishVolumeRequest) {
	t.Helper()
	must(t, unix.Unmount(r.TargetPath, 0))
	devices, err := host.New().LoopDevices()
	must(t, err)
	for _, l := range devices {
		if strings.HasPrefix(l.File, d.Images+"/") {
			hosttest.Command(t, "losetup", "--detach", l.Path)
		}
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	records, err := filepath.Glob(filepath.Join(d.Dir, "state", "*.json"))
	must(t, err)
	for _, path := range records {
		data, err := os.ReadFile(path)
		must(t, err, os.WriteFile(path, []byte(strings.ReplaceAll(string(data), strings.TrimSpace(string(boot)), "another")), 0o600))
	}
	if len(records) != 1 {
		t.Fatalf("%d records, want 1", len(records))
	}
}

// TestInlineOutlivesReboot: the pod goes on with its data, as with an emptyDir; and a pod that ended
// meanwhile leaves nothing.
func TestInlineOutlivesReboot(t *testing.T) {
	d, c := inlineBed(t, "64Mi")
	r := inlineRequest(d.Dir, inlineHandle("f"), asIs)
	_, err := c.NodePublishVolume(t.Context(), r)
	must(t, err, os.WriteFile(filepath.Join(r.TargetPath, "file"), []byte("kept"), 0o600))
	reboot(t, d, r)
	_, err = c.NodePublishVolume(t.Context(), r)
	must(t, err)
	if data, err := os.ReadFile(filepath.Join(r.TargetPath, "file")); err != nil || string(data) != "kept" {
		t.Errorf("after a reboot: %q, %v", data, err)
	}
	reboot(t, d, r)
	broken := filepath.Join(r.TargetPath, "in the way")
	must(t, os.WriteFile(broken, nil, 0o600))
	if _, err := c.NodePublishVolume(t.Context(), r); err == nil {
		t.Error("published over a directory that is not empty")
	}
	must(t, os.Remove(broken))
	_, err = c.NodePublishVolume(t.Context(), r)
	must(t, err)
	if data, err := os.ReadFile(filepath.Join(r.TargetPath, "file")); err != nil || string(data) != "kept" {
		t.Errorf("after a publish that failed: %q, %v", data, err)
	}
	reboot(t, d, r)
	unpublish(t, c, r)
	nothingLeft(t, d)
}
