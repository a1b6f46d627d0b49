package cgroup

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

const (
	one    = "11111111-2222-3333-4444-555555555555"
	two    = "22222222-2222-3333-4444-555555555555"
	three  = "33333333-2222-3333-4444-555555555555"
	static = "0123456789abcdef0123456789abcdef"
)

// tree is a host with the control groups given.
func tree(t *testing.T, groups ...string) *host.Host {
	t.Helper()
	h := host.New()
	h.Roots.Cgroup = t.TempDir()
	for _, g := range groups {
		if err := os.MkdirAll(h.Cgroup(g), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file(t, h, "cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n")
	return h
}

func file(t *testing.T, h *host.Host, name, content string) {
	t.Helper()
	if err := os.WriteFile(h.Cgroup(name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// underscores is a UID as systemd's slices have it.
func underscores(uid string) string { return strings.ReplaceAll(uid, "-", "_") }

func TestPods(t *testing.T) {
	for name, groups := range map[string]map[string]string{
		"cgroupfs": {
			one:    "kubepods/besteffort/pod" + one,
			two:    "kubepods/burstable/pod" + two,
			three:  "kubepods/pod" + three,
			static: "kubepods/burstable/pod" + static,
		},
		"systemd": {
			one:    "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + underscores(one) + ".slice",
			two:    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + underscores(two) + ".slice",
			three:  "kubepods.slice/kubepods-pod" + underscores(three) + ".slice",
			static: "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + static + ".slice",
		},
		"cgroupfs with a root": {one: "lab/n1/kubepods/besteffort/pod" + one, two: "lab/n2/kubepods/pod" + two},
		"systemd with a root":  {one: "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + underscores(one) + ".slice"},
		"no pods":              {},
	} {
		t.Run(name, func(t *testing.T) {
			var all []string
			want := map[string]string{}
			for uid, g := range groups {
				all = append(all, g, g+"/cri-containerd-abc.scope", g+"/0123456789abcdef")
				want[uid] = g
			}
			// What is no pod, or not where pods are.
			all = append(all, "system.slice/containerd.service/kubepods/pod"+one+"x", "system.slice/x.service/pod"+three, "user.slice", "podman")
			h := tree(t, all...)
			got, err := Pods(h)
			if err != nil {
				t.Fatal(err)
			}
			for uid, g := range maps.Clone(got) {
				got[uid], _ = filepath.Rel(h.Roots.Cgroup, g)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestUnsupported: a node that cannot limit says what it needs.
func TestUnsupported(t *testing.T) {
	v1 := host.New()
	v1.Roots.Cgroup = t.TempDir()
	noIO := tree(t)
	file(t, noIO, "cgroup.controllers", "cpu memory\n")
	for says, h := range map[string]*host.Host{"cgroup version 2": v1, "io controller": noIO} {
		if _, err := Pods(h); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want one that names the %s", err, says)
		}
	}
	h := tree(t, "kubepods/pod"+one)
	_, err := Limits(h, h.Cgroup("kubepods", "pod"+one), host.DeviceNumber{Major: 7})
	if !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "cgroup.subtree_control") {
		t.Errorf("a group without io.max: %v", err)
	}
	if _, err := Limits(h, h.Cgroup("kubepods", "pod"+two), host.DeviceNumber{Major: 7}); !errs.Is(err, errs.NotFound) {
		t.Errorf("a group that is gone: %v", err)
	}
}

func TestLimits(t *testing.T) {
	h := tree(t, "pod")
	group, device := h.Cgroup("pod"), host.DeviceNumber{Major: 7, Minor: 1}
	file(t, h, "pod/io.max", "7:11 rbps=1 wbps=1 riops=1 wiops=1\n8:0 rbps=max wbps=max riops=max wiops=5\n7:1 rbps=1048576 wbps=max riops=100 wiops=max\n")
	want := backend.Limits{ReadBPS: 1 << 20, ReadIOPS: 100}
	if got, err := Limits(h, group, device); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if got, err := Limits(h, group, host.DeviceNumber{Major: 7, Minor: 2}); err != nil || !got.IsZero() {
		t.Errorf("a device without limits: %+v, %v", got, err)
	}
	for _, l := range []backend.Limits{{ReadBPS: 1, WriteBPS: 2, ReadIOPS: 3, WriteIOPS: 4}, {WriteBPS: 1 << 30}, {}} {
		if err := SetLimits(h, "test.limit", group, device, l); err != nil {
			t.Fatal(err)
		}
		if got, err := Limits(h, group, device); err != nil || got != l {
			t.Errorf("%+v, %v; want %+v", got, err, l)
		}
	}
	if err := SetLimits(h, "test.limit", h.Cgroup("gone"), device, want); !errs.Is(err, errs.NotFound) {
		t.Errorf("a group that is gone: %v", err)
	}
}

func TestPodOf(t *testing.T) {
	for path, want := range map[string]string{
		"/var/lib/kubelet/pods/" + one + "/volumes/kubernetes.io~csi/pvc-1/mount":                     one,
		"/var/lib/k0s/kubelet/pods/" + static + "/volumes/kubernetes.io~csi/pvc-1/mount":              static,
		"/var/lib/pods/kubelet/pods/" + one + "/volumes/kubernetes.io~csi/pvc-1/mount":                one,
		"/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/publish/pvc-1/" + two:               two,
		"/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/staging/pvc-1":                      "",
		"/var/lib/kubelet/plugins/kubernetes.io/csi/loopfile.dozo.dev/" + static + static + "/global": "",
		"/var/lib/kubelet/pods/notauid/volumes/x/y/mount":                                             "",
		"/var/lib/kubelet/pods/" + one:                                                                "",
		"/tmp/target":                                                                                 "", "/": "", "": "",
	} {
		if got := PodOf(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}
