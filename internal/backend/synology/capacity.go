package synology

import (
	"cmp"
	"context"
	"slices"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
)

// Capacity is [backend.Backend]: of the volumes that the pool may use, together. Where the NAS has as many LUNs as its model allows there
// is no room, whatever is free.
func (b *Backend) Capacity(ctx context.Context, _ string) (backend.Capacity, error) {
	volumes, err := b.volumes(ctx, b.opts.location)
	if err != nil {
		return backend.Capacity{}, err
	}
	var c backend.Capacity
	for _, v := range volumes {
		if unusable(v) == "" {
			c.Total += int64(v.Total)
			c.Available += int64(v.Free)
			c.MaxVolume = max(c.MaxVolume, int64(v.Free))
		}
	}
	if isShared(b.opts.protocol) {
		return c, nil
	}
	full, err := b.isFull(ctx)
	if full {
		c.Available, c.MaxVolume = 0, 0
	}
	return c, err
}

// isFull reports whether the NAS takes no more LUNs. All count, those of virtual machines too.
func (b *Backend) isFull(ctx context.Context) (bool, error) {
	limits, err := b.ceilings(ctx)
	if err != nil || limits.LUNs == 0 {
		return false, err
	}
	luns, err := b.nas.LUNs(ctx)
	return len(luns) >= int(limits.LUNs), err
}

// volumes are those at a location: one, or all if none is named. One that is named has to be there.
func (b *Backend) volumes(ctx context.Context, location string) ([]dsm.Volume, error) {
	if location == "" {
		return b.nas.Volumes(ctx)
	}
	v, err := b.nas.Volume(ctx, location)
	if errs.Is(err, errs.NotFound) {
		// Not that there is no such volume of the pool's, which is what NotFound says to callers.
		return nil, errs.E(errs.Unavailable, "location: the NAS has no volume %s; look at it in Storage Manager", location)
	}
	return []dsm.Volume{v}, err
}

// unusable says why nothing can be made in a volume, "" if it can.
func unusable(v dsm.Volume) string {
	switch {
	case bool(v.Crashed) || v.Status == "crashed":
		return "it has crashed"
	case bool(v.ReadOnly) || v.Status == "read_only":
		return "it is read-only"
	case v.Status == "deleting":
		return "it is being deleted"
	case v.Container == "external" || v.Location == "external":
		return "it is on an external disk"
	case v.FileSystem != "btrfs" && v.FileSystem != "ext4":
		return "its file system is " + v.FileSystem
	}
	return ""
}

// place chooses where a new volume goes: the one place that is named, or that with most room.
func (b *Backend) place(ctx context.Context, r backend.Request) (dsm.Volume, error) {
	location := cmp.Or(r.Parameters["location"], b.opts.location)
	all, err := b.volumes(ctx, location)
	if err != nil {
		return dsm.Volume{}, err
	}
	protocol := b.protocol(r.Parameters)
	var fit []dsm.Volume
	var why error
	for _, v := range all {
		if err := suits(v, protocol, r.Parameters); err != nil {
			why = err
			continue
		}
		fit = append(fit, v)
	}
	if len(fit) == 0 {
		return dsm.Volume{}, cmp.Or(why, errs.E(errs.NoSpace, "the NAS has no volumes; make one in Storage Manager"))
	}
	best := slices.MaxFunc(fit, func(a, b dsm.Volume) int { return cmp.Compare(a.Free, b.Free) })
	if r.Size > int64(best.Free) {
		return best, errs.E(errs.NoSpace, "%s of the NAS has %s left, and %s are needed", best.Path, backend.FormatSize(int64(best.Free)), backend.FormatSize(r.Size))
	}
	return best, nil
}

// suits says why a volume of the NAS cannot have what is asked for.
func suits(v dsm.Volume, protocol string, parameters map[string]string) error {
	if why := unusable(v); why != "" {
		return errs.E(errs.NoSpace, "%s of the NAS cannot be used: %s; look at it in Storage Manager", v.Path, why)
	}
	if protocol == iscsi {
		_, err := lunType(parameters["type"], v)
		return err
	}
	if v.FileSystem != "btrfs" && parameters["quota"] != "false" {
		return errs.E(errs.Invalid, "parameters[\"quota\"]: %s is %s, which has no quotas of shares; set it to false, and shares on it can fill the volume, or use another location", v.Path, v.FileSystem)
	}
	return nil
}

// roomFor refuses what a volume of the NAS has no room for now.
func (b *Backend) roomFor(ctx context.Context, path string, size int64) error {
	volumes, err := b.volumes(ctx, path)
	if err != nil {
		return err
	}
	if free := int64(volumes[0].Free); size > free {
		return errs.E(errs.NoSpace, "%s of the NAS has %s left, and %s are needed", path, backend.FormatSize(free), backend.FormatSize(size))
	}
	return nil
}

// Gauges is [backend.Gauger]: three calls.
func (b *Backend) Gauges(ctx context.Context) ([]backend.Gauge, error) {
	volumes, err := b.volumes(ctx, b.opts.location)
	if err != nil {
		return nil, err
	}
	luns, err := b.nas.LUNs(ctx)
	if err != nil && !b.hasNoLUNs(err) {
		return nil, err
	}
	targets, err := b.nas.Targets(ctx)
	if err != nil && !b.hasNoLUNs(err) {
		return nil, err
	}
	gauges := []backend.Gauge{
		{Name: "luns", Help: "LUNs on the NAS, also those that are not Dozo's.", Value: float64(len(luns))},
		{Name: "targets", Help: "iSCSI targets on the NAS, also those that are not Dozo's.", Value: float64(len(targets))},
	}
	if l, err := b.ceilings(ctx); err == nil {
		gauges = append(gauges,
			backend.Gauge{Name: "luns_limit", Help: "LUNs that the model allows.", Value: float64(l.LUNs)},
			backend.Gauge{Name: "targets_limit", Help: "iSCSI targets that the model allows.", Value: float64(l.Targets)})
	}
	for _, v := range volumes {
		gauges = append(gauges,
			backend.Gauge{Name: "volume_size_bytes", Help: "Size of a volume of the NAS.", Part: v.Path, Value: float64(v.Total)},
			backend.Gauge{Name: "volume_free_bytes", Help: "Room that a volume of the NAS has left.", Part: v.Path, Value: float64(v.Free)})
	}
	return gauges, nil
}
