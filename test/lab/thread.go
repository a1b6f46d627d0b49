package lab

import (
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// memoryDir, in a test's directory, is where kernels keep their guests' memory.
const memoryDir = "memory"

// thread is one operating-system thread with mount and network namespaces of
// its own. What is started on it lives in those namespaces and is killed with
// it, so nothing outlives the test's process: no mount, interface or guest.
type thread struct {
	calls chan func()
}

// newThread makes the thread. On it the host's files are read-only, but for dir.
func newThread(dir string) (*thread, error) {
	th := &thread{calls: make(chan func())}
	ready := make(chan error)
	go th.serve(dir, ready)
	return th, <-ready
}

// serve runs calls until the thread is closed. It never unlocks the thread, so
// that the runtime ends it together with its namespaces.
func (th *thread) serve(dir string, ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread would never end: hold it while another one is found.
		inner := make(chan error)
		go th.serve(dir, inner)
		ready <- <-inner
		runtime.UnlockOSThread()
		return
	}
	err := separate(dir)
	ready <- err
	if err != nil {
		return
	}
	for call := range th.calls {
		call()
	}
}

// do runs fn on the thread.
func (th *thread) do(fn func() error) error {
	result := make(chan error, 1)
	th.calls <- func() { result <- fn() }
	return <-result
}

// close ends the thread and with it every process that was started on it.
func (th *thread) close() { close(th.calls) }

// separate gives the calling thread its own namespaces.
func separate(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make namespaces: %w; run the test as root, in a container with CAP_SYS_ADMIN", err)
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"make mounts private", func() error {
			// Not private: a copy of somebody's mount would keep its device busy after they unmounted it.
			return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		}},
		{"bind " + dir, func() error { return unix.Mount(dir, dir, "", unix.MS_BIND, "") }},
		{"make the host's files read-only", func() error {
			return unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		}},
		{"make " + dir + " writable", func() error {
			return unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		}},
		{"mount the guests' memory", func() error {
			return unix.Mount("lab", filepath.Join(dir, memoryDir), "tmpfs", 0, "size=90%,mode=0700")
		}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}
