package csi

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// GetCapacity says what room there is for volumes of a storage class, on a node. Without parameters
// it is about all pools together.
func (c *controller) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	classes, err := c.classesOf(r.GetParameters())
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
		uses, err := usagesOf("volume_capabilities", r.GetVolumeCapabilities())
		switch {
		case errs.Is(err, errs.Unsupported): // a good question: there is no room for such volumes
			classes = nil
		case err != nil:
			return nil, err
		}
		classes = slices.DeleteFunc(classes, func(k class) bool { return uses.fit("", k.reach()) != nil })
	}
	var pools []*pool.Pool
	for _, k := range classes {
		pools = append(pools, k.pool)
	}
	return capacityOf(ctx, pools, node, fileSystems(r.GetVolumeCapabilities()))
}

// classesOf is the class with these parameters, or one for each pool, with what it has by default.
func (c *controller) classesOf(parameters map[string]string) ([]class, error) {
	if len(withoutForeign(parameters)) > 0 {
		one, err := classOf(c.pools, parameters)
		return []class{one}, err
	}
	var all []class
	for _, p := range c.pools.All() {
		byDefault := map[string]string{}
		for _, declared := range p.Parameters() {
			byDefault[declared.Name] = declared.Default
		}
		all = append(all, class{pool: p, parameters: byDefault})
	}
	return all, nil
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
