package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestGuestNodes takes a lab whose nodes have kernels of their own through all
// that the other kind does, and besides through what only it can.
func TestGuestNodes(t *testing.T) {
	lab := newTestLab(t, KernelGuest)
	useLab(t, lab, Config{Nodes: 2, Kernel: KernelGuest, Disks: []int64{8 << 30, 1 << 30}}, func(t *testing.T) {
		t.Run("kernel", func(t *testing.T) { testOwnKernel(t, lab) })
		t.Run("disks", func(t *testing.T) { testDisks(t, lab) })
		t.Run("power", func(t *testing.T) { testPower(t, lab) })
	})
}

// testOwnKernel proves that it is one, with what the host's may lack.
func testOwnKernel(t *testing.T, lab *Lab) {
	if got := onNode(t, lab, "n1", "cat", "/proc/cpuinfo"); !strings.Contains(got, "User Mode Linux") {
		t.Errorf("the kernel is another one: %s", got)
	}
	for _, module := range []string{"dm_thin_pool", "dm_raid", "dm_crypt", "drbd", "iscsi_tcp", "nfs", "cifs", "rbd"} {
		onNode(t, lab, "n1", "modprobe", module)
	}
	for _, program := range []string{"lvs", "cryptsetup", "mkfs.xfs", "mkfs.btrfs", "mkfs.ext4", "iscsiadm", "mount.nfs", "mount.cifs"} {
		onNode(t, lab, "n1", "which", program)
	}
	if _, err := tryOnNode(t, lab, "n1", "touch", "/host/etc/dozo-lab-was-here"); err == nil {
		t.Error("a node writes to the host's files")
	}
}

// testDisks makes a thin volume on an empty disk, which loads device-mapper's
// modules, and grows its mounted ext4, which takes CAP_SYS_RESOURCE.
func testDisks(t *testing.T, lab *Lab) {
	for device, want := range map[string]string{"/dev/ubdb": "8589934592\n", "/dev/ubdc": "1073741824\n"} {
		if got := onNode(t, lab, "n1", "blockdev", "--getsize64", device); got != want {
			t.Errorf("%s has %s bytes, want %s", device, got, want)
		}
	}
	size := func() string { return onNode(t, lab, "n1", "stat", "-f", "-c", "%b", "/mnt") }
	onNode(t, lab, "n1", "pvcreate", "/dev/ubdb")
	onNode(t, lab, "n1", "vgcreate", "pool", "/dev/ubdb")
	onNode(t, lab, "n1", "lvcreate", "--yes", "--size", "1g", "--thinpool", "thin", "pool")
	onNode(t, lab, "n1", "lvcreate", "--yes", "--virtualsize", "256m", "--thin", "--name", "volume", "pool/thin")
	onNode(t, lab, "n1", "mkfs.ext4", "-q", "/dev/pool/volume")
	onNode(t, lab, "n1", "mount", "/dev/pool/volume", "/mnt")
	before := size()
	onNode(t, lab, "n1", "lvextend", "--size", "512m", "pool/volume")
	onNode(t, lab, "n1", "resize2fs", "/dev/pool/volume")
	if after := size(); after == before {
		t.Errorf("the mounted ext4 has %s blocks as before", after)
	}
	onNode(t, lab, "n1", "sh", "-c", "echo kept >/mnt/file && sync /mnt/file")
}

// testPower cuts the power of the node that has a pod with a volume, and boots
// it: the pod runs again with what it had synced, and the disks have what was
// on them.
func testPower(t *testing.T, lab *Lab) {
	if err := lab.Install(t.Context(), Installation{}); err != nil {
		t.Fatal(err)
	}
	const sum = "sha256sum /data/random"
	node := kubectl(t, lab, "", "get", "pod/lab-proof", "-o", "jsonpath={.spec.nodeName}")
	want := kubectl(t, lab, "", "exec", "lab-proof", "--", "sh", "-c",
		"dd if=/dev/urandom of=/data/random bs=1M count=8 conv=fsync status=none && "+sum)
	for _, name := range slices.Compact([]string{node, "n1"}) { // n1 for its disks
		powerCycle(t, lab, name)
	}
	var got string
	eventually(t, 5*time.Minute, func() (err error) {
		got, err = tryKubectl(t, lab, "", "exec", "lab-proof", "--", "sh", "-c", sum)
		return err
	})
	if got != want {
		t.Errorf("the volume has %q after the power cut, want %q", got, want)
	}
	onNode(t, lab, "n1", "vgchange", "--activate", "y", "pool")
	onNode(t, lab, "n1", "mount", "/dev/pool/volume", "/mnt")
	if got := onNode(t, lab, "n1", "cat", "/mnt/file"); got != "kept\n" {
		t.Errorf("the disk of n1 has %q after the power cut", got)
	}
}

// powerCycle crashes a node and boots it.
func powerCycle(t *testing.T, lab *Lab, node string) {
	t.Helper()
	const bootID = "/proc/sys/kernel/random/boot_id"
	before := onNode(t, lab, node, "cat", bootID)
	if err := lab.Boot(t.Context(), node); err == nil {
		t.Error("a node that runs is booted")
	}
	if err := lab.Crash(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if err := lab.Crash(t.Context(), node); err == nil {
		t.Error("a node without power is crashed")
	}
	if out, err := tryOnNode(t, lab, node, "true"); err == nil {
		t.Errorf("a node without power runs programs: %s", out)
	}
	var status strings.Builder
	if err := lab.Status(t.Context(), &status); err != nil || !strings.Contains(status.String(), "node "+node+" has no power") {
		t.Errorf("the status does not tell of the power cut: %v\n%s", err, &status)
	}
	if err := lab.Boot(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if after := onNode(t, lab, node, "cat", bootID); after == before {
		t.Error("the node was not booted")
	}
}

// eventually tries until there is no error, and fails with the last one.
func eventually(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Second) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := (Config{}).withDefaults().check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	for name, c := range map[string]Config{
		"too many nodes":    {Nodes: maxNodes + 1},
		"a negative number": {Nodes: -1},
		"an unknown kernel": {Kernel: "microkernel"},
		"too little memory": {MemoryMiB: 64},
		"half a sector":     {Disks: []int64{256}},
		"too many disks":    {Disks: make([]int64, maximalDisks+1)},
		"an idle NAS":       {NAS: true},
	} {
		if err := c.withDefaults().check(); err == nil {
			t.Errorf("%s: %+v is accepted", name, c)
		}
	}
}
