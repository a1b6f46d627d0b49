package report

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestFigures(t *testing.T) {
	var samples []float64
	for i := 100; i > 0; i-- {
		samples = append(samples, float64(i))
	}
	f := New("f", "host", "ms", nil, samples)
	if f.N != 100 || f.P10 != 10 || f.Median != 50 || f.P90 != 90 || f.P99 != 99 {
		t.Errorf("of 1 to 100: %+v", f)
	}
	for _, c := range []struct {
		bound *Bound
		kept  bool
	}{{nil, true}, {AtMost(50), true}, {AtMost(49), false}, {AtLeast(50), true}, {AtLeast(51), false}, {P99AtMost(99), true}, {P99AtMost(98), false}} {
		if f.Bound = c.bound; f.Kept() != c.kept {
			t.Errorf("%v: kept %v", c.bound, f.Kept())
		}
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "bench.json")
	for _, figures := range [][]Figure{
		{New("a", "host", "ms", P99AtMost(10), []float64{1, 2, 3}), New("b", "guest", "calls/s", AtLeast(5000), []float64{12345.6})},
		{New("a", "host", "ms", P99AtMost(10), []float64{0.123, 12.34, 1})}, // measured again
	} {
		if err := Add(path, figures...); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := f.Table(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| a | host | 3 | 0.123 | 1 | 12.3 | 12.3 | ms | **p99 ≤ 10: NOT KEPT** |",
		"| b | guest | 1 | 12346 | 12346 | 12346 | 12346 | calls/s | median ≥ 5000 |",
		"\nBEYOND ITS BOUND: a: p99 ≤ 10, median 1, p99 12.3 ms\n",
	} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	if len(f.Figures) != 2 || f.Machine.Cores == 0 || f.Machine.Kernel == "" || f.Machine.MemoryMiB == 0 {
		t.Errorf("%+v", f)
	}
}
