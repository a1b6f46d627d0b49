package lab

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

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
	return uml.Confine(dir)
}
