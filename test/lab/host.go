package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

const (
	bootTimeout = 3 * time.Minute
	// failureGrace is what other guests get to end by themselves after one failed.
	failureGrace = 5 * time.Second
)

// host runs the guests of one test.
type host struct {
	ctx       context.Context
	t         *testing.T
	cache     string
	dir       string
	board     board
	program   string // the guests' test binary
	thread    *thread
	networked bool
	machines  map[string]*machine
	starts    int
	ended     chan end      // one for every start
	gone      chan struct{} // closed when the test has ended
}

// newHost prepares directories, disks, kernels' images and the network;
// t.Cleanup undoes it.
func newHost(ctx context.Context, t *testing.T, guests []Guest, networked bool) (*host, error) {
	if err := checkHost(); err != nil {
		return nil, err
	}
	cache, err := uml.CacheDir()
	if err != nil {
		return nil, err
	}
	dir, release, err := runDir(cache)
	if err != nil {
		return nil, err
	}
	t.Cleanup(release)
	h := &host{
		ctx: ctx, t: t, cache: cache, dir: dir, networked: networked,
		board:    board{filepath.Join(dir, boardDir)},
		machines: map[string]*machine{},
		ended:    make(chan end),
		gone:     make(chan struct{}),
	}
	if err := h.makeMachines(guests); err != nil {
		return nil, err
	}
	if h.thread, err = newThread(dir); err != nil {
		return nil, err
	}
	t.Cleanup(h.stop)
	if networked {
		err = h.thread.do(func() error { return h.makeNetwork(len(guests)) })
	}
	return h, err
}

// makeMachines builds what guests boot from and write to.
func (h *host) makeMachines(guests []Guest) (err error) {
	for _, dir := range []string{h.board.dir, filepath.Join(h.dir, sharedDir)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if h.program, err = guestProgram(h.ctx, h.dir); err != nil {
		return err
	}
	for i, g := range guests {
		base, err := uml.Image(h.ctx, h.cache, g.Packages)
		if err != nil {
			return err
		}
		if h.machines[g.Name], err = newMachine(h.dir, i+1, g, guests, base, h.networked); err != nil {
			return err
		}
	}
	return nil
}

// checkHost names what the host lacks.
func checkHost() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root: run go test as root, or set DOZO_LAB=off to leave these tests out")
	}
	for _, program := range []string{uml.Kernel, "mmdebstrap", "mkfs.ext4", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w; run make packages, or set DOZO_LAB=off to leave these tests out", err)
		}
	}
	return nil
}

// makeNetwork makes a bridge with a tap device for each guest; it is called on
// the thread and so in its network namespace.
func (h *host) makeNetwork(guests int) error {
	commands := [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", bridgeName, "type", "bridge"},
		{"address", "add", address(hostIndex).String() + "/24", "dev", bridgeName},
		{"link", "set", bridgeName, "up"},
	}
	for i := range guests {
		commands = append(commands,
			[]string{"tuntap", "add", tapName(i + 1), "mode", "tap"},
			[]string{"link", "set", tapName(i + 1), "master", bridgeName, "up"})
	}
	for _, args := range commands {
		ctx, cancel := context.WithTimeout(h.ctx, commandTimeout)
		_, err := uml.RunCommand(ctx, exec.CommandContext(ctx, "ip", args...))
		cancel()
		if err != nil {
			return fmt.Errorf("make the guests' network: %w", err)
		}
	}
	return nil
}

// tapName is the interface of a guest on the host's side.
func tapName(index int) string { return fmt.Sprintf("tap%d", index) }

// startBound starts a program that is killed, with all its children, when the
// calling thread ends.
func startBound(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return cmd.Start()
}

// start boots a machine.
func (h *host) start(m *machine) {
	h.t.Helper()
	if err := m.prepare(h.t, h.program); err != nil {
		h.t.Fatalf("guest %s: %v", m.guest.Name, err)
	}
	if err := h.launch(m); err != nil {
		h.t.Fatalf("start guest %s: %v", m.guest.Name, err)
	}
	h.starts++
	go func(done chan struct{}) {
		e := m.await()
		if e.failed() {
			_ = h.board.put(failedKey, m.guest.Name) // tells the guests that wait; Wait reports the failure
		}
		close(done)
		select {
		case h.ended <- e:
		case <-h.gone:
		}
	}(m.done)
}

// launch starts a machine's kernel on the core with the fewest guests.
func (h *host) launch(m *machine) error {
	core, release, err := uml.LeaseCore(h.cache)
	if err != nil {
		return err
	}
	m.release = release
	all, err := uml.AllowedCores()
	if err != nil {
		return err
	}
	err = h.thread.do(func() error {
		if err := uml.Pin(core); err != nil {
			return err
		}
		err := m.start(h.ctx, &lineWriter{w: h.t.Output(), prefix: m.guest.Name + "| "})
		return errors.Join(err, uml.Pin(all...)) // for what Net.Start starts
	})
	if err != nil {
		release()
	}
	return err
}

// awaitBoot returns when the guest runs the test.
func (h *host) awaitBoot(m *machine) {
	h.t.Helper()
	key := upKey(m.guest.Name, m.boots)
	for !m.exited() {
		if _, ok := h.board.look(key); ok {
			h.t.Logf("guest %s: boot %d took %v", m.guest.Name, m.boots, time.Since(m.started).Round(time.Millisecond))
			return
		}
		if time.Since(m.started) > bootTimeout {
			h.t.Fatalf("guest %s has not booted within %v; see its output", m.guest.Name, bootTimeout)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, ok := h.board.look(key); !ok {
		h.t.Fatalf("guest %s ended before it ran the test; see its output", m.guest.Name)
	}
}

// nextEnd waits for the next end of a boot. Once a guest has failed, the others
// are stopped after a moment.
func (h *host) nextEnd(failed bool) end {
	if !failed {
		return <-h.ended // in time, since the context kills guests
	}
	select {
	case e := <-h.ended:
		return e
	case <-time.After(failureGrace):
		for _, m := range h.machines {
			m.cut()
		}
		return <-h.ended
	}
}

// stop ends guests and network, and keeps what they counted for coverage.
func (h *host) stop() {
	close(h.gone)
	for _, m := range h.machines {
		m.cut()
		if err := collectCoverage(m.coverDir(), m.programCoverDir()); err != nil {
			h.t.Errorf("collect the coverage of guest %s: %v", m.guest.Name, err)
		}
	}
	h.thread.close()
}
