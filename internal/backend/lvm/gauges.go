package lvm

import (
	"context"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/lvm/vg"
)

// Gauges is [backend.Gauger]: those of the volume groups.
func (p *pool) Gauges(ctx context.Context) ([]backend.Gauge, error) {
	return p.gauges(ctx, func(*vg.State) []backend.Gauge { return nil })
}

// Gauges is [backend.Gauger]: those of the volume groups and of the thin pools in them.
func (t *Thin) Gauges(ctx context.Context) ([]backend.Gauge, error) {
	return t.gauges(ctx, t.poolGauges)
}

// gauges returns the figures of each group with those that more finds in it. They are read when they are
// asked for, from the metadata and the device mapper.
func (p *pool) gauges(ctx context.Context, more func(*vg.State) []backend.Gauge) (all []backend.Gauge, err error) {
	for _, g := range p.groups {
		s, err := g.Load(ctx)
		if err != nil {
			return nil, err
		}
		all = append(append(all, groupGauges(s)...), more(s)...)
	}
	return all, nil
}

func groupGauges(s *vg.State) []backend.Gauge {
	var size, free, missing int64
	for _, p := range s.PVs {
		size += p.Extents * s.ExtentSize
		free += p.Free * s.ExtentSize
		if s.Gone(p) {
			missing++
		}
	}
	return []backend.Gauge{
		{Part: s.Name, Name: "volume_group_size_bytes", Value: float64(size), Help: "Size of a volume group, all of its devices together."},
		{Part: s.Name, Name: "volume_group_free_bytes", Value: float64(free), Help: "Room of a volume group that no logical volume has, whatever it can be used for."},
		{Part: s.Name, Name: "volume_group_missing_devices", Value: float64(missing), Help: "Physical volumes of a volume group that do not answer or that LVM has as missing."},
		{Part: s.Name, Name: "volume_group_volumes_left", Value: float64(s.VolumesLeft()), Help: "About how many more volumes the metadata area of a volume group has room for."},
	}
}

// poolGauges are those of the thin pool in a group: none before it is made, and how full it is only while
// it is active.
func (t *Thin) poolGauges(s *vg.State) []backend.Gauge {
	l := s.LVs[t.opts.thinPool]
	if l == nil || l.Type() != "thin-pool" {
		return nil
	}
	part := s.Name + "/" + l.Name
	all := []backend.Gauge{
		{Part: part, Name: "thin_pool_size_bytes", Value: float64(s.Size(l)), Help: "Size of a thin pool's data."},
		{Part: part, Name: "thin_pool_promised_bytes", Value: float64(promised(s, l.Name)), Help: "Sizes of all volumes and snapshots in a thin pool together, which may be more than it has."},
	}
	if u, ok := t.usage(s); ok && u.dataTotal > 0 && u.metadataTotal > 0 {
		all = append(all,
			backend.Gauge{Part: part, Name: "thin_pool_data_used_ratio", Value: u.dataPercent() / 100, Help: "How much of a thin pool's data is in use, 0 to 1."},
			backend.Gauge{Part: part, Name: "thin_pool_metadata_used_ratio", Value: u.metadataPercent() / 100, Help: "How much of a thin pool's metadata is in use, 0 to 1."},
		)
	}
	return all
}
