// Package wire tests 'dozo lvmd' as a process, over pools on real files: the law, and what happens to
// the callers of a daemon that is killed.
package wire

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/wire"
)

// program is the binary, built once.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dozo-wire")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	program = filepath.Join(dir, "dozo")
	defer func() {
		_ = os.Remove(program)
		_ = os.Remove(dir)
	}()
	if out, err := exec.Command("go", "build", "-o", program, "github.com/dozo-dev/dozo/cmd/dozo").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// daemon is 'dozo lvmd' with one pool, "images".
type daemon struct {
	t      testing.TB
	dir    string // of its socket and configuration
	cmd    *exec.Cmd
	exited chan error
	log    *os.File
}

// start starts a daemon over a directory of images and waits until it says that it is ready, in the
// way in which it tells systemd.
func start(t testing.TB, images string) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: t.TempDir()}
	config := fmt.Sprintf("pools:\n- name: images\n  kind: loopfile\n  options: {path: %s, spare: \"0\"}\n", images)
	if err := os.WriteFile(d.config(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	d.log = log
	t.Cleanup(func() {
		d.kill()
		log.Close()
	})
	d.run()
	return d
}

func (d *daemon) config() string { return filepath.Join(d.dir, "pools.yaml") }
func (d *daemon) socket() string { return filepath.Join(d.dir, "run", "lvmd.sock") }

// run starts the process.
func (d *daemon) run() {
	d.t.Helper()
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(d.dir, "notify"), Net: "unixgram"})
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() {
		told.Close()
		_ = os.Remove(told.LocalAddr().String())
	}()
	d.cmd = exec.Command(program, "lvmd", "--pool-config", d.config(), "--socket", d.socket(), "--node-name", "n1")
	d.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+told.LocalAddr().String())
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(d.cmd, d.exited)
	said := make([]byte, 100)
	if err := told.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	if n, err := told.Read(said); err != nil || string(said[:n]) != "READY=1" {
		text, _ := os.ReadFile(d.log.Name())
		d.t.Fatalf("it is not ready: %q, %v\n%s", said[:n], err, text)
	}
}

// kill ends the process as a crash does: whatever it is doing, it does not go on.
func (d *daemon) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill() // it may have ended by itself
	<-d.exited
	d.cmd = nil
}

func (d *daemon) connect() *wire.Client {
	d.t.Helper()
	c, err := wire.Connect(d.t.Context(), wire.Dial{Socket: d.socket(), Pool: "images"})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// freeze stops the process in its tracks, all of its threads.
func (d *daemon) freeze() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		d.t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, d.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		d.t.Fatal(err)
	}
}

// TestSilent: a process that is stopped keeps its end of the socket open. The caller is not kept for ever,
// and finds it when it goes on.
func TestSilent(t *testing.T) {
	t.Parallel()
	d := start(t, t.TempDir())
	c := d.connect()
	d.freeze()
	began := time.Now()
	if _, err := c.Get(t.Context(), "v"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v (%v), want unavailable", err, errs.KindOf(err))
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v to notice", took)
	}
	if err := d.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := c.Get(t.Context(), "v")
		if errs.Is(err, errs.NotFound) {
			return
		}
		if !errs.Is(err, errs.Unavailable) || time.Now().After(end) {
			t.Fatalf("it goes on, and the answer is %v", err)
		}
	}
}

// TestStop: SIGTERM ends it in order, and takes the socket away; a second daemon is refused meanwhile.
func TestStop(t *testing.T) {
	dir := t.TempDir()
	d := start(t, dir)
	d.connect()
	second, err := exec.CommandContext(t.Context(), program, "lvmd", "--pool-config", d.config(), "--socket", d.socket()).CombinedOutput()
	if err == nil || !strings.Contains(string(second), "another process serves it") {
		t.Errorf("a second daemon: %v, %s", err, second)
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-d.exited; err != nil {
		t.Errorf("it ended with %v", err)
	}
	d.cmd = nil
	if _, err := os.Lstat(d.socket()); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}
