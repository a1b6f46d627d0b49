package csi

import (
	"context"
	"math"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
)

// The parameters of a VolumeAttributesClass.
const (
	paramReadBPS   = "read-bps"
	paramWriteBPS  = "write-bps"
	paramReadIOPS  = "read-iops"
	paramWriteIOPS = "write-iops"
)

// The least that a limit can be: with less, a file system is not slow but hangs.
const (
	leastBPS  = 64 << 10
	leastIOPS = 10
	mostIOPS  = 1e9 // the kernel has 32 bits for it
)

func limitParameters() []backend.Parameter {
	between := func(least, most int64) func(string) error {
		return func(v string) error {
			n, err := backend.ParseSize(v)
			switch {
			case err != nil:
				return errs.E(errs.Invalid, "%.40q is not a quantity", v)
			case n != 0 && n < least:
				return errs.E(errs.Invalid, "%s is less than %d, with which nothing gets done", v, least)
			case n > most:
				return errs.E(errs.Invalid, "%s is more than %d", v, most)
			}
			return nil
		}
	}
	const bytes, ops = "bytes a second, like 100Mi; 0 is no limit", "operations a second, like 500 or 2k; 0 is no limit"
	return []backend.Parameter{
		{Name: paramReadBPS, Default: "0", Help: bytes, Check: between(leastBPS, math.MaxInt64)},
		{Name: paramWriteBPS, Default: "0", Help: bytes, Check: between(leastBPS, math.MaxInt64)},
		{Name: paramReadIOPS, Default: "0", Help: ops, Check: between(leastIOPS, mostIOPS)},
		{Name: paramWriteIOPS, Default: "0", Help: ops, Check: between(leastIOPS, mostIOPS)},
	}
}

// limitsOf returns what the parameters of a VolumeAttributesClass say, all of it: what is not there
// is not limited.
func limitsOf(given map[string]string) (backend.Limits, error) {
	all, err := backend.Complete("mutable_parameters", limitParameters(), withoutForeign(given))
	if err != nil {
		return backend.Limits{}, err
	}
	value := func(name string) int64 {
		n, _ := backend.ParseSize(all[name]) // checked by the declaration
		return n
	}
	return backend.Limits{
		ReadBPS: value(paramReadBPS), WriteBPS: value(paramWriteBPS),
		ReadIOPS: value(paramReadIOPS), WriteIOPS: value(paramWriteIOPS),
	}, nil
}

// ControllerModifyVolume gives a volume the limits of another VolumeAttributesClass. The node that
// uses it is who enforces them.
func (c *controller) ControllerModifyVolume(ctx context.Context, r *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	limits, err := limitsOf(r.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	p, h, err := c.at("volume_id", r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if _, err = p.Modify(ctx, h.ID, limits); err != nil {
		return nil, err
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}
