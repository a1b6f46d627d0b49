// Package naslab gives a Go test that runs in a guest of the lab a simulated Synology NAS with real data in the same
// kernel: its Web API at an address of the loopback device, iSCSI at port 3260, NFS at 2049 and SMB at 445 of any.
package naslab

import (
	"path/filepath"
	"testing"

	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/nas"
	"github.com/dozo-dev/dozo/test/lab"
)

// The account of the NAS's administrator.
const (
	Account  = "dozo"
	Password = "correct horse battery staple"
)

// The user of SMB, who is none of the administrators. The password is of what a line, or a list of mount options, may not
// be taken to end at.
const (
	User         = "k8s"
	UserPassword = `pass,word = "%'\ #x`
)

// Portal is where targets are.
const Portal = "127.0.0.1:3260"

// volumeSize is that of the guest's disk for /volume1. It is thin on the host.
const volumeSize = 64 << 30

// Guest returns what the NAS and an initiator beside it need of a guest. It may be extended, but its first disk is the NAS's.
func Guest() lab.Guest {
	return lab.Guest{
		MemoryMiB: 768,
		Disks:     []lab.Disk{{Size: volumeSize}},
		Modules:   append(nas.Modules(), "iscsi_tcp", "sd_mod", "nfsv4", "cifs", "cmac", "gcm", "ccm", "sha512_generic"),
		Programs:  append(nas.Programs(), "iscsid", "iscsiadm", "mkfs.ext4", "resize2fs", "mount.nfs", "mount.cifs"),
	}
}

// NAS is one that is running.
type NAS struct {
	*dsmsim.Sim
	Server *dsmsim.Server
	t      testing.TB
	cfg    dsmsim.Config
	plane  *nas.Plane
}

// Start starts a NAS in a guest, with /volume1 on the guest's first disk in place of the volumes in cfg. At the end of the
// test it is taken down; its state and what is on the volume are there for another Start in the same guest
// with the same Config.Dir.
func Start(t testing.TB, cfg dsmsim.Config) *NAS {
	t.Helper()
	if !lab.InGuest() {
		t.Fatal("naslab.Start: the NAS needs a kernel of its own: call it in a guest (lab.Run)")
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Volumes = []dsmsim.Volume{{Path: "/volume1", FileSystem: "btrfs", Total: volumeSize}}
	if cfg.Accounts == nil {
		cfg.Accounts = []dsmsim.Account{{Name: Account, Password: Password}, {Name: User, Password: UserPassword, Guest: true}}
	}
	n := &NAS{t: t, cfg: cfg}
	n.start("127.0.0.1:0")
	t.Cleanup(func() {
		if err := n.Server.Stop(); err != nil {
			t.Error(err)
		}
		if err := n.plane.Close(); err != nil {
			t.Errorf("take the NAS down: %v", err)
		}
	})
	return n
}

func (n *NAS) start(listen string) {
	n.t.Helper()
	var err error
	n.plane, err = nas.Open(nas.Config{Volumes: []nas.Volume{{Path: "/volume1", Disk: lab.DiskPath(0)}}, Portals: []string{Portal}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.cfg.Plane = n.plane
	if n.Sim, err = dsmsim.New(n.cfg); err != nil {
		n.t.Fatal(err)
	}
	if n.Server, err = dsmsim.ServeFrom(filepath.Join(n.cfg.Dir, "tls"), listen, n.Sim); err != nil {
		n.t.Fatal(err)
	}
}

// Replace ends the simulator as if its process died, and starts another one in its place: with the same state, address and
// certificate, while sessions and mounts go on.
func (n *NAS) Replace() {
	n.t.Helper()
	listen := n.Server.Addr()
	if err := n.Server.Stop(); err != nil {
		n.t.Fatal(err)
	}
	if err := n.plane.Abandon(); err != nil {
		n.t.Fatal(err)
	}
	n.start(listen)
}

// PowerCycle takes the NAS's power away, calls off while it is away, and gives it back, also where off ends its test: what is cleaned up
// after it may wait for the NAS. (What was acknowledged is not lost, as it may be by a real one without a UPS.)
func (n *NAS) PowerCycle(off func()) {
	n.t.Helper()
	if err := n.Server.Stop(); err != nil {
		n.t.Fatal(err)
	}
	if err := n.PowerOff(); err != nil {
		n.t.Fatal(err)
	}
	defer func() {
		if err := n.PowerOn(); err != nil {
			n.t.Fatal(err)
		}
		if err := n.Server.Start(); err != nil {
			n.t.Fatal(err)
		}
	}()
	off()
}
