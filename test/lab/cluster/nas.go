package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/nas"
	"github.com/dozo-dev/dozo/test/lab/uml"
)

// nasSpec is the machine beside the nodes that is a NAS: it is reached as they
// are, and is none of the cluster.
func nasSpec() nodeSpec { return nodeSpec{Name: "nas"} }

const (
	nasAccount   = "dozo"
	nasUser      = "k8s" // of SMB
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
	nasCHAP     = "chap" // what nodes prove themselves with to its targets
	nasSMB      = "smb"  // and what they log in with to mount its shares by SMB
	nasState    = "dsm"  // the simulator's own directory
	nasLog      = "dsmsim.log"
	nasFaults   = "faults.json" // read at the start, and on SIGHUP
)

// NAS is how the NAS beside the nodes is reached from them, and from pods.
type NAS struct {
	URL               string
	Account, Password string
	CA                string // the file of its certificate
	CHAP              string // the password that its targets are to ask of nodes
	SMB               string // the password of its user of SMB
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
	if err != nil {
		return NAS{}, err
	}
	chap, err := os.ReadFile(filepath.Join(dir, nasCHAP))
	if err != nil {
		return NAS{}, err
	}
	smb, err := os.ReadFile(filepath.Join(dir, nasSMB))
	return NAS{URL: "https://" + net.JoinHostPort(nasSpec().address(), nasPort), Account: nasAccount, Password: string(password),
		CA: filepath.Join(dir, nasState, "cert.pem"), CHAP: string(chap), SMB: string(smb)}, err
}

// Contents is what the running lab's NAS has, see [dsmsim.Contents].
func (l *Lab) Contents() ([]string, error) {
	if _, err := l.NAS(); err != nil {
		return nil, err
	}
	return dsmsim.Contents(filepath.Join(l.node(nasSpec().Name), nasState))
}

// The Secrets that synology-values.yaml and the like name.
const (
	nasLoginSecret = "nas-login" // of the controller
	nasNodeSecret  = "nas-chap"  // of nodes, which do not get the account
	nasSMBSecret   = "nas-smb"   // the same, for shares by SMB
)

// secrets is the manifest of the Secrets that a user of the NAS makes, as a list in JSON.
func (n NAS) secrets(ca []byte) ([]byte, error) {
	chap := map[string]string{"node.session.auth.username": "nodes", "node.session.auth.password": n.CHAP}
	login := maps.Clone(chap)
	login["username"], login["password"], login["ca.crt"] = n.Account, n.Password, string(ca)
	secret := func(name string, data map[string]string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Secret", "stringData": data,
			"metadata": map[string]string{"name": name, "namespace": installNamespace}}
	}
	return json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List",
		"items": []any{secret(nasLoginSecret, login), secret(nasNodeSecret, chap),
			secret(nasSMBSecret, map[string]string{"username": nasUser, "password": n.SMB})}})
}

// applySecrets makes them in the cluster.
func (l *Lab) applySecrets(ctx context.Context, tools toolchain) error {
	n, err := l.NAS()
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(n.CA)
	if err != nil {
		return err
	}
	manifest, err := n.secrets(ca)
	if err != nil {
		return err
	}
	return l.apply(ctx, tools, "-", manifest)
}

// prepareNAS builds the simulator, and gives its administrator a password.
func (l *Lab) prepareNAS(ctx context.Context) error {
	dir := l.node(nasSpec().Name)
	if err := os.MkdirAll(filepath.Join(dir, nasState), 0o700); err != nil {
		return err
	}
	for _, name := range []string{nasPassword, nasCHAP, nasSMB} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(rand.Text()), 0o600); err != nil {
			return err
		}
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
	smb, err := os.ReadFile(filepath.Join(dir, nasSMB))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, nasLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	for {
		cmd := exec.Command(filepath.Join(dir, nasProgram), "-plane", "linux", "-dir", filepath.Join(dir, nasState), "-disk", "/dev/"+uml.DiskDevice(0),
			"-listen", net.JoinHostPort(nasSpec().address(), nasPort), "-account", nasAccount, "-user", nasUser, "-model", "top",
			"-csrf", "-lag", "1s", "-faults", filepath.Join(dir, nasFaults), "-v")
		cmd.Env = append(os.Environ(), "DSMSIM_PASSWORD="+strings.TrimSpace(string(password)), "DSMSIM_USER_PASSWORD="+string(smb))
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
	return inOrder(
		func() error { return guestNetworkUp(ctx, s, n) },
		func() error { return loadModules(ctx, nas.Modules()...) },
		func() error { return serveAgent(n, s.pkiDir(), n.Name) },
	)
}

// startInitiator starts a node's iSCSI daemon, which machines with iSCSI disks
// have running.
func startInitiator(sup *supervisor) error {
	if err := loadModules(context.Background(), "iscsi_tcp", "sd_mod"); err != nil {
		return err
	}
	if err := makeDirs("/", 0o755, "/run/lock/iscsi"); err != nil {
		return err
	}
	return sup.start("iscsid", "iscsid", "--foreground")
}
