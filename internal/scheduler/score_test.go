package scheduler

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
)

const gib = 1 << 30

func TestScore(t *testing.T) {
	w := Weights{Mode: Spread, DefaultDivisor: 1, Divisors: map[string]float64{"hdd": 100, "small": 0.001}}
	for _, c := range []struct {
		pool string
		free int64
		want int64
	}{
		{"ssd", 0, 0},
		{"ssd", -5, 0},
		{"ssd", 1, 0},
		{"ssd", gib, 0},
		{"ssd", 2*gib - 1, 0},
		{"ssd", 2 * gib, 1},
		{"ssd", 3 * gib, 1},
		{"ssd", 4 * gib, 2},
		{"ssd", 1024 * gib, 10},
		{"ssd", math.MaxInt64, 10},
		{"hdd", 199 * gib, 0},
		{"hdd", 200 * gib, 1},
		{"hdd", 102400 * gib, 10},
		{"small", gib / 2, 8}, // log2(500) = 8.97: a divisor below 1 tells small pools apart
		{"small", 1<<20 + 1<<19, 0},
		{"small", 3 << 20, 1}, // truncated to GiB it would be nothing
	} {
		if got := w.Score(c.pool, c.free); got != c.want {
			t.Errorf("spread: pool %s with %d bytes free scores %d, want %d", c.pool, c.free, got, c.want)
		}
		w.Mode = Pack
		if got := w.Score(c.pool, c.free); got != 10-c.want {
			t.Errorf("pack: pool %s with %d bytes free scores %d, want %d", c.pool, c.free, got, 10-c.want)
		}
		w.Mode = Spread
	}
}

// TestScoreIsMonotone: more room never scores lower when spreading, packing is its mirror, and both stay
// within what kube-scheduler accepts.
func TestScoreIsMonotone(t *testing.T) {
	for range 20000 {
		spread := Weights{Mode: Spread, DefaultDivisor: math.Exp2(rand.Float64()*40 - 20)}
		pack := spread
		pack.Mode = Pack
		a, b := randomBytes(), randomBytes()
		if a > b {
			a, b = b, a
		}
		less, more := spread.Score("p", a), spread.Score("p", b)
		if less > more || less < 0 || more > 10 {
			t.Fatalf("divisor %v: %d bytes score %d, %d bytes %d", spread.DefaultDivisor, a, less, b, more)
		}
		if got := pack.Score("p", a); got != 10-less {
			t.Fatalf("divisor %v: %d bytes score %d to spread and %d to pack", spread.DefaultDivisor, a, less, got)
		}
	}
}

func randomBytes() int64 { return rand.Int64() >> rand.IntN(63) }

func TestWeightsCheck(t *testing.T) {
	good := Weights{Mode: Pack, DefaultDivisor: 0.5, Divisors: map[string]float64{"ssd": 10}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for field, w := range map[string]Weights{
		"mode":                  {Mode: "best", DefaultDivisor: 1},
		"default divisor":       {Mode: Spread},
		"default divisor: -1":   {Mode: Spread, DefaultDivisor: -1},
		"default divisor: NaN":  {Mode: Spread, DefaultDivisor: math.NaN()},
		"default divisor: +Inf": {Mode: Spread, DefaultDivisor: math.Inf(1)},
		`divisor of pool "hdd"`: {Mode: Spread, DefaultDivisor: 1, Divisors: map[string]float64{"hdd": 0}},
	} {
		err := w.Check()
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%+v: error %v, want an invalid one that names %s", w, err, field)
		}
	}
}
