package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab/uml"
)

var errSkipped = errors.New("the test was skipped in the guest")

// machine is one guest of a test on the host's side.
type machine struct {
	guest Guest
	index int // from 1; the last byte of its address
	dir   string
	hosts string
	uml   uml.Machine

	boots   int
	started time.Time
	cancel  context.CancelFunc
	cmd     *exec.Cmd
	console *lineWriter
	done    chan struct{} // closed at the end of the current boot
	release func()        // gives the core back
	hasCut  atomic.Bool
}

// newMachine makes a machine's directory and its disks.
func newMachine(parent string, index int, g Guest, all []Guest, base string, networked bool) (*machine, error) {
	m := &machine{guest: g, index: index, dir: filepath.Join(parent, g.Name), hosts: "127.0.0.1 localhost\n"}
	m.uml = uml.Machine{Name: g.Name, Dir: m.dir, MemoryMiB: g.MemoryMiB, Root: base}
	if networked {
		m.uml.Tap = &uml.Tap{Interface: tapName(index), MAC: fmt.Sprintf("02:00:00:00:77:%02x", index)}
	}
	for _, dir := range []string{m.coverDir(), m.programCoverDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for i, d := range g.Disks {
		disk := uml.Disk{Device: uml.DiskDevice(i), File: filepath.Join(m.dir, fmt.Sprintf("disk%d", i))}
		if err := uml.MakeDisk(disk.File, d.Size); err != nil {
			return nil, fmt.Errorf("disk %d of guest %s: %w", i, g.Name, err)
		}
		m.uml.Disks = append(m.uml.Disks, disk)
	}
	for i, other := range all {
		m.hosts += fmt.Sprintf("%v %s\n", address(i+1), other.Name)
	}
	return m, nil
}

func (m *machine) coverDir() string        { return filepath.Join(m.dir, "cover") }
func (m *machine) programCoverDir() string { return filepath.Join(m.dir, "program-cover") }
func (m *machine) outcomeFile() string     { return filepath.Join(m.dir, outcomeName) }

// prepare writes what init.sh reads at the next boot.
func (m *machine) prepare(t *testing.T, program string) error {
	m.boots++
	if err := os.Remove(m.outcomeFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	args, err := guestArgs(t, program, m.coverDir())
	if err != nil {
		return err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	env := []string{envBoots + "=" + strconv.Itoa(m.boots), "DOZO_LAB_CWD=" + cwd}
	ip := ""
	if m.uml.Tap != nil {
		ip = address(m.index).String() + "/24"
	}
	env = append(env, envAddress+"="+ip)
	if os.Getenv("GOCOVERDIR") != "" { // for programs built with -cover; see collectCoverage
		env = append(env, "GOCOVERDIR=/host"+m.programCoverDir())
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "DOZO_") && !strings.HasPrefix(v, "DOZO_LAB") || strings.HasPrefix(v, "GODEBUG=") {
			env = append(env, v)
		}
	}
	return m.uml.WriteStartup(uml.Startup{Env: env, Args: args, Hosts: m.hosts})
}

// start boots the kernel; it is called on the host's thread.
func (m *machine) start(ctx context.Context, console *lineWriter) error {
	ctx, m.cancel = context.WithCancel(ctx)
	m.cmd = exec.CommandContext(ctx, uml.Kernel, m.uml.Args(m.boots)...)
	m.cmd.Dir = m.dir
	m.cmd.Env = uml.KernelEnv(filepath.Dir(m.dir))
	m.console = console
	m.cmd.Stdout, m.cmd.Stderr = console, console
	m.cmd.WaitDelay = time.Second
	m.started = time.Now()
	if err := startBound(m.cmd); err != nil {
		m.cancel()
		return err
	}
	m.hasCut.Store(false)
	m.done = make(chan struct{})
	return nil
}

// end is how a boot ended.
type end struct {
	guest string
	cut   bool
	err   error
}

// failed tells whether the guest failed by itself.
func (e end) failed() bool { return e.err != nil && e.err != errSkipped && !e.cut }

// await waits for the end of the current boot and judges it.
func (m *machine) await() end {
	err := m.cmd.Wait()
	m.cancel()
	m.release()
	m.console.flush()
	return end{guest: m.guest.Name, cut: m.hasCut.Load(), err: m.judge(err)}
}

// judge turns the kernel's exit and what the guest wrote into a result. The
// exit status alone would not do: a test binary that runs no test exits with 0.
func (m *machine) judge(exit error) error {
	if exit != nil {
		return exit
	}
	outcome, err := os.ReadFile(m.outcomeFile())
	if err != nil {
		return errors.New("the guest ended without a result of the test")
	}
	switch string(outcome) {
	case outcomePass:
		return nil
	case outcomeSkip:
		return errSkipped
	}
	return fmt.Errorf("the guest's result is %q", outcome)
}

// cut ends the machine at once, if it runs, and waits until it is gone.
func (m *machine) cut() {
	if !m.running() {
		return
	}
	m.hasCut.Store(true)
	m.cancel()
	<-m.done
}

// exited tells whether the current boot has ended.
func (m *machine) exited() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func (m *machine) running() bool { return m.done != nil && !m.exited() }

// lineWriter passes on whole lines with a prefix, so that nothing takes a
// guest's lines for results of the host's test.
type lineWriter struct {
	w      io.Writer
	prefix string
	rest   string
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest += strings.ReplaceAll(string(p), "\r", "")
	for {
		line, rest, found := strings.Cut(l.rest, "\n")
		if !found {
			return len(p), nil
		}
		l.rest = rest
		if strings.HasPrefix(line, "coverage: ") {
			continue // go test would take it for the whole test's
		}
		if _, err := io.WriteString(l.w, l.prefix+line+"\n"); err != nil {
			return 0, err
		}
	}
}

// flush writes what came without an end of line.
func (l *lineWriter) flush() {
	if l.rest != "" {
		_, _ = l.Write([]byte("\n"))
	}
}
