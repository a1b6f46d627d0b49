package nas_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/lab"
)

// TestProgram is the simulator as a program, as in a cluster's lab: it is killed in the middle, and started again.
func TestProgram(t *testing.T) {
	n := lab.Network(t, naslab.Guest())
	if n.Self() == lab.Host {
		program := filepath.Join(n.Dir(), "dsmsim")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/dozo-dev/dozo/test/dsmsim/cmd/dsmsim")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := os.Mkdir(filepath.Join(n.Dir(), "state"), 0o700); err != nil {
			t.Fatal(err)
		}
		n.Put("program", program)
		n.Wait()
		return
	}
	lab.StartInitiator(t)
	p := &program{path: "/host" + n.Get("program", 5*time.Minute), dir: filepath.Join(n.Dir(), "state"), listen: n.IP(n.Self()).String() + ":5001"}
	p.start(t)
	t.Run("used", func(t *testing.T) { p.use(t) }) // and cleaned up
	p.end(t, os.Interrupt)
	lab.Output(t, "umount", "/volume1")
	if err := os.Remove("/volume1"); err != nil {
		t.Fatal(err)
	}
	expectNothing(t)
}

type program struct {
	path, dir, listen string
	cmd               *exec.Cmd
	ca                string
}

// start starts the program and reads what it says: its address and certificate.
func (p *program) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.path, "-plane", "linux", "-dir", p.dir, "-disk", lab.DiskPath(0), "-listen", p.listen, "-account", naslab.Account)
	p.cmd.Env = append(os.Environ(), "DSMSIM_PASSWORD="+naslab.Password)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	url, err := said.ReadString('\n')
	if err != nil || strings.TrimSpace(url) != "https://"+p.listen {
		t.Fatalf("it says %q, %v", url, err)
	}
	var ca strings.Builder
	for !strings.HasSuffix(ca.String(), "-----END CERTIFICATE-----\n") {
		line, err := said.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		ca.WriteString(line)
	}
	if p.ca != "" && p.ca != ca.String() {
		t.Error("it has another certificate than before")
	}
	p.ca = ca.String()
	go func() { _, _ = io.Copy(io.Discard, said) }()
}

// end tells it to end and waits until it has.
func (p *program) end(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	err := p.cmd.Wait()
	if killed := s == os.Kill; killed == (err == nil) {
		t.Errorf("it ended after %v: %v", s, err)
	}
}

// use maps a LUN and writes to it, with the program killed and the NAS without power in between.
func (p *program) use(t *testing.T) {
	client, err := dsm.New(dsm.Config{URL: "https://" + p.listen, CA: []byte(p.ca), Credentials: dsm.Credentials{Account: naslab.Account, Password: dsm.NewSecret(naslab.Password)}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{Client: client, t: t, ctx: context.WithoutCancel(t.Context())}
	l, at := b.newLUN("a", 64*mib), b.newTarget("node1", 0, chap())
	b.mapTo(at, l.UUID)
	b.login(at)
	disk, data := b.disk(l.UUID), block(t)
	b.ok(writeTo(disk, 0, data))

	p.end(t, os.Kill)
	b.ok(writeTo(disk, mib, data)) // nobody misses it
	p.start(t)
	b.ok(writeTo(disk, 2*mib, data))
	if s := b.describe(at).Sessions; len(s) != 1 || s[0].IQN == "" {
		t.Errorf("sessions after its restart: %+v", s)
	}

	b.ok(p.cmd.Process.Signal(syscall.SIGUSR1))
	eventually(t, func() error { return b.isGone(at) })
	b.ok(p.cmd.Process.Signal(syscall.SIGUSR2))
	b.ok(writeTo(disk, 3*mib, data))
	for i := range 4 {
		expectAt(t, disk, int64(i)*mib, data)
	}
}

// isGone is no error once a target is not served any more.
func (b *bed) isGone(at target) error {
	_, err := os.Stat("/sys/kernel/config/target/iscsi/" + at.iqn)
	if os.IsNotExist(err) {
		return nil
	}
	return &os.PathError{Op: "wait until it is gone", Path: at.iqn, Err: os.ErrExist}
}
