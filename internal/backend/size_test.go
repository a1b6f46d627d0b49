package backend

import (
	"math"
	"testing"

	"github.com/dozo-dev/dozo/internal/errs"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1, "512": 512, "1Ki": 1 << 10, "512Mi": 512 << 20, "10Gi": 10 << 30, "2Ti": 2 << 40, "1Pi": 1 << 50,
		"1k": 1e3, "5M": 5e6, "5G": 5e9, "1T": 1e12, "1P": 1e15, "8191Pi": 8191 << 50, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "Gi", "-1", "-1Gi", "1.5Gi", "1 Gi", " 1", "1e3", "1K", "1gi", "1GiB", "0x10", "8192Pi", "9223372036854775808", "9300P",
	} {
		if got, err := ParseSize(s); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %d, %v; want errs.Invalid", s, got, err)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 1: "1", 1023: "1023", 1 << 10: "1Ki", 1536: "1.5Ki", 10 << 30: "10Gi", 3 << 40: "3Ti", 1 << 50: "1Pi", -1536: "-1.5Ki",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
