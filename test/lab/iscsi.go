package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// initiatorPatience is far more than iscsid takes to answer in a busy guest.
const initiatorPatience = 2 * time.Minute

// noSessions is what iscsiadm exits with if it has nothing to list (man iscsiadm).
const noSessions = 21

// StartInitiator starts iscsid in a guest, which stays until the guest ends.
func StartInitiator(t testing.TB) {
	t.Helper()
	if err := os.MkdirAll("/run/lock/iscsi", 0o700); err != nil {
		t.Fatal(err)
	}
	Output(t, "iscsid")
	for end := time.Now().Add(initiatorPatience); ; time.Sleep(50 * time.Millisecond) {
		_, err := Try(t, "iscsiadm", "-m", "session")
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == noSessions {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("iscsid does not answer: %v", err)
		}
	}
}

// InitiatorLeft lists the sessions, disks and records of a guest's initiator.
func InitiatorLeft() (all []string) {
	for _, pattern := range []string{"/sys/class/iscsi_session/*", "/sys/class/scsi_device/*", "/etc/iscsi/nodes/*"} {
		found, _ := filepath.Glob(pattern) // fails for a bad pattern only
		all = append(all, found...)
	}
	return all
}
