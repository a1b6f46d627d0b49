package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	envGuest   = "DOZO_LAB_GUEST"
	envBoots   = "DOZO_LAB_BOOTS"
	envAddress = "DOZO_LAB_ADDRESS"
	// envDir comes from the kernel's command line.
	envDir = "LAB_DIR"

	outcomeName = "outcome"
	outcomePass = "pass"
	outcomeSkip = "skip"
	outcomeFail = "fail"

	kickPeriod = 100 * time.Millisecond
	// kernelTail is how many bytes of the kernel's log a failed test shows.
	kernelTail = 6000
)

// upKey is the message that a guest has booted for the given time.
func upKey(name string, boots int) string { return fmt.Sprintf("up.%s.%d", name, boots) }

// join makes the view of the guest in which the process runs.
func (n *Net) join() {
	n.t.Helper()
	n.self = os.Getenv(envGuest)
	dir := "/host" + os.Getenv(envDir)
	n.board = board{filepath.Join(filepath.Dir(dir), boardDir)}
	boots, err := strconv.Atoi(os.Getenv(envBoots))
	if err != nil {
		n.t.Fatalf("%s: %v", envBoots, err)
	}
	n.boots = boots
	n.t.Cleanup(func() { leave(n.t, filepath.Join(dir, outcomeName)) })
	kick(n.t, os.Getenv(envAddress))
	n.Put(upKey(n.self, n.boots), "")
	for _, g := range n.guests {
		if g.Name != n.self {
			continue
		}
		if err := provide(n.t, g); err != nil {
			n.t.Fatal(err)
		}
		return
	}
	n.t.Fatalf("the test asks for no guest called %q: it must ask for the same guests on the host and in them", n.self)
}

// leave writes the result, and after a failure what the kernel said.
func leave(t *testing.T, path string) {
	outcome := outcomePass
	switch {
	case t.Failed():
		outcome = outcomeFail
		t.Logf("the kernel's log ends with:\n%s", kernelLog())
	case t.Skipped():
		outcome = outcomeSkip
	}
	if err := os.WriteFile(path, []byte(outcome), 0o644); err != nil {
		t.Error(err)
	}
}

// kernelLog is the end of the kernel's messages.
func kernelLog() string {
	buf := make([]byte, 1<<18)
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[max(0, size-kernelTail):size])
}

// provide loads the modules and names everything that is missing.
func provide(t *testing.T, g Guest) error {
	var missing []error
	for _, program := range g.Programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Errorf("program %s is missing in the guest: add its Debian package to test/lab/guest-packages.txt or to Guest.Packages", program))
		}
	}
	for _, module := range g.Modules {
		if _, err := Try(t, "modprobe", module); err != nil {
			missing = append(missing, fmt.Errorf("module %s cannot be loaded; the guests' kernel has what %s lists: %w", module, modulesDir, err))
		}
	}
	return errors.Join(missing...)
}

// kick keeps a guest from waiting for ever. The kernel (6.1 to 7.3 at least)
// may lose the signal for a finished disk or network request when signals nest;
// the next request is answered together with the lost one. So there is one
// small read and one packet to everybody in each period.
func kick(t *testing.T, ownAddress string) {
	root, err := unix.Open("/dev/ubda", unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open the root disk: %v", err)
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatalf("map a page: %v", err)
	}
	var conn net.Conn
	if ownAddress != "" {
		if conn, err = net.Dial("udp", broadcast(t, ownAddress)); err != nil {
			t.Fatalf("reach the other guests: %v", err)
		}
	}
	reads := make(chan struct{}, 8) // a read may itself be the lost one: the next ones wake it
	go func() {                     // until the guest ends
		for range time.Tick(kickPeriod) {
			select {
			case reads <- struct{}{}:
				go func() {
					_, _ = unix.Pread(root, page, 0)
					<-reads
				}()
			default:
			}
			if conn != nil {
				_, _ = conn.Write([]byte{0})
			}
		}
	}()
}

// broadcast is the address of everybody on the network, at the discard port.
func broadcast(t *testing.T, ownAddress string) string {
	prefix, err := netip.ParsePrefix(strings.TrimSpace(ownAddress))
	if err != nil {
		t.Fatalf("%s: %v", envAddress, err)
	}
	ip := prefix.Addr().As4()
	ip[3] = 255
	return netip.AddrPortFrom(netip.AddrFrom4(ip), 9).String()
}
