package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// GetCapacity says what room there is for volumes of a storage class, on a node. Without parameters
// it is about all pools together.
func (c *controller) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	pools, err := c.poolsOf(r.GetParameters())
	if err != nil {
		return nil, err
	}
	var node string
	if r.GetAccessibleTopology() != nil {
		if node, err = nodeOf("accessible_topology", r.GetAccessibleTopology()); err != nil {
			return nil, err
		}
	}
	if len(r.GetVolumeCapabilities()) > 0 {
		switch err := checkUsages("volume_capabilities", r.GetVolumeCapabilities()); {
		case errs.Is(err, errs.Unsupported): // a good question: there is no room for such volumes
			pools = nil
		case err != nil:
			return nil, err
		}
	}
	return capacityOf(ctx, pools, node, fileSystems(r.GetVolumeCapabilities()))
}

func (c *controller) poolsOf(parameters map[string]string) ([]*pool.Pool, error) {
	if len(withoutForeign(parameters)) == 0 {
		return c.pools.All(), nil
	}
	class, err := classOf(c.pools, parameters)
	if err != nil {
		return nil, err
	}
	return []*pool.Pool{class.pool}, nil
}

// capacityOf adds pools up. One that cannot be asked fails the call: no room and not known are not
// the same to a scheduler.
func capacityOf(ctx context.Context, pools []*pool.Pool, node string, fileSystems []string) (*csi.GetCapacityResponse, error) {
	var available, largest, smallest int64
	for _, p := range pools {
		have, err := p.Capacity(ctx, node)
		if err != nil {
			return nil, errs.E(errs.KindOf(err), "pool %s: %w", p.Name(), err)
		}
		available += max(0, have.Available)
		largest = max(largest, have.MaxVolume)
		if least := p.Smallest(fileSystems); smallest == 0 || least < smallest {
			smallest = least
		}
	}
	return &csi.GetCapacityResponse{
		AvailableCapacity: available,
		MaximumVolumeSize: wrapperspb.Int64(largest),
		MinimumVolumeSize: wrapperspb.Int64(smallest),
	}, nil
}
