package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

// guestSpec is what nodes with a kernel of their own are made of.
type guestSpec struct {
	Cache     string // where the cores that guests are pinned to are counted
	Root      string // the image of their root disk
	Store     string // the image of the disk with containerd's state, see storeDisk
	MemoryMiB int
	Disks     []int64 // bytes of each empty disk
}

// storeDevice is the disk with what a node keeps besides its root: the last
// one there can be, so that the empty disks come first.
const storeDevice = "ubdp"

// guestRuntime starts containers in guests. Starting a program is what a guest
// does slowest, and runc is a large one that runs several times a container.
const guestRuntime = "crun"

// guestPackages are what a node needs besides what every guest has.
func guestPackages() []string {
	return []string{"conntrack", "containerd", "containernetworking-plugins", guestRuntime, "iptables"}
}

// provideGuests makes what the cache lacks for guests, for a caller that holds
// its lock.
func (l *Lab) provideGuests(ctx context.Context, store string, c Config) (*guestSpec, error) {
	cache, err := uml.CacheDir()
	if err != nil {
		return nil, err
	}
	root, err := uml.Image(ctx, cache, guestPackages())
	if err != nil {
		return nil, err
	}
	disk, err := l.storeDisk(ctx, store)
	if err != nil {
		return nil, err
	}
	return &guestSpec{Cache: cache, Root: root, Store: disk, MemoryMiB: c.MemoryMiB, Disks: c.Disks}, nil
}

// machine describes a node's machine, or the NAS.
func (s *spec) machine(n nodeSpec) uml.Machine {
	if n == nasSpec() {
		return s.nasMachine()
	}
	dir := s.nodeDir(n.Name)
	m := uml.Machine{
		Name: n.Name, Dir: dir, MemoryMiB: s.Guest.MemoryMiB, Root: s.Guest.Root,
		Tap: &uml.Tap{Interface: n.link(), MAC: fmt.Sprintf("02:00:00:00:80:%02x", n.Index)},
	}
	for i := range s.Guest.Disks {
		m.Disks = append(m.Disks, uml.Disk{Device: uml.DiskDevice(i), File: filepath.Join(dir, fmt.Sprintf("disk%d", i))})
	}
	m.Disks = append(m.Disks, uml.Disk{Device: storeDevice, File: filepath.Join(dir, "store.cow"), Base: s.Guest.Store})
	return m
}

// prepareGuest makes a node's disks and what its first process is told.
func (s *spec) prepareGuest(n nodeSpec) error {
	m := s.machine(n)
	if n == nasSpec() {
		return s.prepareNASGuest(m)
	}
	for i, size := range s.Guest.Disks {
		if err := uml.MakeDisk(m.Disks[i].File, size); err != nil {
			return err
		}
	}
	// The components' logs are on the host, where they outlive the node.
	if err := os.MkdirAll(s.guestLogDir(n), 0o755); err != nil {
		return err
	}
	return m.WriteStartup(uml.Startup{
		Env:   []string{"DOZO_LAB_CWD=/"},
		Args:  []string{filepath.Join(s.Run, "lab"), string(StageGuestNode), s.Run, n.Name},
		Hosts: n.hosts(),
	})
}

// guestLogDir is where the logs of nodes that share the host's kernel are, too.
func (s *spec) guestLogDir(n nodeSpec) string {
	return filepath.Join(newNodeRoot(s.nodeDir(n.Name)).root, nodeLogDir)
}

func (s *spec) guestEventsFile(name string) string {
	return filepath.Join(s.nodeDir(name), "events.jsonl")
}

// guestKernel becomes a node's kernel, in mount and process namespaces that
// end with it: RUN-DIRECTORY NODE BOOTS CORE.
func guestKernel(args []string) error {
	s, err := readSpec(args[0])
	if err != nil {
		return err
	}
	n, err := s.node(args[1])
	if err != nil {
		return err
	}
	boots, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	core, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	program, err := exec.LookPath(uml.Kernel)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the thread that becomes the kernel is the one that is pinned
	m := s.machine(n)
	return inOrder(
		func() error { return uml.Pin(core) },
		func() error { return uml.Confine(m.Dir) },
		func() error { return os.Chdir(m.Dir) },
		func() error {
			return os.NewSyscallError("execve", unix.Exec(program, append([]string{uml.Kernel}, m.Args(boots)...), uml.KernelEnv(m.Dir)))
		},
	)
}

// kernelNamespaces are those that a node's kernel is started in. The network
// is the cluster's.
func kernelNamespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
}
