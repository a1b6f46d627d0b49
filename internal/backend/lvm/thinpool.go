package lvm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/dm"
)

// usage is how full a thin pool is, as the kernel says; see the kernel's thin-provisioning.rst.
type usage struct {
	data, dataTotal         int64 // blocks
	metadata, metadataTotal int64 // blocks
	mode                    string
}

func (u usage) dataPercent() float64     { return percent(u.data, u.dataTotal) }
func (u usage) metadataPercent() float64 { return percent(u.metadata, u.metadataTotal) }

func percent(n, of int64) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(n) / float64(of)
}

// String says it for people.
func (u usage) String() string {
	return fmt.Sprintf("%.1f %% of its data and %.1f %% of its metadata are in use, mode %s", u.dataPercent(), u.metadataPercent(), u.mode)
}

// nearlyFull is how full a thin pool is, in percent, that gets no new volumes while it cannot be extended.
const nearlyFull = 95

// full is a pool that should not be promised to anybody else.
func (u usage) full(s *vg.State) bool {
	if u.metadataPercent() >= nearlyFull || u.mode != "rw" {
		return true
	}
	free := int64(0)
	for _, n := range s.PVs {
		free += n.Free
	}
	return u.dataPercent() >= nearlyFull && free == 0
}

// usage asks the kernel about the thin pool. ok is false where nobody knows: it is not there, or not active.
func (p *pool) usage(s *vg.State) (u usage, ok bool) {
	l := s.LVs[p.opts.thinPool]
	if l == nil {
		return u, false
	}
	return poolUsage(p.host, s.DeviceUUID(l))
}

func poolUsage(h *host.Host, uuid string) (usage, bool) {
	targets, err := dm.Status(h, uuid+"-tpool")
	if err != nil || len(targets) != 1 || targets[0].Type != "thin-pool" {
		return usage{}, false
	}
	return parseUsage(targets[0].Params), true
}

// parseUsage reads "3 112/1024 0/640 - rw no_discard_passdown queue_if_no_space - 256": transaction,
// metadata, data, held root, mode, and more; or one word for a pool that has failed.
func parseUsage(params string) (u usage) {
	part := strings.Fields(params)
	if len(part) < 5 {
		u.mode = params
		return u
	}
	u.metadata, u.metadataTotal = fraction(part[1])
	u.data, u.dataTotal = fraction(part[2])
	u.mode = part[4]
	return u
}

func fraction(s string) (n, of int64) {
	a, b, _ := strings.Cut(s, "/")
	n, _ = strconv.ParseInt(a, 10, 64)
	of, _ = strconv.ParseInt(b, 10, 64)
	return n, of
}

// poolProblems says what is wrong with the thin pool that a volume is in.
func (p *pool) poolProblems(i item) []backend.Problem {
	pool := i.state.LVs[i.lv.Segments[0].Pool]
	if pool == nil {
		return nil
	}
	u, ok := poolUsage(p.host, i.state.DeviceUUID(pool))
	path := i.group.Name() + "/" + pool.Name
	switch {
	case !ok:
		return nil
	case u.mode == "out_of_data_space":
		return []backend.Problem{{Severity: backend.Inaccessible, Reason: "ThinPoolFull",
			Message: fmt.Sprintf("thin pool %s is full, and writes wait or fail: extend the volume group, then run: lvextend --extents +SIZE %s; nothing that was written is lost", path, path)}}
	case u.mode != "rw":
		return []backend.Problem{{Severity: backend.Inaccessible, Reason: "ThinPoolFailed",
			Message: fmt.Sprintf("thin pool %s takes no writes (%s); see: lvs -a, and lvconvert --repair", path, u)}}
	case u.dataPercent() >= nearlyFull || u.metadataPercent() >= nearlyFull:
		return []backend.Problem{{Severity: backend.Degraded, Reason: "ThinPoolNearlyFull",
			Message: fmt.Sprintf("of thin pool %s %s; delete volumes or snapshots, or extend the volume group", path, u)}}
	}
	return nil
}

// lookPause is how often the fill of a thin pool is looked at, by one ioctl. A pool that is full lets
// writers wait for a minute before it fails them, so this is soon enough.
const lookPause = 5 * time.Second

// extendWhenFull extends the thin pool of each group when it becomes full, until ctx ends.
func (t *Thin) extendWhenFull(ctx context.Context) {
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, g := range t.groups {
			_ = t.extend(ctx, g) // the volumes' health says that it is full; it is tried again
		}
	}
}

// extend makes a thin pool larger if it is fuller than it should be and the group has room.
func (t *Thin) extend(ctx context.Context, g *vg.Group) error {
	if t.opts.thresholds.extend == 0 {
		return nil
	}
	s, err := g.Load(ctx)
	if err != nil {
		return err
	}
	if data, metadata := t.wants(s); data == 0 && metadata == 0 {
		return nil
	}
	return g.Change(ctx, func(s *vg.State) error {
		data, metadata := t.wants(s) // another process may have done it
		path := g.Name() + "/" + t.opts.thinPool
		if metadata > 0 {
			if err := g.Run(ctx, "extend.lvextend-metadata", "lvextend", "--yes", "--poolmetadatasize", "+"+strconv.FormatInt(metadata*s.ExtentSize, 10)+"b", path); err != nil {
				return err
			}
		}
		if data > 0 {
			return g.Run(ctx, "extend.lvextend", "lvextend", "--yes", "--extents", "+"+strconv.FormatInt(data, 10), path)
		}
		return nil
	})
}

// wants is by how many extents the thin pool's data and metadata should be extended, as far as there is
// room. Metadata takes it twice, as LVM keeps a spare.
func (t *Thin) wants(s *vg.State) (data, metadata int64) {
	u, ok := t.usage(s)
	l := s.LVs[t.opts.thinPool]
	if !ok || s.Missing() != "" {
		return 0, 0
	}
	free := t.opts.layout.Grow(s, t.opts.spare)
	if u.metadataPercent() >= float64(t.opts.thresholds.metadata) {
		const block = 4096
		metadata = max(1, u.metadataTotal*block*t.opts.thresholds.extend/100/s.ExtentSize)
		if 2*metadata > free {
			metadata = 0
		}
		free -= 2 * metadata
	}
	if u.dataPercent() >= float64(t.opts.thresholds.data) {
		step := max(1, l.Extents()*t.opts.thresholds.extend/100)
		data = max(0, min(step, free)) / t.opts.layout.Data * t.opts.layout.Data
	}
	return data, metadata
}
