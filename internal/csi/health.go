package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// ControllerGetVolumeHealth says what is wrong with a volume. Of one in a pool that cannot tell,
// nothing is known to be wrong, and that is what CSI has an empty answer mean.
func (c *controller) ControllerGetVolumeHealth(ctx context.Context, r *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	p, v, err := c.volume(ctx, "volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	problems, err := p.Check(ctx, v.ID)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: healthOf(r.GetVolumeId(), problems)}, nil
}

// ControllerListVolumeHealth lists the volumes with which something is wrong.
func (c *controller) ControllerListVolumeHealth(ctx context.Context, r *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	pg, err := pageOf("health", r.GetMaxEntries(), r.GetStartingToken())
	if err != nil {
		return nil, err
	}
	unwell, err := c.unwell(ctx)
	if err != nil {
		return nil, err
	}
	part, next := cut(pg, unwell, (*csi.VolumeHealth).GetVolumeId)
	return &csi.ControllerListVolumeHealthResponse{Entries: part, NextToken: next}, nil
}

func (c *controller) unwell(ctx context.Context) ([]*csi.VolumeHealth, error) {
	var all []*csi.VolumeHealth
	for _, p := range c.pools.All() {
		if p.Capabilities().Checker == nil {
			continue
		}
		for v, err := range p.List(ctx) {
			if err != nil {
				return nil, errs.E(errs.KindOf(err), "pool %s: %w", p.Name(), err)
			}
			h := Handle{Pool: p.Name(), ID: v.ID}
			problems, err := p.Check(ctx, v.ID)
			switch {
			case errs.Is(err, errs.NotFound): // deleted since it was listed
			case err != nil:
				return nil, errs.E(errs.KindOf(err), "volume %s: %w", h, err)
			case len(problems) > 0:
				all = append(all, healthOf(h.String(), problems))
			}
		}
	}
	return all, nil
}

// healthOf returns problems as CSI describes them. It wants no two entries with one status and
// reason, so what more there is to say goes into the first one's message.
func healthOf(handle string, problems []backend.Problem) *csi.VolumeHealth {
	type key struct {
		status csi.VolumeHealthErrorType
		reason string
	}
	out := &csi.VolumeHealth{VolumeId: handle}
	seen := map[key]*csi.VolumeHealth_VolumeHealthEntry{}
	for _, p := range problems {
		k := key{statusOf(p.Severity), p.Reason}
		if first := seen[k]; first != nil {
			first.Message += "; " + p.Message
			continue
		}
		seen[k] = &csi.VolumeHealth_VolumeHealthEntry{Status: k.status, Reason: k.reason, Message: p.Message}
		out.HealthStatuses = append(out.HealthStatuses, seen[k])
	}
	return out
}

func statusOf(s backend.Severity) csi.VolumeHealthErrorType {
	switch s {
	case backend.Degraded:
		return csi.VolumeHealthErrorType_DEGRADED
	case backend.Inaccessible:
		return csi.VolumeHealthErrorType_INACCESSIBLE
	case backend.DataLoss:
		return csi.VolumeHealthErrorType_DATA_LOSS
	}
	return csi.VolumeHealthErrorType_UNKNOWN_VOLUME_HEALTH_TYPE
}
