package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/test/lab/agent"
	"github.com/dozo-dev/dozo/test/lab/uml"
)

const (
	// hostRoot is where a guest sees the host's files.
	hostRoot = "/host"
	// keepDir is where a guest mounts the disk with what it keeps.
	keepDir = "/var/lib/dozo-lab"
	// agentPort is where a guest runs programs for lab exec.
	agentPort = "7443"
	adminUser = "admin"
	// kickPeriod is longer than in tests of one operation: kicks took a tenth
	// of a busy node's time.
	kickPeriod = 500 * time.Millisecond
)

// keptDirs are directories of a node that are on the disk with what it keeps.
func keptDirs() []string { return []string{"containerd", "kubelet", "dozo"} }

// guestNode is what a guest that is a node runs after init.sh: RUN-DIRECTORY
// NODE, the directory as the host has it.
func guestNode(args []string) error {
	if err := uml.KeepDiskAwake(kickPeriod); err != nil {
		return err
	}
	s, err := readSpec(hostRoot + args[0])
	if err != nil {
		return err
	}
	s.Run, s.Bin = hostRoot+s.Run, hostRoot+s.Bin
	n, err := s.node(args[1])
	if err != nil {
		return err
	}
	if err := s.assembleGuest(n); err != nil {
		return err
	}
	if err := serveAgent(n, "/etc/kubernetes/pki", "kubelet"); err != nil {
		return err
	}
	events, err := os.OpenFile(s.guestEventsFile(n.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	sup := &supervisor{node: n.Name, logs: s.guestLogDir(n), events: events}
	if s.NAS {
		if err := startInitiator(sup); err != nil {
			return err
		}
	}
	if err := startComponents(n.Name, n.address(), sup); err != nil {
		return err
	}
	select {} // until the power is cut
}

// assembleGuest makes a machine a node, each time it boots.
func (s *spec) assembleGuest(n nodeSpec) error {
	ctx := context.Background()
	return inOrder(
		func() error { return guestNetworkUp(ctx, s, n) },
		// What a real machine's udev and systemd would have loaded by now. The kernel asks for the rest when it is used.
		func() error { return loadModules(ctx, "br_netfilter", "dm-mod", "loop", "overlay") },
		func() error {
			return os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1\n"), 0o644)
		},
		mountKept,
		forgetSandboxes,
		useLegacyIptables,
		showClockSpeed,
		func() error { return enableControllers(cgroupMount) },
		func() error { return makeDirs("/", 0o755, nodeBin) },
		func() error { return bind(s.Bin, nodeBin, 0) },
		func() error { return s.configureNode(n, nodeRoot{root: "/"}, "/") },
	)
}

// guestNetworkUp is [nodeNetworkUp] of a machine, whose interface has the
// name that its kernel gave it, and whose interrupts may be lost.
func guestNetworkUp(ctx context.Context, s *spec, n nodeSpec) error {
	own, err := netip.ParsePrefix(n.address() + "/24")
	if err != nil {
		return err
	}
	return inOrder(
		func() error { return ipBatch(ctx, "link set vec0 name "+nodeInterface) },
		func() error { return nodeNetworkUp(ctx, s, n) },
		func() error { return uml.KeepNetworkAwake(own, kickPeriod) },
	)
}

// loadModules loads modules of the kernel into a machine.
func loadModules(ctx context.Context, names ...string) error {
	_, err := command{args: append([]string{"modprobe", "--all"}, names...), timeout: time.Minute}.run(ctx)
	return err
}

// forgetSandboxes has what CNI remembers of a sandbox's network, which ends with the machine, be forgotten with it. CNI does not
// flush its files, and containerd can never stop the sandbox of one that a cut of the power left full of zeros.
func forgetSandboxes() error {
	const memory = "/var/lib/cni"
	if err := makeDirs("/", 0o755, memory); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", memory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=4m,mode=700"); err != nil {
		return fmt.Errorf("mounting %s: %w", memory, err)
	}
	return nil
}

// mountKept mounts the disk with what the node keeps, and the directories on
// it where they belong. Its inode tables stay unwritten: what is written is on
// the host's disk from then on.
func mountKept() error {
	if err := makeDirs("/", 0o755, keepDir); err != nil {
		return err
	}
	if err := unix.Mount("/dev/"+storeDevice, keepDir, "ext4", unix.MS_NOATIME, "noinit_itable"); err != nil {
		return fmt.Errorf("mounting /dev/%s: %w", storeDevice, err)
	}
	for _, name := range keptDirs() {
		target := filepath.Join("/var/lib", name)
		if err := makeDirs("/", 0o755, filepath.Join(keepDir, name), target); err != nil {
			return err
		}
		if err := bind(filepath.Join(keepDir, name), target, 0); err != nil {
			return err
		}
	}
	return nil
}

// useLegacyIptables puts those programs into the path first that use the
// kernel's old interface: the guests' kernel has not all of the new one.
func useLegacyIptables() error {
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if err := symlink("/usr/sbin/"+name+"-legacy"+suffix, "/usr/local/sbin/"+name+suffix); err != nil {
				return err
			}
		}
	}
	return nil
}

// showClockSpeed adds a line to /proc/cpuinfo that the guests' kernel does not
// have, and without which the kubelet does not start.
func showClockSpeed() error {
	const file, shown = "/proc/cpuinfo", "/run/cpuinfo"
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text = append(bytes.TrimRight(text, "\n"), "\ncpu MHz\t\t: 2400.000\n\n"...)
	if err := os.WriteFile(shown, text, 0o444); err != nil {
		return err
	}
	return bind(shown, file, 0)
}

// serveAgent runs programs for the administrator of the cluster. It proves who
// it is with a pair of the directory.
func serveAgent(n nodeSpec, dir, pair string) error {
	config, err := agentTLS(dir, pair)
	if err != nil {
		return err
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, config.RootCAs
	config.VerifyConnection = func(c tls.ConnectionState) error {
		if who := c.PeerCertificates[0].Subject.CommonName; who != adminUser {
			return fmt.Errorf("only %s may run programs, not %s", adminUser, who)
		}
		return nil
	}
	path := strings.Join([]string{nodeBin, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":")
	if err := os.Setenv("PATH", path); err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", net.JoinHostPort(n.address(), agentPort), config)
	if err != nil {
		return err
	}
	go agent.Serve(listener)
	return nil
}

// agentTLS authenticates with a pair of dir and trusts its authority.
func agentTLS(dir, name string) (*tls.Config, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New(dir + "/ca.crt has no certificate")
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}, nil
}
