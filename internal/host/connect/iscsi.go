package connect

import (
	"context"
	"errors"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/iscsi"
)

const (
	// revival is how long sessions that are not logged in, which iscsid sees to, are waited for.
	revival     = 10 * time.Second
	revivalPoll = 100 * time.Millisecond
	// letGo is how long a disk may take to be flushed, and to be taken away. One that does not answer takes as
	// long as its session is to wait for the target: another call finds it gone.
	letGo = 30 * time.Second
)

// alone does something with a target that nobody else of ours does anything with meanwhile.
func (c *Connector) alone(ctx context.Context, op, iqn string, do func() error) error {
	held, err := c.locks.Lock(ctx, op, iqn)
	if err != nil {
		return err
	}
	defer c.locks.Unlock(held)
	unlock, err := c.opts.Locks.Lock(ctx, "iSCSI target "+iqn)
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

func targetOf(d *backend.ISCSI) (*backend.ISCSITarget, error) {
	if d.Target == nil {
		return nil, errs.E(errs.Invalid, "publish_context: how to reach disk %s is not in it; the volume has to be published to this node by the controller first", d.WWID)
	}
	return d.Target, nil
}

// login makes the disk a device.
func (c *Connector) login(ctx context.Context, d *backend.ISCSI, chap *iscsi.CHAP) (device string, err error) {
	t, err := targetOf(d)
	if err != nil {
		return "", err
	}
	err = c.alone(ctx, "connect disk "+d.WWID, t.IQN, func() error {
		sessions, err := c.sessions(ctx, t, chap)
		if err != nil {
			return err
		}
		device, err = c.attach(ctx, d, sessions)
		return err
	})
	return device, err
}

// sessions returns the sessions with a target that work, at least one, logging in where there is none.
func (c *Connector) sessions(ctx context.Context, t *backend.ISCSITarget, chap *iscsi.CHAP) ([]iscsi.Session, error) {
	k, err := c.claimed(t.IQN)
	if err != nil {
		return nil, err
	}
	all, err := c.initiator.Sessions(t.IQN)
	if err != nil {
		return nil, err
	}
	if k == nil && len(all) > 0 {
		return theirs(t.IQN, all)
	}
	if k == nil {
		// A record alone is nobody's use of the target: others' discovery makes one of each that the storage has.
		if err := c.initiator.Forget(ctx, t.IQN); err != nil {
			return nil, err
		}
	}
	missing := without(t.Portals, all)
	if len(missing) > 0 {
		if all, err = c.logIn(ctx, t.IQN, missing, chap); err != nil {
			return nil, err
		}
	}
	working := alive(all)
	if len(working) == 0 {
		return c.revive(ctx, t, chap)
	}
	if k != nil && k.LoggingIn && len(working) == len(all) {
		// The login that a process which is gone began has come to its end, by every portal.
		err = c.saveClaim("claim.settled", claim{IQN: t.IQN})
	}
	return working, err
}

// theirs are the sessions of a target with which somebody else logged in.
func theirs(iqn string, all []iscsi.Session) ([]iscsi.Session, error) {
	if working := alive(all); len(working) > 0 {
		return working, nil
	}
	return nil, errs.E(errs.Unavailable, "iSCSI target %s: this node has a session with it that Dozo did not make, and that does not work; log out: iscsiadm -m node -T %s --logout", iqn, iqn)
}

// logIn logs in by these portals. That some fail is no error as long as there is a session by then.
func (c *Connector) logIn(ctx context.Context, iqn string, portals []string, chap *iscsi.CHAP) (all []iscsi.Session, err error) {
	if err := c.saveClaim("claim.write", claim{IQN: iqn, LoggingIn: true}); err != nil {
		return nil, err
	}
	var failed error
	for _, p := range portals {
		backend.Progress(ctx, "log in to "+p)
		if err := c.initiator.Record(ctx, iqn, p, chap); err != nil {
			return nil, err
		}
		failed = errors.Join(failed, c.initiator.Login(ctx, iqn, p))
	}
	if err := c.saveClaim("claim.settled", claim{IQN: iqn}); err != nil {
		return nil, err
	}
	all, err = c.initiator.Sessions(iqn)
	if err == nil && len(all) == 0 {
		err = errs.E(errs.KindOf(failed), "%w", failed)
	}
	if err == nil && failed != nil {
		c.opts.Log.Warn("iSCSI: a path is missing", "target", iqn, "error", failed)
	}
	return all, err
}

// revive waits for sessions that do not work, and in the end begins anew if none of our disks is in use: they may have
// been made with a password that was changed since.
func (c *Connector) revive(ctx context.Context, t *backend.ISCSITarget, chap *iscsi.CHAP) ([]iscsi.Session, error) {
	backend.Progress(ctx, "wait for the sessions of "+t.IQN)
	var all []iscsi.Session
	for end := time.Now().Add(revival); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(revivalPoll) {
		var err error
		if all, err = c.initiator.Sessions(t.IQN); err != nil {
			return nil, err
		}
		if working := alive(all); len(working) > 0 {
			return working, nil
		}
	}
	for _, s := range all {
		disks, err := c.initiator.Disks(s)
		if err != nil {
			return nil, err
		}
		for _, disk := range disks {
			by, err := c.initiator.InUse(ctx, disk)
			if err != nil {
				return nil, err
			}
			if by != "" {
				return nil, errs.E(errs.Unavailable, "iSCSI target %s: does not answer (%v is %s), and its disk %s is in use: %s", t.IQN, s, s.State, disk.Name, by)
			}
		}
	}
	if err := c.initiator.Logout(ctx, t.IQN); err != nil {
		return nil, err
	}
	all, err := c.logIn(ctx, t.IQN, t.Portals, chap)
	if err != nil {
		return nil, err
	}
	if working := alive(all); len(working) > 0 {
		return working, nil
	}
	return nil, errs.E(errs.Unavailable, "iSCSI target %s: no session with it works", t.IQN)
}

// without returns the portals that no session goes by.
func without(portals []string, sessions []iscsi.Session) (missing []string) {
	for _, p := range portals {
		found := false
		for _, s := range sessions {
			found = found || s.By(p)
		}
		if !found {
			missing = append(missing, p)
		}
	}
	return missing
}

func alive(all []iscsi.Session) (working []iscsi.Session) {
	for _, s := range all {
		if s.Alive() {
			working = append(working, s)
		}
	}
	return working
}

// logout takes the disk away, and with the last one of a target its sessions and records.
func (c *Connector) logout(ctx context.Context, d *backend.ISCSI) error {
	t, err := targetOf(d)
	if err != nil {
		return nil // then it was never connected
	}
	return c.alone(ctx, "disconnect disk "+d.WWID, t.IQN, func() error {
		k, err := c.claimed(t.IQN)
		if err != nil || k == nil { // not ours
			return err
		}
		return c.release(ctx, *k, func(wwid string) bool { return wwid != d.WWID })
	})
}

// release takes away the disks of a target that are not to be kept, and if none is left its sessions, records
// and claim. Each step may be undone already, and the target away. errs.InUse if one is in use.
func (c *Connector) release(ctx context.Context, k claim, keep func(wwid string) bool) error {
	if err := c.settle(ctx, k); err != nil {
		return err
	}
	sessions, err := c.initiator.Sessions(k.IQN)
	if err != nil {
		return err
	}
	var leaving []iscsi.Disk
	kept := 0
	for _, s := range sessions {
		disks, err := c.initiator.Disks(s)
		if err != nil {
			return err
		}
		for _, disk := range disks {
			if keep(disk.WWID) {
				kept++
			} else {
				leaving = append(leaving, disk)
			}
		}
	}
	if err := c.removeMaps(ctx, leaving); err != nil {
		return err
	}
	if err := c.letGo(ctx, leaving, kept > 0); err != nil || kept > 0 {
		return err
	}
	if err := c.initiator.Logout(ctx, k.IQN); err != nil {
		return err
	}
	if err := c.initiator.Forget(ctx, k.IQN); err != nil {
		return err
	}
	return c.dropClaim(k.IQN)
}

// letGo flushes disks that nobody uses any more, and deletes them if their session goes on. With the session's end
// they go as well, and those of a target that is away go at once.
func (c *Connector) letGo(ctx context.Context, disks []iscsi.Disk, del bool) error {
	for _, disk := range disks {
		if by, err := c.initiator.InUse(ctx, disk); err != nil {
			return err
		} else if by != "" {
			return errs.E(errs.InUse, "disk %s (%s): %s", disk.Name, disk.WWID, by)
		}
	}
	for _, disk := range disks {
		ctx, cancel := context.WithTimeout(ctx, letGo)
		err := c.letOneGo(ctx, disk, del)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Connector) letOneGo(ctx context.Context, disk iscsi.Disk, del bool) error {
	if disk.Name != "" && disk.Alive() {
		if err := c.initiator.Flush(ctx, disk); err != nil {
			// Who used it has let go of it, and with that all was written; the target may have gone since.
			c.opts.Log.Warn("iSCSI: a disk was not flushed", "disk", disk.Name, "wwid", disk.WWID, "error", err)
		}
	}
	if !del {
		return nil
	}
	return c.initiator.Delete(ctx, disk)
}

// settle sees a login to its end that a process of ours began which is gone: iscsid may still be at it, and the session
// would come after all was cleaned up.
func (c *Connector) settle(ctx context.Context, k claim) error {
	if !k.LoggingIn {
		return nil
	}
	for _, p := range c.initiator.Portals(k.IQN) {
		// Either it comes now, or it is said that it will not.
		if err := c.initiator.Login(ctx, k.IQN, p); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return c.saveClaim("claim.settled", claim{IQN: k.IQN})
}

// Sweep ends what is ours and of no use: disks, sessions and records of targets that no access leads to which is to
// be kept. keep is asked under the lock of each target, so that what is being connected just now is seen.
func (c *Connector) Sweep(ctx context.Context, keep func() ([]backend.Access, error)) error {
	claims, all := c.claims()
	for _, k := range claims {
		err := c.alone(ctx, "sweep", k.IQN, func() error {
			current, err := c.claimed(k.IQN)
			if err != nil || current == nil {
				return err
			}
			accesses, err := keep()
			if err != nil {
				return err
			}
			kept := map[string]bool{}
			for _, a := range accesses {
				if a.ISCSI == nil {
					continue
				}
				kept[a.ISCSI.WWID] = true
				if a.ISCSI.Target != nil && a.ISCSI.Target.IQN == k.IQN {
					kept[""] = true // its disk may not be there yet
				}
			}
			return c.sweepTarget(ctx, *current, kept)
		})
		all = errors.Join(all, err)
	}
	return all
}

func (c *Connector) sweepTarget(ctx context.Context, k claim, kept map[string]bool) error {
	if !kept[""] {
		return c.release(ctx, k, func(wwid string) bool { return kept[wwid] })
	}
	sessions, err := c.initiator.Sessions(k.IQN)
	if err != nil {
		return err
	}
	var stray []iscsi.Disk
	for _, s := range sessions {
		disks, err := c.initiator.Disks(s)
		if err != nil {
			return err
		}
		for _, disk := range disks {
			if !kept[disk.WWID] {
				stray = append(stray, disk)
			}
		}
	}
	if err := c.removeMaps(ctx, stray); err != nil {
		return err
	}
	return c.letGo(ctx, stray, true)
}
