package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// File descriptors that a process inside the namespaces inherits.
const (
	eventsFD = 3 // the events file, for appending
	extraFD  = 4 // the cluster's init: the forwarder's listener; a node's: the start signal
)

// Stage is a process inside the lab's namespaces. The program runs itself
// again as one, with the stage's name as its first argument.
type Stage string

// The stages: the two kinds of init (process 1 of their namespaces), the
// managers that each starts, what a node with a kernel of its own is outside
// and inside, and the one that fills the image store.
const (
	StageClusterInit Stage = "__cluster-init"
	StageCluster     Stage = "__cluster"
	StageNodeInit    Stage = "__node-init"
	StageNode        Stage = "__node"
	StageGuestKernel Stage = "__guest-kernel"
	StageGuestNode   Stage = "__guest-node"
	StageGuestNAS    Stage = "__guest-nas"
	StageSeedInit    Stage = "__seed-init"
	StageSeed        Stage = "__seed"
)

// RunStage runs a stage and reports whether args named one.
func RunStage(args []string) (bool, error) {
	if len(args) == 0 {
		return false, nil
	}
	stages := map[Stage]func([]string) error{
		StageClusterInit: clusterInit,
		StageCluster:     clusterManager,
		StageNodeInit:    nodeInit,
		StageNode:        nodeManager,
		StageGuestKernel: guestKernel,
		StageGuestNode:   guestNode,
		StageGuestNAS:    guestNAS,
		StageSeedInit:    seedInit,
		StageSeed:        seedManager,
	}
	stage, ok := stages[Stage(args[0])]
	if !ok {
		return false, nil
	}
	if err := stage(args[1:]); err != nil {
		return true, fmt.Errorf("%s: %w", args[0], err)
	}
	return true, nil
}

// namespaces are those that an init is started in.
func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
}

// superviseAsInit starts the manager and then only reaps. The manager may then
// use os/exec as usual: a process that both reaps orphans and waits for its own
// children would have to tell the two apart.
func superviseAsInit(program string, stage Stage, args ...string) error {
	cmd := exec.Command(program, append([]string{string(stage)}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = inherited()
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return err
		case pid == cmd.Process.Pid && status.Exited() && status.ExitStatus() == 0:
			return nil
		case pid == cmd.Process.Pid:
			return fmt.Errorf("the manager ended: exit status %d, signal %d", status.ExitStatus(), status.Signal())
		}
	}
}

// inherited are the descriptors to hand on to the manager.
func inherited() []*os.File {
	var files []*os.File
	for _, fd := range []uintptr{eventsFD, extraFD} {
		if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err == nil {
			files = append(files, os.NewFile(fd, "inherited"))
		}
	}
	return files
}

// inheritedFile takes an inherited descriptor into use and keeps it from the
// components, which would hold it open.
func inheritedFile(fd int, name string) (*os.File, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		return nil, fmt.Errorf("%s was not inherited: %w", name, err)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name), nil
}

// self is the running program, to be run again as a stage.
const self = "/proc/self/exe"
