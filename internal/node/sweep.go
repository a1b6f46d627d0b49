package node

import (
	"context"
	"errors"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// sweepPeriod is how often it is looked for what was left behind. When the node has just started, the kubelet first has settleTime to
// stage again what pods still need. sweepPatience is how long one volume may hold up the others.
const (
	sweepPeriod   = 5 * time.Minute
	settleTime    = time.Minute
	sweepPatience = 30 * time.Second
)

// KeepSwept sweeps from time to time, until ctx is done: sessions at once, records too when the kubelet had its time.
func (n *Node) KeepSwept(ctx context.Context) {
	sweep, said := n.sweepSessions, ""
	for wait := settleTime; ; wait = sweepPeriod {
		err := sweep(ctx)
		switch {
		case err == nil:
			said = ""
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			n.log.Warn("something was left behind, and stays for now", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		sweep = n.Sweep
	}
}

// Sweep ends what nobody would end otherwise, and leaves what is in use, which is in the error: records of volumes that were staged before
// the node restarted, and not since, which is all that is left of them; and sessions, records and disks of this node's
// iSCSI that are ours and of no volume that is staged, as a process that was killed may leave them.
func (n *Node) Sweep(ctx context.Context) error {
	return errors.Join(n.sweepRecords(ctx), n.sweepSessions(ctx))
}

// sweepRecords undoes what is recorded from before the node restarted. Of a pod that went away while its node was off the kubelet finds no
// mounts, and asks for nothing to be undone (kubernetes/kubernetes#105536).
func (n *Node) sweepRecords(ctx context.Context) error {
	boot, err := n.boot()
	if err != nil {
		return err
	}
	records, err := n.records()
	if err != nil {
		return err
	}
	var all error
	for _, r := range records {
		if !r.outlived(boot) || ctx.Err() != nil {
			continue
		}
		if err := n.sweepRecord(ctx, r.Volume, boot); err != nil {
			all = errors.Join(all, errs.E(errs.KindOf(err), "volume %s, staged before the node restarted: %w", r.Volume, err))
		}
	}
	return all
}

func (n *Node) sweepRecord(ctx context.Context, volume, boot string) error {
	ctx, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	return n.operate(ctx, "sweep", volume, func(ctx context.Context) error {
		now, err := n.load(volume)
		if err != nil || now == nil || !now.outlived(boot) {
			return err
		}
		return n.teardown(ctx, now)
	})
}

// outlived reports whether a record is of a time before the node restarted. A volume that was made for one pod has to be deleted with the
// pod, which the record is needed for.
func (r *record) outlived(boot string) bool { return r.Boot != boot && r.Inline == nil }

func (n *Node) sweepSessions(ctx context.Context) error {
	return n.connect.Sweep(ctx, func() ([]backend.Access, error) {
		records, damaged, err := n.readRecords()
		if err := errors.Join(err, damaged); err != nil { // of what cannot be read nothing may be ended
			return nil, err
		}
		var all []backend.Access
		for _, r := range records {
			all = append(all, r.Access)
		}
		return all, nil
	})
}
