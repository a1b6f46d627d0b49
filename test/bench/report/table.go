package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
)

// Table writes the figures as a table in Markdown, and then those that are beyond their bounds.
func (f File) Table(w io.Writer) error {
	m := f.Machine
	out := &errWriter{w: w}
	out.printf("%s: %s, %d cores, %d MiB, Linux %s, %s\n\n", f.Started.Format("2006-01-02 15:04 MST"), m.CPU, m.Cores, m.MemoryMiB, m.Kernel, m.Go)
	out.printf("| what | where | n | p10 | median | p90 | p99 | unit | bound | load |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, g := range f.Figures {
		out.printf("| %s | %s | %d | %s | %s | %s | %s | %s | %s | %.1f |\n",
			g.Name, g.Where, g.N, number(g.P10), number(g.Median), number(g.P90), number(g.P99), g.Unit, g.verdict(), g.Load)
	}
	beyond := 0
	for _, g := range f.Figures {
		if !g.Kept() {
			beyond++
			out.printf("\nBEYOND ITS BOUND: %s: %s, median %s, p99 %s %s", g.Name, g.Bound, number(g.Median), number(g.P99), g.Unit)
		}
	}
	if beyond == 0 {
		out.printf("\nEvery figure is within its bound.")
	}
	out.printf("\n")
	return out.err
}

// String is the bound in words.
func (b Bound) String() string {
	sign := "≤"
	if b.Least {
		sign = "≥"
	}
	return b.Of + " " + sign + " " + number(b.Limit)
}

func (g Figure) verdict() string {
	switch {
	case g.Bound == nil:
		return "–"
	case g.Kept():
		return g.Bound.String()
	}
	return "**" + g.Bound.String() + ": NOT KEPT**"
}

// number has three digits that matter.
func number(v float64) string {
	if v == 0 || math.IsNaN(v) {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	places := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	if math.Abs(v-math.Round(v)) < 1e-9 {
		places = 0
	}
	return strconv.FormatFloat(v, 'f', places, 64)
}

// errWriter remembers the first error.
type errWriter struct {
	w   io.Writer
	err error
}

func (e *errWriter) printf(format string, args ...any) {
	if e.err == nil {
		_, e.err = fmt.Fprintf(e.w, format, args...)
	}
}
