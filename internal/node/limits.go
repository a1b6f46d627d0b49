package node

import (
	"context"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host/cgroup"
	"github.com/dozo-dev/dozo/internal/pool"
)

// Limits are kept with the volume, by its pool, and enforced here: in the cgroup of each pod that the
// volume is published to. Publish does it before the pod starts; [Node.KeepLimits] when limits change.
// A pod that cannot be limited runs without: Health tells.

const (
	// limitPeriod is how often limits are looked at that nobody said to have changed: the cgroups belong
	// to the kubelet and to systemd, and a driver that was down missed what it was told.
	limitPeriod = time.Minute
	// limitRetry is the first pause before what could not be done is tried again; each is twice as long.
	limitRetry = time.Second
	// limitPatience is how long a volume is waited for with which something else happens.
	limitPatience = 200 * time.Millisecond
)

// ReasonNotLimited is the problem of a volume whose limits are not enforced.
const ReasonNotLimited = "LimitsNotEnforced"

// KeepLimits sees to it that every pod has the limits of its volumes, until ctx is done: at once,
// whenever changed says that some volume's limits changed, and once a minute.
func (n *Node) KeepLimits(ctx context.Context, changed <-chan struct{}) {
	retry := limitRetry
	for {
		wait := limitPeriod
		if n.limitAll(ctx) {
			retry = limitRetry
		} else {
			wait, retry = retry, min(2*retry, limitPeriod)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-n.unlimited:
		case <-time.After(wait):
		}
	}
}

// limitAll is false if something has to be tried again.
func (n *Node) limitAll(ctx context.Context) (done bool) {
	records, err := n.records()
	if err != nil {
		n.log.Warn("I/O limits", "error", err)
		return false
	}
	done = true
	var pods map[string]string
	for _, rec := range records {
		if !n.limits(rec) {
			continue
		}
		if pods == nil {
			pods, err = cgroup.Pods(n.host)
			if errs.Is(err, errs.Unsupported) {
				return true // as Publish and Health tell
			}
			if err != nil {
				n.log.Warn("I/O limits", "error", err)
				return false
			}
		}
		ctx, cancel := context.WithTimeout(ctx, limitPatience)
		err := n.operate(ctx, "limit", rec.Volume, func(ctx context.Context) error { return n.limitVolume(ctx, rec.Volume, pods) })
		cancel()
		if err != nil {
			done = false
		}
		if err != nil && !errs.Is(err, errs.Aborted) {
			n.log.Warn("I/O limits", "volume", rec.Volume, "error", err)
		}
	}
	return done
}

// limits reports whether a record is of a volume that may have any, published to a pod.
func (n *Node) limits(rec *record) bool {
	if rec.Access.Local == nil {
		return false // no pool on this node keeps any
	}
	p, err := n.pools.Get(rec.Access.Local.Pool)
	if err != nil || p.Capabilities().Modifier == nil {
		return false
	}
	for _, t := range rec.Targets {
		if cgroup.PodOf(t.Path) != "" {
			return true
		}
	}
	return false
}

// limitVolume limits all pods that a volume is published to.
func (n *Node) limitVolume(ctx context.Context, volume string, pods map[string]string) error {
	rec, err := n.load(volume)
	if err != nil || rec == nil {
		return err
	}
	if boot, err := n.boot(); err != nil || rec.Boot != boot {
		return err
	}
	l, err := n.limitsOf(ctx, rec)
	if err != nil {
		return err
	}
	for _, t := range rec.Targets {
		if err := n.limitPod(rec, cgroup.PodOf(t.Path), pods, l); err != nil {
			return err
		}
	}
	return nil
}

// limitsOf asks the pool. A volume that is not there any more has none.
func (n *Node) limitsOf(ctx context.Context, rec *record) (backend.Limits, error) {
	p, err := locals{n.pools}.get(rec.Access.Local.Pool)
	if err != nil {
		return backend.Limits{}, err
	}
	v, err := p.Get(ctx, rec.Access.Local.ID)
	if errs.Is(err, errs.NotFound) {
		return backend.Limits{}, nil
	}
	return v.Limits, err
}

// limitPod limits one pod. errs.NotFound if it has limits to get and no cgroup yet.
func (n *Node) limitPod(rec *record, uid string, pods map[string]string, l backend.Limits) error {
	group := pods[uid]
	switch {
	case uid == "", group == "" && l.IsZero():
		return nil
	case group == "":
		return errs.E(errs.NotFound, "pod %s has no cgroup", uid)
	}
	number, err := n.host.DeviceNumber(rec.Device)
	if err != nil {
		return err
	}
	return cgroup.SetLimits(n.host, "limit.set", group, number, l)
}

// limitTarget limits the pod that a volume was just published to. The pod starts in any case: what
// could not be done now, KeepLimits tries again.
func (n *Node) limitTarget(ctx context.Context, rec *record, target string) {
	uid := cgroup.PodOf(target)
	if uid == "" || !n.limits(rec) {
		return
	}
	l, err := n.limitsOf(ctx, rec)
	if err == nil && !l.IsZero() {
		var pods map[string]string
		if pods, err = cgroup.Pods(n.host); err == nil {
			err = n.limitPod(rec, uid, pods, l)
		}
	}
	if err != nil {
		n.log.Warn("I/O limits: the pod goes on without", "volume", rec.Volume, "pod", uid, "error", err)
		select {
		case n.unlimited <- struct{}{}:
		default: // it is awake
		}
	}
}

// unlimit takes back a pod's limits, with which the device's number must not be connected any longer
// than the volume. Most often the pod's cgroup ends with them.
func (n *Node) unlimit(ctx context.Context, rec *record, target string) {
	uid := cgroup.PodOf(target)
	if rec == nil || uid == "" || !n.limits(rec) {
		return
	}
	if l, err := n.limitsOf(ctx, rec); err == nil && l.IsZero() {
		return
	}
	pods, err := cgroup.Pods(n.host)
	if err == nil {
		err = n.limitPod(rec, uid, pods, backend.Limits{})
	}
	if err != nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Unsupported) {
		n.log.Warn("I/O limits: not taken back", "volume", rec.Volume, "pod", uid, "error", err)
	}
}

// limitHealth is the problem of a volume that has limits which are not enforced.
func (n *Node) limitHealth(ctx context.Context, rec *record) []backend.Problem {
	if !n.limits(rec) {
		return nil
	}
	l, err := n.limitsOf(ctx, rec)
	if err != nil || l.IsZero() {
		return nil // poolHealth tells of the error
	}
	pods, err := cgroup.Pods(n.host)
	for i := 0; err == nil && i < len(rec.Targets); i++ {
		err = n.limited(rec, cgroup.PodOf(rec.Targets[i].Path), pods, l)
	}
	if err == nil {
		return nil
	}
	return []backend.Problem{problem(backend.Degraded, ReasonNotLimited, "the limits of its VolumeAttributesClass are not enforced: %v", err)}
}

// limited returns an error unless a pod has the limits.
func (n *Node) limited(rec *record, uid string, pods map[string]string, want backend.Limits) error {
	if uid == "" || pods[uid] == "" {
		return nil // it ends, or has not begun
	}
	number, err := n.host.DeviceNumber(rec.Device)
	if err != nil {
		return err
	}
	have, err := cgroup.Limits(n.host, pods[uid], number)
	if err == nil && have != want {
		err = errs.E(errs.Aborted, "pod %s has %+v and is to have %+v", uid, have, want)
	}
	return err
}

// Changed returns an observer of pools that wakes KeepLimits, and what it is to be given. It is made
// before the pools are, and so before the node.
func Changed() (observe func(pool.Observation), changed <-chan struct{}) {
	c := make(chan struct{}, 1)
	return func(o pool.Observation) {
		if o.Op != pool.OpModify || o.Err != nil {
			return
		}
		select {
		case c <- struct{}{}:
		default:
		}
	}, c
}
