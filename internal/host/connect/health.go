package connect

import (
	"context"
	"fmt"

	"github.com/dozo-dev/dozo/internal/backend"
)

// The reasons of problems with what a volume is reached by.
const (
	ReasonSessionLost = "SessionLost" // no session with its target works
	ReasonPathLost    = "PathLost"    // one of several does not
	ReasonDiskOffline = "DiskOffline" // the kernel has given the disk up
	ReasonOtherDisk   = "OtherDisk"   // its target has another disk in its place, or none
)

// Check returns what is wrong with the way to a volume that is connected. It waits for nothing that is away.
func (c *Connector) Check(ctx context.Context, a backend.Access) []backend.Problem {
	if a.ISCSI == nil || a.ISCSI.Target == nil {
		return nil
	}
	var all []backend.Problem
	add := func(s backend.Severity, reason, format string, args ...any) {
		all = append(all, backend.Problem{Severity: s, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	d := a.ISCSI
	sessions, err := c.initiator.Sessions(d.Target.IQN)
	if err != nil {
		add(backend.Degraded, ReasonSessionLost, "%v", err)
		return all
	}
	working := alive(sessions)
	if len(working) == 0 {
		add(backend.Inaccessible, ReasonSessionLost, "no session with iSCSI target %s works; is it up, and reached from this node? Writes wait for it for ten minutes", d.Target.IQN)
		return all
	}
	for _, s := range sessions {
		if !s.Alive() {
			add(backend.Degraded, ReasonPathLost, "iSCSI %v is %s", s, s.State)
		}
	}
	for _, p := range without(d.Target.Portals, sessions) {
		add(backend.Degraded, ReasonPathLost, "iSCSI target %s: there is no session by %s", d.Target.IQN, p)
	}
	for _, s := range working {
		disks, _ := c.initiator.Disks(s) // what is wrong with that is said below
		for _, disk := range disks {
			if state := c.initiator.State(disk); disk.WWID == d.WWID && state != "running" {
				add(backend.Inaccessible, ReasonDiskOffline, "disk %s is %s; see the kernel's log, then stop the volume's pods, so that it is connected anew", disk.Name, state)
			}
		}
	}
	if _, err := c.verified(ctx, d); err != nil {
		add(backend.Inaccessible, ReasonOtherDisk, "%v", err)
	}
	return all
}
