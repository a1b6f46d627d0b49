package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process names a process beyond the reuse of its number.
type process struct {
	PID   int
	Start string // the kernel's start time, in ticks since boot
}

// findProcess records a running process.
func findProcess(pid int) (process, error) {
	ended, start, err := processStat(pid)
	if err != nil {
		return process{}, err
	}
	if ended {
		return process{}, fmt.Errorf("process %d has ended", pid)
	}
	return process{PID: pid, Start: start}, nil
}

// processStat reads whether it has ended, and the start time. The program's
// name, which comes before them, may itself hold spaces and parentheses. A
// process whose first thread has ended lives on in others: an init in the one
// that ends all else in its namespace.
func processStat(pid int) (ended bool, start string, err error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false, "", err
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	if len(fields) < 20 {
		return false, "", fmt.Errorf("process %d: short stat line", pid)
	}
	state, threads := fields[0], fields[17]
	return state == "Z" && (threads == "0" || threads == "1"), fields[19], nil
}

// alive is false once the process is gone or nothing but an exit status.
func (p process) alive() bool {
	ended, start, err := processStat(p.PID)
	return err == nil && start == p.Start && !ended
}

func (p process) write(file string) error {
	return os.WriteFile(file, fmt.Appendf(nil, "%d %s\n", p.PID, p.Start), 0o644)
}

// readProcess returns a zero process when the file is missing.
func readProcess(file string) (process, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, nil
	}
	if err != nil {
		return process{}, err
	}
	var p process
	if _, err := fmt.Sscan(string(data), &p.PID, &p.Start); err != nil {
		return process{}, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// kill ends the process and waits for it. For an init that means the end of
// every process in its namespaces.
func (p process) kill(timeout time.Duration) error {
	if p.PID == 0 || !p.alive() {
		return nil
	}
	if err := unix.Kill(p.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for deadline := time.Now().Add(timeout); p.alive(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d is still there %v after being killed: it may hang on a device", p.PID, timeout)
		}
	}
	return nil
}
