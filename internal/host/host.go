// Package host is the one way in which Dozo touches the machine it runs on. Every effect (a program
// run, a file made, a mount) passes through a labelled seam, so that tests can fail any one of them,
// kill the process before and after each, and count them. Paths under /proc, /sys and /dev start
// at [Roots], so that tests can use trees of their own.
package host

import "path/filepath"

// Effect is one thing about to be asked of the host or done to it.
type Effect struct {
	Op      string // what for, "stage.mkfs": the label that logs, metrics and fault injection use
	Reads   bool   // it changes nothing
	Program bool   // it runs a program, which takes time and can be cut short
}

// Seam stands between the caller and an effect: it must call do exactly once, or not at all and
// return an error. The seam of production is nil.
type Seam func(e Effect, do func() error) error

// Roots are where the kernel's file systems are found.
type Roots struct{ Proc, Sys, Dev, Cgroup string }

// Host is a machine. It is safe for concurrent use and must not be changed once used.
type Host struct {
	Roots  Roots
	Runner Runner
	Seam   Seam
	// Node is the directory where the root file system of the node is, in a container that does not have it for its own:
	// programs with [Cmd.OfNode] are run there. It is empty where they are our own.
	Node string
}

// New returns the machine that this process runs on.
func New() *Host {
	return &Host{
		Roots:  Roots{Proc: "/proc", Sys: "/sys", Dev: "/dev", Cgroup: "/sys/fs/cgroup"},
		Runner: Exec{},
	}
}

// Do passes an effect that changes the host through the seam. The other methods of Host call it;
// packages with effects of their own (an ioctl) call it directly.
func (h *Host) Do(op string, effect func() error) error {
	return h.pass(Effect{Op: op}, effect)
}

// Ask passes an effect that only reads through the seam.
func (h *Host) Ask(op string, question func() error) error {
	return h.pass(Effect{Op: op, Reads: true}, question)
}

func (h *Host) pass(e Effect, do func() error) error {
	if h.Seam == nil {
		return do()
	}
	return h.Seam(e, do)
}

// Proc returns a path under the root of procfs.
func (h *Host) Proc(elem ...string) string { return under(h.Roots.Proc, elem) }

// Sys returns a path under the root of sysfs.
func (h *Host) Sys(elem ...string) string { return under(h.Roots.Sys, elem) }

// Dev returns a path under the root of the device files.
func (h *Host) Dev(elem ...string) string { return under(h.Roots.Dev, elem) }

// Cgroup returns a path under the root of the control groups.
func (h *Host) Cgroup(elem ...string) string { return under(h.Roots.Cgroup, elem) }

// OfNode returns a path of the node's root file system, as the programs with [Cmd.OfNode] have it.
func (h *Host) OfNode(path string) string { return filepath.Join(h.Node, path) }

func under(root string, elem []string) string {
	return filepath.Join(append([]string{root}, elem...)...)
}
