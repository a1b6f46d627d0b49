package driver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/lab"
)

const podUID = "11111111-2222-3333-4444-555555555555"

// limitBed is a driver, the directory of a pod, and the pod's cgroup.
type limitBed struct {
	t *testing.T
	d Driver
	clients
	group   string
	volume  *csi.Volume
	staging string
	target  string
}

func newLimitBed(t *testing.T, cgroups string) *limitBed {
	t.Helper()
	dir := t.TempDir()
	b := &limitBed{t: t, group: filepath.Join(cgroups, "kubepods", "burstable", "pod"+podUID), staging: filepath.Join(dir, "staging"),
		target: filepath.Join(dir, "pods", podUID, "volumes", "kubernetes.io~csi", "v", "mount")}
	must(t, os.MkdirAll(filepath.Dir(b.target), 0o700), os.Mkdir(b.staging, 0o700))
	b.d = StartWith(t, dir, "", nil, func(h *host.Host) { h.Roots.Cgroup = cgroups })
	b.clients = dial(b.d.Dial(t), dir)
	return b
}

func (b *limitBed) use(limits map[string]string) {
	b.t.Helper()
	made, err := b.CreateVolume(b.t.Context(), createRequest(func(r *csi.CreateVolumeRequest) {
		r.CapacityRange.RequiredBytes, r.MutableParameters = 64*mib, limits
	}))
	must(b.t, err)
	b.volume = made.Volume
	_, err = b.NodeStageVolume(b.t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: b.volume.VolumeId, StagingTargetPath: b.staging, VolumeCapability: capability(), VolumeContext: b.volume.VolumeContext})
	must(b.t, err)
	_, err = b.NodePublishVolume(b.t.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: b.volume.VolumeId, StagingTargetPath: b.staging, TargetPath: b.target, VolumeCapability: capability(), VolumeContext: b.volume.VolumeContext})
	must(b.t, err)
}

func (b *limitBed) modify(limits map[string]string) {
	b.t.Helper()
	_, err := b.ControllerModifyVolume(b.t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: b.volume.VolumeId, MutableParameters: limits})
	must(b.t, err)
}

func (b *limitBed) unpublish() {
	b.t.Helper()
	_, err := b.NodeUnpublishVolume(b.t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: b.volume.VolumeId, TargetPath: b.target})
	must(b.t, err)
}

func (b *limitBed) end() {
	b.t.Helper()
	_, err := b.NodeUnstageVolume(b.t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: b.volume.VolumeId, StagingTargetPath: b.staging})
	must(b.t, err)
	_, err = b.DeleteVolume(b.t.Context(), &csi.DeleteVolumeRequest{VolumeId: b.volume.VolumeId})
	must(b.t, err)
}

// device is the volume's, as io.max has it.
func (b *limitBed) device() string {
	b.t.Helper()
	table, err := host.New().Mounts()
	must(b.t, err)
	for _, m := range table {
		if m.MountPoint == b.target {
			return fmt.Sprintf("%d:%d", m.Major, m.Minor)
		}
	}
	b.t.Fatal("the volume is not mounted")
	return ""
}

// limits is what the pod's io.max says of a device: "" for nothing.
func (b *limitBed) limits(device string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.group, "io.max"))
	must(b.t, err)
	for line := range strings.Lines(string(data)) {
		if l, ok := strings.CutPrefix(line, device+" "); ok && strings.Count(l, "=max") < 4 {
			return strings.TrimSpace(l)
		}
	}
	return ""
}

// await is for what the driver does by itself, when it is told of a change.
func (b *limitBed) await(device, want string) time.Duration {
	b.t.Helper()
	start := time.Now()
	for b.limits(device) != want {
		if time.Since(start) > 30*time.Second {
			b.t.Fatalf("io.max: %q, want %q", b.limits(device), want)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

func (b *limitBed) health() []*csi.VolumeHealth_VolumeHealthEntry {
	b.t.Helper()
	h, err := b.NodeGetVolumeHealth(b.t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: b.volume.VolumeId})
	must(b.t, err)
	return h.GetVolumeHealth().GetHealthStatuses()
}

// fakeCgroups is a tree that looks like cgroup version 2.
func fakeCgroups(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu io memory\n"), 0o600))
	return root
}

// TestLimits follows a volume's limits into the cgroup of its pod.
func TestLimits(t *testing.T) {
	b := newLimitBed(t, fakeCgroups(t))
	must(t, os.MkdirAll(b.group, 0o700), os.WriteFile(filepath.Join(b.group, "io.max"), nil, 0o600))
	b.use(map[string]string{"read-bps": "10Mi", "write-iops": "2k", "csi.storage.k8s.io/pvc/name": "for whoever cares"})
	device := b.device()
	if got, want := b.limits(device), "rbps=10485760 wbps=max riops=max wiops=2000"; got != want {
		t.Errorf("after publish: io.max %q, want %q", got, want)
	}
	b.modify(map[string]string{"write-bps": "1Mi"})
	b.await(device, "rbps=max wbps=1048576 riops=max wiops=max")
	if h := b.health(); len(h) > 0 {
		t.Errorf("not well: %v", h)
	}
	b.modify(nil)
	b.await(device, "")
	b.modify(map[string]string{"read-iops": "100"})
	b.await(device, "rbps=max wbps=max riops=100 wiops=max")
	b.unpublish()
	if got := b.limits(device); got != "" {
		t.Errorf("after unpublish: io.max %q", got)
	}
	b.end()
}

// TestLimitsOfLateCgroup: a kubelet may make the pod's cgroup after its volumes.
func TestLimitsOfLateCgroup(t *testing.T) {
	b := newLimitBed(t, fakeCgroups(t))
	b.use(map[string]string{"read-bps": "10Mi"})
	must(t, os.MkdirAll(b.group, 0o700), os.WriteFile(filepath.Join(b.group, "io.max"), nil, 0o600))
	b.await(b.device(), "rbps=10485760 wbps=max riops=max wiops=max")
	b.unpublish()
	b.end()
}

// TestLimitsWithoutCgroup2: a pod on such a node runs without limits, and its volume says so.
func TestLimitsWithoutCgroup2(t *testing.T) {
	b := newLimitBed(t, t.TempDir())
	b.use(map[string]string{"read-bps": "10Mi"})
	if h := b.health(); len(h) != 1 || h[0].GetReason() != "LimitsNotEnforced" || !strings.Contains(h[0].GetMessage(), "cgroup version 2") {
		t.Errorf("health: %v", h)
	}
	b.modify(nil)
	if h := b.health(); len(h) > 0 {
		t.Errorf("without limits: %v", h)
	}
	b.unpublish()
	b.end()
}

func TestBadLimits(t *testing.T) {
	b := newLimitBed(t, fakeCgroups(t))
	b.use(nil)
	for name, bad := range map[string]struct {
		limits map[string]string
		says   string
	}{
		"unknown":        {map[string]string{"iops": "100"}, `mutable_parameters["iops"]: unknown; known are: read-bps, write-bps, read-iops, write-iops`},
		"no quantity":    {map[string]string{"read-bps": "fast"}, `mutable_parameters["read-bps"]: "fast" is not a quantity; bytes a second`},
		"negative":       {map[string]string{"read-bps": "-1"}, `mutable_parameters["read-bps"]`},
		"hardly a byte":  {map[string]string{"write-bps": "1Ki"}, "less than 65536"},
		"hardly an I/O":  {map[string]string{"read-iops": "1"}, "less than 10"},
		"more than fits": {map[string]string{"write-iops": "5G"}, "more than 1000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: b.volume.VolumeId, MutableParameters: bad.limits})
			expect(t, err, codes.InvalidArgument, bad.says)
			_, err = b.CreateVolume(t.Context(), createRequest(func(r *csi.CreateVolumeRequest) { r.Name, r.MutableParameters = "w", bad.limits }))
			expect(t, err, codes.InvalidArgument, bad.says)
		})
	}
	_, err := b.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: "images:absent", MutableParameters: map[string]string{"read-iops": "100"}})
	expect(t, err, codes.NotFound, "absent")
	b.unpublish()
	b.end()
}

// TestLimitsReally measures what a real kernel makes of it, which needs cgroup version 2: in a guest.
func TestLimitsReally(t *testing.T) {
	if !lab.Run(t, lab.Guest{MemoryMiB: 1024, Modules: []string{"loop"}, Programs: []string{"dd", "mkfs.ext4"}}) {
		return
	}
	const root = "/sys/fs/cgroup"
	b := newLimitBed(t, root)
	makeGroup(t, root, b.group)
	b.use(map[string]string{"write-bps": "4Mi", "read-bps": "8Mi"})
	device := b.device()
	t.Logf("device %s: %s", device, b.limits(device))
	const megabytes = 16
	write, read := b.transfer("of", megabytes), b.transfer("if", megabytes)
	t.Logf("%d MiB with limits of 4 and 8 MiB/s: written in %v, read in %v", megabytes, write, read)
	within(t, "write of 16 MiB at 4 MiB/s", write, 3*time.Second, 12*time.Second)
	within(t, "read of 16 MiB at 8 MiB/s", read, 1500*time.Millisecond, 8*time.Second)

	b.modify(map[string]string{"write-bps": "16Mi"})
	took := b.await(device, "rbps=max wbps=16777216 riops=max wiops=max")
	faster := fastest(func() time.Duration { return b.transfer("of", megabytes) })
	unlimited := fastest(func() time.Duration { return b.transfer("if", megabytes) })
	t.Logf("changed within %v to 16 MiB/s for writes and no limit for reads: written in %v, read in %v", took, faster, unlimited)
	within(t, "write of 16 MiB at 16 MiB/s", faster, 700*time.Millisecond, 3*time.Second)
	within(t, "read without limit", unlimited, 0, 1500*time.Millisecond)
	buffered := fastest(func() time.Duration { return b.buffered(megabytes) })
	t.Logf("written through the page cache and synced in %v", buffered)
	within(t, "buffered write of 16 MiB at 16 MiB/s", buffered, 700*time.Millisecond, 3*time.Second)

	b.unpublish()
	if got := b.limits(device); got != "" {
		t.Errorf("after unpublish: io.max %q", got)
	}
	b.end()
}

// makeGroup makes a pod's group as a kubelet does, with the io controller on all the way down.
func makeGroup(t *testing.T, root, group string) {
	t.Helper()
	must(t, os.MkdirAll(group, 0o755))
	for dir := filepath.Dir(group); ; dir = filepath.Dir(dir) {
		defer func() { must(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+io"), 0)) }()
		if dir == root {
			return // the deferred writes go from the root down
		}
	}
}

// inPod runs dd in the pod's group and returns how long it took.
func (b *limitBed) inPod(args ...string) time.Duration {
	b.t.Helper()
	container := filepath.Join(b.group, "container")
	must(b.t, os.MkdirAll(container, 0o755))
	fd, err := unix.Open(container, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(b.t, err)
	defer unix.Close(fd)
	cmd := exec.Command("dd", args...)
	cmd.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("dd: %v\n%s", err, out)
	}
	return time.Since(start)
}

// transfer reads ("if") or writes ("of") the volume with direct I/O.
func (b *limitBed) transfer(direction string, megabytes int) time.Duration {
	b.t.Helper()
	other := map[string]string{"if": "of=/dev/null", "of": "if=/dev/zero"}[direction]
	flag := map[string]string{"if": "iflag=direct", "of": "oflag=direct"}[direction]
	return b.inPod(direction+"="+filepath.Join(b.target, "data"), other, flag, "conv=notrunc", "bs=1M", "count="+strconv.Itoa(megabytes))
}

func (b *limitBed) buffered(megabytes int) time.Duration {
	b.t.Helper()
	return b.inPod("if=/dev/zero", "of="+filepath.Join(b.target, "data"), "conv=notrunc,fsync", "bs=1M", "count="+strconv.Itoa(megabytes))
}

// fastest is the least of three measurements: a busy machine makes any of them long.
func fastest(measure func() time.Duration) time.Duration {
	return min(measure(), measure(), measure())
}

func within(t *testing.T, what string, took, least, most time.Duration) {
	t.Helper()
	if took < least || took > most {
		t.Errorf("%s took %v, want %v to %v", what, took, least, most)
	}
}
