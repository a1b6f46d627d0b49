package connect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/dm"
	"github.com/dozo-dev/dozo/internal/host/iscsi"
)

// attach finds or makes the disk in each session and returns the device that it is used through.
func (c *Connector) attach(ctx context.Context, d *backend.ISCSI, sessions []iscsi.Session) (string, error) {
	var paths []iscsi.Disk
	var failed error
	for _, s := range sessions {
		disk, err := c.path(ctx, d, s)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		paths = append(paths, disk)
	}
	if len(paths) == 0 {
		return "", errs.E(errs.KindOf(failed), "%w", failed)
	}
	if failed != nil {
		c.opts.Log.Warn("iSCSI: a path is missing", "wwid", d.WWID, "error", failed)
	}
	device, m, err := c.device(ctx, d, paths)
	if err == nil && m != nil {
		err = c.waits(*m, d.WWID)
	}
	return device, err
}

// waits returns errs.Unavailable if a disk's map gives up when its last path is lost. It would do so within
// seconds, while a storage takes minutes to restart: dm-multipath replaces what the sessions are told (replacement_timeout), and
// multipath-tools has no settings of its own for a Synology.
func (c *Connector) waits(m multipathMap, wwid string) error {
	table, err := dm.Table(c.host, mapPrefix+wwid)
	if err != nil {
		return errs.E(errs.Unavailable, "multipath map %s: %w", m.name, err)
	}
	for _, t := range table {
		if t.Type == "multipath" && !strings.Contains(t.Params, "queue_if_no_path") {
			return errs.E(errs.Unavailable, "multipath map %s: fails writes as soon as no path is left, and a storage that restarts is away for minutes; "+
				"write no_path_retry 120 into the section overrides of /etc/multipath.conf on this node, which is ten minutes with the polling_interval of 5, and call multipathd reconfigure", m.name)
		}
	}
	return nil
}

// path is the disk in one session: who it is was asked of the disk itself.
func (c *Connector) path(ctx context.Context, d *backend.ISCSI, s iscsi.Session) (iscsi.Disk, error) {
	i := c.initiator
	disks, err := i.Disks(s)
	if err != nil {
		return iscsi.Disk{}, err
	}
	for _, disk := range disks {
		at := disk.LUN == d.Target.LUN
		if !at && disk.WWID != d.WWID {
			continue
		}
		if at && disk.WWID == d.WWID && disk.Name != "" {
			who, err := i.Identify(ctx, disk)
			if err != nil {
				return iscsi.Disk{}, err
			}
			if who == d.WWID {
				return disk, i.Rescan(ctx, disk) // it may have grown
			}
		}
		// What the kernel has under this number, or by this WWID, is not what the target has there.
		if err := c.dropStale(ctx, disk, d); err != nil {
			return iscsi.Disk{}, err
		}
	}
	disk, err := i.Scan(ctx, s, d.Target.LUN)
	if err != nil {
		return iscsi.Disk{}, err
	}
	who, err := i.Identify(ctx, disk)
	if err == nil && (who != d.WWID || disk.WWID != d.WWID) {
		err = errs.E(errs.Unavailable, "iSCSI %v: the disk of number %d is %s, and %s was to be there; detach the volume from this node (its VolumeAttachment) and attach it again", s, d.Target.LUN, who, d.WWID)
		err = errors.Join(err, c.dropStale(ctx, disk, d))
		err = errs.E(errs.Unavailable, "%w", err)
	}
	return disk, err
}

func (c *Connector) dropStale(ctx context.Context, disk iscsi.Disk, d *backend.ISCSI) error {
	by, err := c.initiator.InUse(ctx, disk)
	if err != nil {
		return err
	}
	if by != "" {
		return errs.E(errs.InUse, "disk %s: was %s when it came, and its number %d is to be that of %s now; but %s. Stop what uses it", disk.Name, disk.WWID, disk.LUN, d.WWID, by)
	}
	c.opts.Log.Warn("iSCSI: a disk that its target has no longer is taken away", "disk", disk.Name, "wwid", disk.WWID, "lun", disk.LUN)
	return c.initiator.Delete(ctx, disk)
}

// find is the disk of a volume that is connected.
func (c *Connector) find(ctx context.Context, d *backend.ISCSI, grow bool) (device string, err error) {
	t, err := targetOf(d)
	if err != nil {
		return "", err
	}
	err = c.alone(ctx, "look at disk "+d.WWID, t.IQN, func() error {
		paths, err := c.verified(ctx, d)
		if err != nil {
			return err
		}
		for _, p := range paths {
			if !grow {
				break
			}
			if err := c.initiator.Rescan(ctx, p); err != nil {
				return err
			}
		}
		device, _, err = c.device(ctx, d, paths)
		return err
	})
	return device, err
}

// verified are the paths of a connected disk that work and lead to it.
func (c *Connector) verified(ctx context.Context, d *backend.ISCSI) (paths []iscsi.Disk, err error) {
	sessions, err := c.initiator.Sessions(d.Target.IQN)
	if err != nil {
		return nil, err
	}
	failed := errs.E(errs.Unavailable, "iSCSI target %s: this node has no session with it that works; see: iscsiadm -m session -P 3", d.Target.IQN)
	for _, s := range alive(sessions) {
		failed = errs.E(errs.Unavailable, "iSCSI %v: disk %s is not in it; stop the volume's pods, so that it is staged anew", s, d.WWID)
		disks, err := c.initiator.Disks(s)
		if err != nil {
			failed = err
		}
		for _, disk := range disks {
			if disk.WWID != d.WWID {
				continue
			}
			who, err := c.initiator.Identify(ctx, disk)
			switch {
			case err != nil:
				failed = err
			case who != d.WWID:
				failed = errs.E(errs.Unavailable, "disk %s: its target has %q under its number, and no longer %s; stop the volume's pods, so that it is staged anew", disk.Name, who, d.WWID)
			default:
				paths = append(paths, disk)
			}
		}
	}
	if len(paths) == 0 {
		return nil, failed
	}
	return paths, nil
}

const (
	// mapTimeout is how long multipathd may take to make a map of paths that it has just seen.
	mapTimeout = 15 * time.Second
	mapPoll    = 50 * time.Millisecond
	// mapPrefix begins the UUID of dm-multipath's maps; the WWID follows.
	mapPrefix = "mpath-"
	// multipathTimeout bounds multipath and multipathd.
	multipathTimeout = time.Minute
)

// device is what a disk is used through: the map of its paths if there is one, which is returned too, also if there is one path only,
// else its only path. Several portals without a map are refused, since there would be no other path when one fails.
func (c *Connector) device(ctx context.Context, d *backend.ISCSI, paths []iscsi.Disk) (string, *multipathMap, error) {
	for end := time.Now().Add(mapTimeout); ; {
		m, err := c.mapOf(paths)
		if err != nil {
			return "", nil, err
		}
		switch {
		case m != nil:
			return c.host.Dev(m.device), m, c.fitMap(ctx, *m, paths)
		case len(d.Target.Portals) == 1 && len(paths) == 1:
			return c.initiator.Path(paths[0]), nil, nil
		case time.Now().After(end) || ctx.Err() != nil:
			return "", nil, errs.E(errs.Unavailable, "disk %s: has %d portals, and multipathd made no map of it; run multipathd on this node with \"find_multipaths no\" and \"no_path_retry 120\" in /etc/multipath.conf, or name one portal only", d.WWID, len(d.Target.Portals))
		}
		time.Sleep(mapPoll)
	}
}

// multipathMap is a map of dm-multipath.
type multipathMap struct{ device, name string } // "dm-3", "mpatha"

// mapOf returns the map on a disk's paths, or nil if there is none.
func (c *Connector) mapOf(paths []iscsi.Disk) (*multipathMap, error) {
	for _, p := range paths {
		if p.Name == "" {
			continue
		}
		above, err := c.host.Holders(p.Name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errs.E(errs.Unavailable, "disk %s: what is on it: %w", p.Name, err)
		}
		for _, holder := range above {
			name := filepath.Base(holder)
			uuid := c.text("class", "block", name, "dm", "uuid")
			if uuid == mapPrefix+p.WWID {
				return &multipathMap{device: name, name: c.text("class", "block", name, "dm", "name")}, nil
			}
		}
	}
	return nil, nil
}

func (c *Connector) text(elem ...string) string {
	b, err := c.host.ReadFile("sysfs.read", c.host.Sys(elem...), 4096)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// fitMap makes a map as large as its paths are.
func (c *Connector) fitMap(ctx context.Context, m multipathMap, paths []iscsi.Disk) error {
	if c.text("class", "block", m.device, "size") == c.text("class", "block", paths[0].Name, "size") {
		return nil
	}
	_, err := c.host.Run(ctx, host.Cmd{Op: "multipath.resize", Name: "multipathd", OfNode: true, Args: []string{"resize", "map", m.name}, Timeout: multipathTimeout})
	if err != nil {
		return errs.E(errs.Unavailable, "multipath map %s: is to grow with its disk: %w", m.name, err)
	}
	return nil
}

// removeMap waits for those who only look at a map: udev does each time that somebody who could write closes it. multipathd is asked to
// remove it, since multipath itself waits for the node's udev by a semaphore, which it does not share with a container. Old ones end with 0
// whatever they answer.
func (c *Connector) removeMap(ctx context.Context, m multipathMap) error {
	for end := time.Now().Add(mapTimeout); ; time.Sleep(mapPoll) {
		out, err := c.host.Run(ctx, host.Cmd{Op: "multipath.remove", Name: "multipathd", OfNode: true, Args: []string{"remove", "map", m.name}, Timeout: multipathTimeout})
		if _, ran := host.ExitCode(err); !ran {
			return err
		}
		answer := strings.TrimSpace(string(out.Stdout))
		if answer == "ok" {
			return nil
		}
		err = errors.Join(err, fmt.Errorf("multipathd answers %q", answer))
		if time.Now().After(end) || ctx.Err() != nil {
			return errs.E(errs.InUse, "multipath map %s: cannot be removed: %w", m.name, err)
		}
	}
}

// removeMaps takes away the maps that are on disks which nobody uses any more.
func (c *Connector) removeMaps(ctx context.Context, disks []iscsi.Disk) error {
	for {
		m, err := c.mapOf(disks)
		if err != nil || m == nil {
			return err
		}
		if mounts, err := c.host.MountsOf(c.host.Dev(m.device)); err == nil && len(mounts) > 0 {
			return errs.E(errs.InUse, "multipath map %s: is mounted at %s", m.name, mounts[0].MountPoint)
		}
		if err := c.removeMap(ctx, *m); err != nil {
			return err
		}
		if left, err := c.mapOf(disks); err != nil || left != nil && *left == *m {
			return errors.Join(err, errs.E(errs.Unavailable, "multipath map %s: was removed and is still there; call again", m.name))
		}
	}
}
