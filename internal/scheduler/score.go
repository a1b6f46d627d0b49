package scheduler

import (
	"math"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"github.com/dozo-dev/dozo/internal/errs"
)

// Mode says which of the nodes that have room are better.
type Mode string

// The modes.
const (
	Spread Mode = "spread" // the more room, the better
	Pack   Mode = "pack"   // the less room, the better, so that some nodes stay empty
)

// Weights turn the free bytes of a pool on a node into a score.
type Weights struct {
	Mode           Mode
	DefaultDivisor float64            // GiB; of pools that have none of their own
	Divisors       map[string]float64 // GiB, by pool
}

// Check returns errs.Invalid, naming the field, if the weights cannot be used.
func (w Weights) Check() error {
	if w.Mode != Spread && w.Mode != Pack {
		return errs.E(errs.Invalid, "mode: %.40q is neither %s nor %s", w.Mode, Spread, Pack)
	}
	if !positive(w.DefaultDivisor) {
		return errs.E(errs.Invalid, "default divisor: %v is not a number of GiB above zero", w.DefaultDivisor)
	}
	for pool, d := range w.Divisors {
		if !positive(d) {
			return errs.E(errs.Invalid, "divisor of pool %.80q: %v is not a number of GiB above zero", pool, d)
		}
	}
	return nil
}

func positive(f float64) bool { return f > 0 && !math.IsInf(f, 1) }

// Score grades free bytes of a pool from 0 to 10, the highest that an extender may give. To spread, it
// is log2(free in GiB / divisor): each doubling is a step, since the difference between 1 and 2 GiB
// matters and that between 1001 and 1002 does not. To pack, it is what is missing from that to 10.
func (w Weights) Score(pool string, free int64) int64 {
	divisor, ok := w.Divisors[pool]
	if !ok {
		divisor = w.DefaultDivisor
	}
	best := float64(extenderv1.MaxExtenderPriority)
	steps := math.Log2(max(0, float64(free)) / (1 << 30) / divisor) // -Inf for nothing
	spread := int64(math.Floor(min(best, max(0, steps))))
	if w.Mode == Pack {
		return extenderv1.MaxExtenderPriority - spread
	}
	return spread
}
