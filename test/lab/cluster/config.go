package cluster

import (
	"fmt"
	"runtime/debug"
)

// Kernel says which kernel nodes have.
type Kernel string

// The kinds of node.
const (
	// KernelHost: nodes are namespaces of the host and share its kernel. They
	// start fast.
	KernelHost Kernel = "host"
	// KernelGuest: each node is a User-Mode Linux machine. It has
	// device-mapper and the like, disks, all capabilities, and power that can
	// be cut.
	KernelGuest Kernel = "guest"
)

// Config is what a lab is to be. The zero value of a field stands for its
// default.
type Config struct {
	Nodes  int    // 3
	Kernel Kernel // KernelHost
	Keep   bool   // leave a lab that does not come up for inspection

	// Of nodes with kernels of their own:
	MemoryMiB int     // 2048
	Disks     []int64 // bytes of each empty disk, /dev/ubdb and on; DefaultDisks
	NAS       bool    // a machine more, a simulated Synology that they reach; see [Lab.NAS]
}

const (
	defaultNodes     = 3
	defaultMemoryMiB = 2048
	minimalMemoryMiB = 1024
	maximalDisks     = 14
)

// DefaultDisks are two of 8 GiB. They are sparse files.
func DefaultDisks() []int64 { return []int64{8 << 30, 8 << 30} }

func (c Config) withDefaults() Config {
	if c.Nodes == 0 {
		c.Nodes = defaultNodes
	}
	if c.Kernel == "" {
		c.Kernel = KernelHost
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = defaultMemoryMiB
	}
	if c.Disks == nil {
		c.Disks = DefaultDisks()
	}
	return c
}

// check tells what cannot be.
func (c Config) check() error {
	if c.Nodes < 1 || c.Nodes > maxNodes {
		return fmt.Errorf("a lab has 1 to %d nodes, not %d", maxNodes, c.Nodes)
	}
	if c.Kernel != KernelHost && c.Kernel != KernelGuest {
		return fmt.Errorf("the nodes' kernel is %s or %s, not %q", KernelHost, KernelGuest, c.Kernel)
	}
	if c.NAS && c.Kernel != KernelGuest {
		return fmt.Errorf("a NAS is of use to nodes that have iSCSI and NFS: start them with --kernel %s", KernelGuest)
	}
	if c.MemoryMiB < minimalMemoryMiB {
		return fmt.Errorf("a node has %d MiB of memory or more, not %d", minimalMemoryMiB, c.MemoryMiB)
	}
	if len(c.Disks) > maximalDisks {
		return fmt.Errorf("a node has %d empty disks at most, not %d", maximalDisks, len(c.Disks))
	}
	for _, size := range c.Disks {
		if size <= 0 || size%512 != 0 {
			return fmt.Errorf("a disk's size is a positive multiple of 512 bytes, not %d", size)
		}
	}
	return nil
}

// kernels says in what nodes run, for progress lines.
func (s *spec) kernels() string {
	if s.Guest == nil {
		return ""
	}
	return fmt.Sprintf(" with kernels of their own and %d MiB each", s.Guest.MemoryMiB)
}

// runtime is the program that starts containers.
func (s *spec) runtime() string {
	if s.Guest != nil {
		return guestRuntime
	}
	return "runc"
}

// builtWithRace tells that this program has the race detector.
func builtWithRace() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}
