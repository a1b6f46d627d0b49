// Package nas is the [dsmsim.Plane] with real data, in a Linux of its own: LUNs are files on btrfs, served by LIO through loop
// devices; shares are subvolumes with quotas, served by knfsd and Samba's smbd. What was said to be served stays so when the process ends, and is
// taken over by the next one.
//
// It needs root, configfs and the modules in [Modules]; of programs those in [Programs]. It takes the machine's only iSCSI
// target and NFS server, so it is for guests of the lab, and one is enough for each.
package nas

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/knfsd"
	"github.com/dozo-dev/dozo/test/dsmsim/lio"
	"github.com/dozo-dev/dozo/test/dsmsim/smbd"
)

// Modules are those of the kernel that have to be loaded.
func Modules() []string {
	return []string{"loop", "target_core_mod", "target_core_iblock", "iscsi_target_mod", "nfsd"}
}

// Programs are those that it calls.
func Programs() []string {
	return append([]string{"btrfs", "losetup", "mkfs.btrfs"}, smbd.Programs()...)
}

// smbDir is where smbd has its own things, which are gone with the machine.
const smbDir = "/run/dsmsim-smbd"

// Config says what the NAS is made of.
type Config struct {
	Volumes []Volume
	Portals []string // "0.0.0.0:3260"
}

// Volume is a file system of the NAS. All are btrfs, whatever DSM is told.
type Volume struct {
	Path string // "/volume1": where it is mounted here, which is what NFS clients see
	Disk string // an empty disk or a file, which is made if it is absent
	Size int64  // of such a file, in bytes
}

// Plane has the data. One call at a time, as the simulator calls, except for Sessions.
type Plane struct {
	cfg  Config
	host *host.Host
	lio  *lio.LIO
	nfs  *knfsd.Server
	smb  *smbd.Server

	mu      sync.Mutex // of what follows, and of LIO, which the watch uses too
	targets map[string]dsmsim.Export
	watch   context.CancelFunc
	watched chan struct{}
}

var (
	_ dsmsim.Plane   = (*Plane)(nil)
	_ dsmsim.Power   = (*Plane)(nil)
	_ dsmsim.Settler = (*Plane)(nil)
)

// Open mounts the volumes, and makes those that are new. What is being served goes on.
func Open(c Config) (*Plane, error) {
	p := &Plane{cfg: c, host: host.New(), smb: smbd.New(smbDir), targets: map[string]dsmsim.Export{}, watched: make(chan struct{})}
	isNew := true
	for _, v := range c.Volumes {
		made, err := p.mount(v)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Path, err)
		}
		isNew = isNew && made
	}
	var err error
	if p.lio, err = lio.Open("/sys/kernel/config/target", c.Portals...); err != nil {
		return nil, fmt.Errorf("%w; load the kernel modules %v", err, Modules())
	}
	if p.nfs, err = knfsd.Open(isNew); err != nil {
		return nil, err
	}
	var ctx context.Context
	ctx, p.watch = context.WithCancel(context.Background())
	go p.watchSessions(ctx)
	return p, nil
}

// Abandon ends this process' part, as its death does. What is served goes on.
func (p *Plane) Abandon() error {
	p.watch()
	<-p.watched
	return p.nfs.Close()
}

// PowerOff ends all service at once, and with it all sessions. Data and volumes stay; what was to be served is forgotten and
// has to be said again.
func (p *Plane) PowerOff() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := errors.Join(p.nfs.Stop(), p.smb.Stop())
	for iqn := range p.targets {
		err = errors.Join(err, p.lio.Remove(iqn))
		delete(p.targets, iqn)
	}
	return errors.Join(err, p.release(), p.lio.Close())
}

// PowerOn serves again.
func (p *Plane) PowerOn() error { return errors.Join(p.nfs.Start(), p.smb.Start()) }

// Close takes everything down and leaves the volumes' files.
func (p *Plane) Close() error {
	err := errors.Join(p.PowerOff(), p.Abandon())
	for _, v := range p.cfg.Volumes {
		err = errors.Join(err, p.unmount(v))
	}
	return err
}

// commandTimeout is far more than any of the programs takes in a busy guest.
const commandTimeout = 2 * time.Minute

// run calls a program and returns what it says.
func run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return string(out), nil
}
