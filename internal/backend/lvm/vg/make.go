package vg

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend/lvm/metadata"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
)

// ErrNone is in the error of [Group.Load] if LVM answered, and sees no such group.
var ErrNone = errors.New("there is no volume group")

// Alone calls f while nobody else makes or changes the group, whether or not there is one.
func (g *Group) Alone(ctx context.Context, f func() error) error {
	done, err := g.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	unlock, err := g.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// Physical returns all physical volumes that LVM sees, of any group and of none. LVM has to have seen them
// all: an error of any sort is one.
func (g *Group) Physical(ctx context.Context) ([]PV, error) {
	out, err := g.host.Run(ctx, host.Cmd{
		Op: "vg.physical", Reads: true, Name: "lvm", Timeout: commandTimeout,
		Args: []string{"pvs", "--config", g.config(), "--readonly", "--reportformat", "json", "-o", "pv_name,pv_uuid,vg_name,pv_in_use"},
	})
	if err != nil {
		return nil, g.classify(err)
	}
	all, err := parseReport(out.Stdout)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "lvm pvs: %w", err)
	}
	return all, nil
}

// ours begins the UUIDs of physical volumes that [Group.Prepare] made. One in 57,000,000,000 that LVM
// makes up begins so.
const ours = "dozoPV-"

// Prepared reports whether Prepare made a physical volume that no group has: what is left when we are
// killed before it is in one. It holds nothing.
func (p PV) Prepared() bool {
	return strings.HasPrefix(p.UUID, ours) && p.Group == "" && p.Used == ""
}

// Lost reports whether the volume group that a physical volume is marked as used by is not to be found.
func (p PV) Lost() bool {
	const unknown = "[unknown]" // that is no group's name
	return p.Group == unknown || p.Group == "" && p.Used != ""
}

// Prepare makes a physical volume of an empty device. LVM itself refuses one that is in use or has a
// signature that it knows: nothing tells it to go on.
func (g *Group) Prepare(ctx context.Context, op, device string) error {
	u := ours + metadata.Hyphens(rand.Text() + rand.Text())[len(ours):]
	return g.Run(ctx, op+".pvcreate", "pvcreate", "--uuid", u, "--norestorefile", "--zero", "y", "--metadatasize", "64m", device)
}

// Make makes the group of physical volumes that are in none. LVM keeps a backup of it, by which
// [Group.Traces] knows later that there was one.
func (g *Group) Make(ctx context.Context, op string, devices ...string) error {
	keep := g.config() + ` backup/backup=1 backup/backup_dir="` + backupDir + `"`
	return g.run(ctx, op+".vgcreate", "vgcreate", keep, append([]string{g.name}, devices...)...)
}

// Extend gives the group more physical volumes.
func (g *Group) Extend(ctx context.Context, op string, devices ...string) error {
	err := g.Run(ctx, op+".vgextend", "vgextend", append([]string{g.name}, devices...)...)
	g.reading.Lock()
	g.asked = time.Time{} // LVM is asked where the new ones are
	g.reading.Unlock()
	return err
}

const backupDir = "/etc/lvm/backup"

// Traces says what there is on this machine of a group that LVM does not find, for people; "" if there is
// nothing: a backup that LVM made of it, which it removes with the group, or a device with its metadata that
// LVM does not look at. errs.Unavailable if that cannot be told, as when a device does not answer.
func (g *Group) Traces(ctx context.Context) (string, error) {
	backup := filepath.Join(backupDir, g.name)
	if _, err := os.Lstat(backup); err == nil {
		return "LVM has a backup of it, " + backup, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", errs.E(errs.Unavailable, "whether there was a volume group %s: %w", g.name, err)
	}
	if err := writable(backupDir); err != nil {
		return "", errs.E(errs.Unavailable, "a volume group is only made where LVM's backup of it is kept: %s: %w; mount the host's /etc/lvm there", backupDir, err)
	}
	names, err := g.host.ReadDir("vg.devices", g.host.Sys("class", "block"))
	if err != nil {
		return "", errs.E(errs.Unavailable, "the devices of this node: %w", err)
	}
	for _, n := range names {
		group, err := g.groupOn(ctx, n.Name())
		switch {
		case err != nil:
			return "", errs.E(errs.Unavailable, "whether volume group %s is on a device that LVM does not look at: %w", g.name, err)
		case group == g.name:
			return "it is on " + g.host.Dev(n.Name()) + ", which LVM does not look at (see lvm.conf, global_filter, and the devices file)", nil
		}
	}
	return "", nil
}

// writable reports whether files can be made in a directory, which need not be there yet.
func writable(dir string) error {
	err := unix.Access(dir, unix.W_OK)
	if errors.Is(err, unix.ENOENT) {
		return unix.Access(filepath.Dir(dir), unix.W_OK)
	}
	return err
}

// groupOn is the group whose metadata is on a device, by its name in /sys/class/block; "" for none. Logical
// volumes do not count: what is in one is another machine's. Nor does what cannot be read and is a part of
// something that can, as a path of multipath or what DRBD keeps from a secondary.
func (g *Group) groupOn(ctx context.Context, name string) (string, error) {
	attribute := func(elem ...string) string {
		b, _ := g.host.ReadFile("vg.device", g.host.Sys(append([]string{"class", "block", name}, elem...)...), 256)
		return strings.TrimSpace(string(b))
	}
	logical := strings.HasPrefix(attribute("dm", "uuid"), "LVM-")
	if attribute("size") == "0" || attribute("removable") == "1" || attribute("hidden") == "1" || logical || strings.HasPrefix(name, "drbd") {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	p := pv{device: g.host.Dev(strings.ReplaceAll(name, "!", "/"))}
	b, err := g.host.ReadDevice(ctx, "vg.label", p.device, 0, metadata.LabelSize)
	if err != nil {
		if above, _ := g.host.Holders(p.device); len(above) > 0 {
			return "", nil
		}
		return "", err
	}
	l, err := metadata.ParseLabel(b)
	if err != nil {
		return "", nil // no physical volume
	}
	for _, p.area = range l.Areas {
		h, err := g.header(ctx, p)
		if err != nil {
			return "", err
		}
		if h.Size == 0 {
			continue // in no group
		}
		vg, err := g.readAny(ctx, p, h, nil)
		if err != nil {
			return "", err
		}
		return vg.Name, nil
	}
	return "", nil
}
