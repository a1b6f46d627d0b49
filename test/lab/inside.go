package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/lab/uml"
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
	if err := stayAwake(os.Getenv(envAddress)); err != nil {
		n.t.Fatal(err)
	}
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
			missing = append(missing, fmt.Errorf("program %s is missing in the guest: add its Debian package to test/lab/uml/guest-packages.txt or to Guest.Packages", program))
		}
	}
	for _, module := range g.Modules {
		if _, err := Try(t, "modprobe", module); err != nil {
			missing = append(missing, fmt.Errorf("module %s cannot be loaded; the guests' kernel has what %s lists: %w", module, uml.ModulesDir, err))
		}
	}
	return errors.Join(missing...)
}

// stayAwake keeps the guest from waiting for ever; it has no network if the
// address is "".
func stayAwake(own string) error {
	if err := uml.KeepDiskAwake(kickPeriod); err != nil || own == "" {
		return err
	}
	network, err := netip.ParsePrefix(own)
	if err != nil {
		return fmt.Errorf("%s: %w", envAddress, err)
	}
	return uml.KeepNetworkAwake(network, kickPeriod)
}
