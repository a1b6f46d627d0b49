package backend

import (
	"math"
	"strconv"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

var units = []struct {
	suffix string
	bytes  int64
}{
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"Pi", 1 << 50},
	{"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15},
}

// ParseSize reads a size in bytes as Kubernetes writes them: a whole number with no suffix, one of
// Ki Mi Gi Ti Pi (powers of 1024) or k M G T P (powers of 1000).
func ParseSize(s string) (int64, error) {
	number, unit := s, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			number, unit = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, errs.E(errs.Invalid, "%.40q is not a size: a whole number of bytes, or with a suffix as in 512Mi or 10Gi", s)
	}
	return n * unit, nil
}

// FormatSize writes a size in bytes for people, in powers of 1024 with at most one decimal: "1.5Gi".
func FormatSize(n int64) string {
	for i := 4; i >= 0; i-- {
		if u := units[i]; n >= u.bytes || n <= -u.bytes {
			return strings.TrimSuffix(strconv.FormatFloat(float64(n)/float64(u.bytes), 'f', 1, 64), ".0") + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}
