package bench

import (
	"os"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/bench/report"
)

// fileVariable names the file that takes the figures. Without it tests only try that they can measure: with few
// samples, no bounds, and nothing that takes more than seconds.
const fileVariable = "DOZO_BENCH"

// full reports whether figures are wanted.
func full() bool { return os.Getenv(fileVariable) != "" }

// needFull skips what takes too long for every change.
func needFull(t *testing.T) {
	t.Helper()
	if !full() {
		t.Skipf("it is measured by make bench (%s)", fileVariable)
	}
}

// keep keeps figures. One that is beyond its bound is said, and does not fail the test: what a machine
// is capable of beside other work is no defect of the program.
func keep(t *testing.T, figures ...report.Figure) {
	t.Helper()
	for _, f := range figures {
		verdict := "no bound"
		if f.Bound != nil {
			verdict = f.Bound.String()
			if !f.Kept() {
				verdict += ": NOT KEPT"
			}
		}
		t.Logf("%s (%s): n %d, p10 %.3f, median %.3f, p90 %.3f, p99 %.3f %s; %s; load %.1f",
			f.Name, f.Where, f.N, f.P10, f.Median, f.P90, f.P99, f.Unit, verdict, f.Load)
	}
	if full() {
		if err := report.Add(os.Getenv(fileVariable), figures...); err != nil {
			t.Fatal(err)
		}
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
