package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

const (
	bridgeName = "lab0"
	sharedDir  = "shared"
	// hostIndex is the last byte of the host's address on the guests' network.
	hostIndex      = 254
	defaultTimeout = 10 * time.Minute
	// stopMargin is kept free before go test's own time limit, to stop the
	// guests and tell what they said.
	stopMargin = 5 * time.Second
)

// Net is a test's guests, seen by the host or by one of the guests. Its methods
// end the test if they fail.
type Net struct {
	t      *testing.T
	guests []Guest
	board  board
	self   string
	boots  int

	host *host // nil in a guest
}

// InGuest tells whether this process runs in a guest.
func InGuest() bool { return os.Getenv(envGuest) != "" }

// Run boots a guest without a network, runs the calling test in it and takes
// over the result; then it answers false. In the guest it answers true. Call
// it once in a test, before anything that the host should not do.
func Run(t *testing.T, guest Guest) bool {
	t.Helper()
	n := gather(t, []Guest{guest}, false)
	if n.self != Host {
		return true
	}
	n.Wait()
	return false
}

// Network boots guests on a network of their own and returns when all of them
// run the calling test. On the host the test must end with Wait.
func Network(t *testing.T, guests ...Guest) *Net {
	t.Helper()
	return gather(t, guests, true)
}

// gather makes the host's or a guest's view.
func gather(t *testing.T, guests []Guest, networked bool) *Net {
	t.Helper()
	guests, err := normalise(guests)
	if err != nil {
		t.Fatal(err)
	}
	n := &Net{t: t, guests: guests}
	if InGuest() {
		n.join()
		return n
	}
	if os.Getenv("DOZO_LAB") == "off" {
		uml.Progress("%s is NOT run, because DOZO_LAB=off", t.Name())
		t.Skip("not run, because DOZO_LAB=off: no kernel is tested")
	}
	ctx, cancel := context.WithDeadline(context.Background(), stopTime(t))
	t.Cleanup(cancel)
	if n.host, err = newHost(ctx, t, guests, networked); err != nil {
		t.Fatal(err)
	}
	n.board = n.host.board
	for _, g := range guests {
		n.host.start(n.host.machines[g.Name])
	}
	for _, g := range guests {
		n.host.awaitBoot(n.host.machines[g.Name])
	}
	return n
}

// stopTime is when guests must have ended.
func stopTime(t *testing.T) time.Time {
	if deadline, ok := t.Deadline(); ok {
		return deadline.Add(-stopMargin)
	}
	return time.Now().Add(defaultTimeout)
}

// Self is the guest's name, or Host.
func (n *Net) Self() string { return n.self }

// Boots counts the guest's starts: 1 at first, 2 after a power cut and Boot.
func (n *Net) Boots() int { return n.boots }

// IP is the address of a guest, or of Host, on the private network.
func (n *Net) IP(name string) netip.Addr {
	n.t.Helper()
	if name == Host {
		return address(hostIndex)
	}
	i := slices.IndexFunc(n.guests, func(g Guest) bool { return g.Name == name })
	if i < 0 {
		n.t.Fatalf("no guest is called %q", name)
	}
	return address(i + 1)
}

// address is a host number's address in the guests' network.
func address(index int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(index)}) }

// Put leaves a message for the host and all guests, in place of an older one
// with the same key.
func (n *Net) Put(key, value string) {
	n.t.Helper()
	if err := n.board.put(key, value); err != nil {
		n.t.Fatal(err)
	}
}

// Get waits until somebody has put the message.
func (n *Net) Get(key string, timeout time.Duration) string {
	n.t.Helper()
	value, err := n.board.wait(key, timeout)
	if err != nil {
		n.t.Fatal(err)
	}
	return value
}

// Halt waits in a guest for the power cut.
func (n *Net) Halt() {
	n.t.Helper()
	n.Get("never", time.Until(stopTime(n.t)))
}

// Dir is a directory that the host and all guests read and write, for what is
// too large for a message. It is removed after the test.
func (n *Net) Dir() string { return filepath.Join(filepath.Dir(n.board.dir), sharedDir) }

// Start starts a program of the host in the guests' network, for example a
// server or a client of theirs. It may write below Dir only, and is killed
// with the test.
func (n *Net) Start(cmd *exec.Cmd) error {
	if n.host == nil {
		return errors.New("only the host starts programs beside the guests")
	}
	return n.host.thread.do(func() error { return startBound(cmd) })
}

// InNetwork has the host run f on a thread in the guests' network: a socket that f makes is there, whoever uses it
// then.
func (n *Net) InNetwork(f func() error) error {
	if n.host == nil {
		return errors.New("a guest is in its network already")
	}
	return n.host.thread.do(f)
}

// Cut takes a guest's power away: its kernel ends at once, and what it had not
// yet handed to its disks is lost. What it had handed over stays, flushed or
// not: the disks are files of the host.
func (n *Net) Cut(name string) {
	n.t.Helper()
	m := n.machine(name)
	m.cut()
	uml.Progress("guest %s: power cut", name)
}

// Boot starts a guest again after Cut, with the same disks and root. It runs
// the test from its beginning; Boots counts.
func (n *Net) Boot(name string) {
	n.t.Helper()
	m := n.machine(name)
	if m.running() {
		n.t.Fatalf("guest %s is running: cut its power first", name)
	}
	n.host.start(m)
	n.host.awaitBoot(m)
}

// machine finds a guest for the host.
func (n *Net) machine(name string) *machine {
	n.t.Helper()
	if n.host == nil {
		n.t.Fatal("only the host has the guests' power in its hands")
	}
	m := n.host.machines[name]
	if m == nil {
		n.t.Fatalf("no guest is called %q", name)
	}
	return m
}

// Wait returns when every guest that has power has ended its test, and fails
// the test if one of them failed.
func (n *Net) Wait() {
	n.t.Helper()
	if n.host == nil {
		n.t.Fatal("only the host can wait for guests")
	}
	var failed []error
	skipped := 0
	for ; n.host.starts > 0; n.host.starts-- {
		e := n.host.nextEnd(len(failed) > 0)
		if e.failed() {
			failed = append(failed, fmt.Errorf("guest %s: %w", e.guest, e.err))
		}
		if e.err == errSkipped {
			skipped++
		}
	}
	if len(failed) > 0 {
		n.t.Fatalf("%v; the guest's output is above", errors.Join(failed...))
	}
	if skipped > 0 {
		n.t.Skipf("%d of %d guests skipped the test", skipped, len(n.guests))
	}
}
