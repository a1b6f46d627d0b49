package lvm

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/block"
	"github.com/dozo-dev/dozo/internal/host/dm"
)

// Activate is [backend.Activator]. LVs are active from the moment they are made and, where the host's
// own start-up sees to it, after a reboot, so usually nothing has to be done and no command is run. The
// device is the kernel's own (/dev/dm-3), which is there with udev or without.
func (p *pool) Activate(ctx context.Context, id backend.ID) (string, error) {
	i, err := p.get(ctx, p.volumeKey(id))
	if err != nil {
		return "", err
	}
	return p.activate(ctx, "activate", i)
}

// activate makes an LV's device usable, as large as the LV is.
func (p *pool) activate(ctx context.Context, op string, i item) (string, error) {
	path, ok, err := p.active(i)
	if err == nil && ok {
		var revive bool
		if revive, err = p.revivable(i); !revive {
			return path, err
		}
	}
	if err != nil {
		return "", err
	}
	err = i.group.Change(ctx, func(s *vg.State) error {
		now, ok := p.inState(i.group, s, i.key)
		if !ok {
			return errs.E(errs.NotFound, "%s %s: deleted just now", i.key.sort, i.key.id)
		}
		i = now
		return p.bring(ctx, op, i)
	})
	if err != nil {
		return "", err
	}
	path, ok, err = p.active(i)
	if err == nil && !ok {
		err = errs.E(errs.Unavailable, "%s %s: LVM says that it is active, and device mapper shows no such device of %d bytes", i.key.sort, i.key.id, i.size())
	}
	return path, err
}

// bring activates an LV, or brings the device that it has to what the metadata says: a command that was
// killed may have left it suspended, smaller, or with a table that is waiting and of another time, which
// activation makes live as it is. The caller has the group's turn.
func (p *pool) bring(ctx context.Context, op string, i item) error {
	d, err := dm.Find(p.host, i.state.DeviceUUID(i.lv))
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	fresh := err != nil
	if revive, err := p.revivable(i); err != nil {
		return err
	} else if revive {
		if err := i.group.Run(ctx, op+".lvchange-off", "lvchange", "--activate", "n", i.path()); err != nil {
			return err
		}
		fresh = true
	}
	if fresh || !d.Live {
		err = i.group.Run(ctx, op+".lvchange", "lvchange", "--activate", "y", "--ignoreactivationskip", i.path())
		if err != nil && strings.HasPrefix(i.lv.Type(), "raid") {
			// For one, disks that failed one after another: the last that worked has written that the others failed.
			err = fmt.Errorf("the kernel does not take raid %s, and its log says why (dmesg); if more of its disks failed than it can lack, restore it from a backup: %w", i.path(), err)
		}
		if err != nil || fresh {
			return err
		}
	}
	return i.group.Run(ctx, op+".refresh", "lvchange", "--refresh", i.path())
}

// revivable reports whether legs of a raid have failed whose disks answer again, while nobody has it open.
// The kernel does not take them back by itself, and every write fails to a raid that lacked too many of them
// at once; activated anew it has them, and brings what is old on them up to date.
func (p *pool) revivable(i item) (bool, error) {
	if !strings.HasPrefix(i.lv.Type(), "raid") || len(lost(i)) > 0 {
		return false, nil
	}
	d, err := dm.Find(p.host, i.state.DeviceUUID(i.lv))
	if err == nil && d.Open == 0 {
		var targets []dm.Target
		targets, err = dm.Status(p.host, i.state.DeviceUUID(i.lv))
		return slices.ContainsFunc(targets, legsFailed), err
	}
	if errs.Is(err, errs.NotFound) {
		err = nil
	}
	return false, err
}

// openDevice opens an LV's device for reading and writing, which nobody has mounted. While it is open the
// LV cannot be removed, and the number of its device not be given to another.
func (p *pool) openDevice(ctx context.Context, op string, i item) (*os.File, error) {
	path, err := p.activate(ctx, op, i)
	if err != nil {
		return nil, err
	}
	f, err := block.Open(path)
	if err != nil {
		return nil, err
	}
	if again, ok, err := p.active(i); err != nil || !ok || again != path {
		f.Close()
		return nil, errs.E(errs.Aborted, "%s %s: its device changed just now; call again", i.key.sort, i.key.id)
	}
	return f, nil
}

// active returns the device of an LV that is active, well and of its size.
func (p *pool) active(i item) (path string, ok bool, err error) {
	d, err := dm.Find(p.host, i.state.DeviceUUID(i.lv))
	if errs.Is(err, errs.NotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	size, err := p.sysSize(d)
	return d.Path(p.host), d.Live && !d.Suspended && size >= i.size(), err
}

// sysSize is a device's size in bytes, without opening it.
func (p *pool) sysSize(d dm.Device) (int64, error) {
	text, err := p.host.ReadFile("device.size", p.host.Sys("block", fmt.Sprintf("dm-%d", d.Minor), "size"), 64)
	if err != nil {
		return 0, errs.E(errs.Unavailable, "device %s: its size: %w", d.Path(p.host), err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, errs.E(errs.Internal, "device %s: its size: %w", d.Path(p.host), err)
	}
	return sectors * 512, nil
}

// Deactivate is [backend.Activator]. The device stays: an active LV costs nothing, and the next Activate
// needs no command.
func (p *pool) Deactivate(ctx context.Context, id backend.ID) error {
	i, found, err := p.look(ctx, p.volumeKey(id))
	if err != nil || !found {
		return err
	}
	return p.unused(ctx, i)
}

// openWait is how long somebody may have a device open in passing, as blkid and udev do.
const openWait = 2 * time.Second

// unused returns errs.InUse if something has the LV open.
func (p *pool) unused(ctx context.Context, i item) error {
	for end := time.Now().Add(openWait); ; {
		d, err := dm.Find(p.host, i.state.DeviceUUID(i.lv))
		if errs.Is(err, errs.NotFound) {
			return nil
		}
		if err != nil || d.Open == 0 {
			return err
		}
		if time.Now().After(end) {
			return errs.E(errs.InUse, "%s %s: %s is mounted or open on node %s; see: lsblk %s; fuser -vm %s",
				i.key.sort, i.key.id, d.Path(p.host), p.node, d.Path(p.host), d.Path(p.host))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// resume makes good what a killed command of LVM left of a group's devices: those that are suspended, so
// that whoever reads or writes them waits, and parts of LVs that are active on their own, which keep LVM
// from activating the whole.
func (p *pool) resume(ctx context.Context, g *vg.Group, s *vg.State) error {
	if suspended, parts, err := p.left(s); err != nil || !suspended && len(parts) == 0 {
		return err
	}
	return g.Change(ctx, func(s *vg.State) error { // nobody else is at it
		suspended, parts, err := p.left(s)
		if err != nil {
			return err
		}
		if len(parts) > 0 {
			if err := g.Run(ctx, "open.lvchange", "lvchange", append([]string{"--yes", "--activate", "n"}, parts...)...); err != nil {
				return err
			}
		}
		if suspended {
			return g.Run(ctx, "open.refresh", "vgchange", "--refresh", g.Name())
		}
		return nil
	})
}

// left reports whether any device of a group is suspended, and which hidden LVs are active with nothing
// on top of them.
func (p *pool) left(s *vg.State) (suspended bool, parts []string, err error) {
	names, err := dm.List(p.host)
	if err != nil {
		return false, nil, err
	}
	mapped := func(name string) string { return strings.ReplaceAll(name, "-", "--") }
	hidden := map[string]string{}
	for _, l := range s.LVs {
		if !l.Visible {
			hidden[mapped(s.Name)+"-"+mapped(l.Name)] = s.Name + "/" + l.Name
		}
	}
	for _, n := range names {
		if !strings.HasPrefix(n, mapped(s.Name)+"-") {
			continue
		}
		d, err := dm.Named(p.host, n)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return false, nil, err
		}
		suspended = suspended || d.Suspended
		if hidden[n] != "" && d.Open == 0 && !s.IsSnapshot(strings.TrimPrefix(hidden[n], s.Name+"/")) {
			parts = append(parts, hidden[n])
		}
	}
	return suspended, parts, nil
}
