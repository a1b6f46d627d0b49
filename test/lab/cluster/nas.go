package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/test/dsmsim/nas"
	"github.com/dozo-dev/dozo/test/lab/uml"
)

// nasSpec is the machine beside the nodes that is a NAS: it is reached as they
// are, and is none of the cluster.
func nasSpec() nodeSpec { return nodeSpec{Name: "nas"} }

const (
	nasAccount   = "dozo"
	nasPort      = "5001"
	nasMemoryMiB = 1024
	nasDisk      = 64 << 30 // bytes of /volume1; the file is sparse
	// nasStart is how long a NAS may take from power to its first answer.
	nasStart = 3 * time.Minute
)

// Files in the NAS's directory.
const (
	nasProgram  = "dsmsim"
	nasPassword = "password"
	nasState    = "dsm" // the simulator's own directory
	nasLog      = "dsmsim.log"
	nasFaults   = "faults.json" // read at the start, and on SIGHUP
)

// NAS is how the NAS beside the nodes is reached from them, and from pods.
type NAS struct {
	URL               string
	Account, Password string
	CA                string // the file of its certificate
}

// NAS returns how the running lab's NAS is reached.
func (l *Lab) NAS() (NAS, error) {
	s, err := l.spec()
	if err != nil {
		return NAS{}, err
	}
	if !s.NAS {
		return NAS{}, errors.New("the lab has no NAS: start it with up --kernel guest --nas")
	}
	dir := l.node(nasSpec().Name)
	password, err := os.ReadFile(filepath.Join(dir, nasPassword))
	return NAS{URL: "https://" + net.JoinHostPort(nasSpec().address(), nasPort), Account: nasAccount, Password: string(password),
		CA: filepath.Join(dir, nasState, "cert.pem")}, err
}

// prepareNAS builds the simulator, and gives its administrator a password.
func (l *Lab) prepareNAS(ctx context.Context) error {
	dir := l.node(nasSpec().Name)
	if err := os.MkdirAll(filepath.Join(dir, nasState), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, nasPassword), []byte(rand.Text()), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, nasFaults), []byte("[]\n"), 0o600); err != nil {
		return err
	}
	source, err := findSource()
	if err != nil {
		return err
	}
	_, err = goCommand(filepath.Join(source, "..", "..", ".."), buildTimeout, "build", "-o", filepath.Join(dir, nasProgram), "./test/dsmsim/cmd/dsmsim").run(ctx)
	return err
}

// awaitNAS returns when the NAS answers.
func (l *Lab) awaitNAS(ctx context.Context) error {
	start := time.Now()
	err := l.await(ctx, nasStart, func(context.Context) error {
		conn, err := l.dialInside(net.JoinHostPort(nasSpec().address(), nasPort))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return fmt.Errorf("the NAS does not answer; see %s: %w", filepath.Join(l.node(nasSpec().Name), nasLog), err)
	}
	n, err := l.NAS()
	if err != nil {
		return err
	}
	l.Progress.Step("NAS ready after %.1fs: %s, account %s, password %s, certificate %s", time.Since(start).Seconds(), n.URL, n.Account, n.Password, n.CA)
	return nil
}

// nasMachine describes the NAS's machine.
func (s *spec) nasMachine() uml.Machine {
	n := nasSpec()
	dir := s.nodeDir(n.Name)
	return uml.Machine{Name: n.Name, Dir: dir, MemoryMiB: nasMemoryMiB, Root: s.Guest.Root,
		Tap:   &uml.Tap{Interface: n.link(), MAC: fmt.Sprintf("02:00:00:00:80:%02x", n.Index)},
		Disks: []uml.Disk{{Device: uml.DiskDevice(0), File: filepath.Join(dir, "volume1")}}}
}

// prepareNASGuest makes the NAS's disk and what its first process is told.
func (s *spec) prepareNASGuest(m uml.Machine) error {
	if err := uml.MakeDisk(m.Disks[0].File, nasDisk); err != nil {
		return err
	}
	return m.WriteStartup(uml.Startup{
		Env:   []string{"DOZO_LAB_CWD=/"},
		Args:  []string{filepath.Join(s.Run, "lab"), string(StageGuestNAS), s.Run},
		Hosts: nasSpec().hosts(),
	})
}

// guestNAS is what the guest that is the NAS runs after init.sh: RUN-DIRECTORY,
// as the host has it. A simulator that ends is started again, as DSM's
// services are; what it serves goes on meanwhile.
func guestNAS(args []string) error {
	if err := uml.KeepDiskAwake(kickPeriod); err != nil {
		return err
	}
	s, err := readSpec(hostRoot + args[0])
	if err != nil {
		return err
	}
	s.Run = hostRoot + s.Run
	if err := s.assembleNAS(); err != nil {
		return err
	}
	dir := s.nodeDir(nasSpec().Name)
	password, err := os.ReadFile(filepath.Join(dir, nasPassword))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, nasLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	for {
		cmd := exec.Command(filepath.Join(dir, nasProgram), "-plane", "linux", "-dir", filepath.Join(dir, nasState), "-disk", "/dev/"+uml.DiskDevice(0),
			"-listen", net.JoinHostPort(nasSpec().address(), nasPort), "-account", nasAccount, "-model", "top",
			"-csrf", "-lag", "1s", "-faults", filepath.Join(dir, nasFaults), "-v")
		cmd.Env = append(os.Environ(), "DSMSIM_PASSWORD="+strings.TrimSpace(string(password)))
		cmd.Stdout, cmd.Stderr = log, log
		fmt.Fprintf(log, "lab: the simulator ended, and is started again: %v\n", cmp.Or(cmd.Run(), errors.New("exit status 0")))
		time.Sleep(time.Second)
	}
}

// assembleNAS gives the NAS its network and its kernel's modules, and lets the
// administrator of the cluster run programs on it.
func (s *spec) assembleNAS() error {
	n := nasSpec()
	ctx := context.Background()
	own, err := netip.ParsePrefix(n.address() + "/24")
	if err != nil {
		return err
	}
	return inOrder(
		func() error { return ipBatch(ctx, "link set vec0 name "+nodeInterface) },
		func() error { return nodeNetworkUp(ctx, s, n) },
		func() error { return uml.KeepNetworkAwake(own, kickPeriod) },
		func() error {
			_, err := command{args: append([]string{"modprobe", "--all"}, nas.Modules()...), timeout: time.Minute}.run(ctx)
			return err
		},
		func() error { return serveAgent(n, s.pkiDir(), n.Name) },
	)
}

// startInitiator starts a node's iSCSI daemon, which machines with iSCSI disks
// have running.
func startInitiator(sup *supervisor) error {
	if _, err := (command{args: []string{"modprobe", "--all", "iscsi_tcp", "sd_mod"}, timeout: time.Minute}).run(context.Background()); err != nil {
		return err
	}
	if err := makeDirs("/", 0o755, "/run/lock/iscsi"); err != nil {
		return err
	}
	return sup.start("iscsid", "iscsid", "--foreground")
}
