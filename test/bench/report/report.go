// Package report keeps the figures of benchmarks: as JSON, one file for a run, and as a table for people.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Format is the name of the file's format. Another name means that fields have another meaning.
const Format = "dozo-bench/1"

// File is what a run measured.
type File struct {
	Format  string    `json:"format"`
	Started time.Time `json:"started"`
	Machine Machine   `json:"machine"`
	Figures []Figure  `json:"figures"`
}

// Machine is where it was measured.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	MemoryMiB int64  `json:"memoryMiB"`
	Kernel    string `json:"kernel"`
	Go        string `json:"go"`
}

// Figure is one quantity, measured several times.
type Figure struct {
	Name   string  `json:"name"`
	Where  string  `json:"where"` // what ran it: this machine's kernel or a guest's
	Unit   string  `json:"unit"`
	N      int     `json:"n"`
	P10    float64 `json:"p10"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	Bound  *Bound  `json:"bound,omitempty"`
	Load   float64 `json:"load"` // of the machine in the last minute, at the end of the measurement
	// Samples are in the order in which they were measured.
	Samples []float64 `json:"samples"`
}

// Bound is what a figure has to keep to.
type Bound struct {
	Of    string  `json:"of"` // "median" or "p99"
	Limit float64 `json:"limit"`
	Least bool    `json:"least,omitempty"` // it is the least that will do, not the most
}

// AtMost and AtLeast are bounds of a median, P99AtMost one of the 99th percentile.
func AtMost(limit float64) *Bound    { return &Bound{Of: "median", Limit: limit} }
func AtLeast(limit float64) *Bound   { return &Bound{Of: "median", Limit: limit, Least: true} }
func P99AtMost(limit float64) *Bound { return &Bound{Of: "p99", Limit: limit} }

// New returns the figure of some samples. Percentiles are the smallest sample that so many do not exceed.
func New(name, where, unit string, bound *Bound, samples []float64) Figure {
	f := Figure{Name: name, Where: where, Unit: unit, Bound: bound, N: len(samples), Samples: samples, Load: load()}
	sorted := slices.Sorted(slices.Values(samples))
	at := func(share float64) float64 {
		if len(sorted) == 0 {
			return math.NaN()
		}
		return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
	}
	f.P10, f.Median, f.P90, f.P99 = at(0.1), at(0.5), at(0.9), at(0.99)
	return f
}

// Kept reports whether the figure keeps to its bound; one without any does.
func (f Figure) Kept() bool {
	if f.Bound == nil {
		return true
	}
	value := f.Median
	if f.Bound.Of == "p99" {
		value = f.P99
	}
	if f.Bound.Least {
		return value >= f.Bound.Limit
	}
	return value <= f.Bound.Limit
}

// Read reads a file. One that is not there is a new one, of this machine and now.
func Read(path string) (File, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		m, err := thisMachine()
		return File{Format: Format, Started: time.Now().UTC().Truncate(time.Second), Machine: m}, err
	}
	if err != nil {
		return File{}, err
	}
	var f File
	if err := json.Unmarshal(data, &f); err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	if f.Format != Format {
		return File{}, fmt.Errorf("%s: format: %q is not %s", path, f.Format, Format)
	}
	return f, nil
}

// Add puts figures into a file, in place of older ones of the same name and unit.
func Add(path string, figures ...Figure) error {
	f, err := Read(path)
	if err != nil {
		return err
	}
	for _, n := range figures {
		i := slices.IndexFunc(f.Figures, func(o Figure) bool { return o.Name == n.Name && o.Unit == n.Unit })
		if i < 0 {
			f.Figures = append(f.Figures, n)
		} else {
			f.Figures[i] = n
		}
	}
	data, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func thisMachine() (m Machine, err error) {
	var u unix.Utsname
	var info unix.Sysinfo_t
	if err := errors.Join(unix.Uname(&u), unix.Sysinfo(&info)); err != nil {
		return m, err
	}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	m = Machine{CPU: "unknown", Cores: runtime.NumCPU(), Kernel: unix.ByteSliceToString(u.Release[:]), Go: runtime.Version()}
	m.MemoryMiB = int64(info.Totalram) * int64(info.Unit) >> 20
	for line := range strings.Lines(string(cpus)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m, nil
}

// load is the load average of the last minute, 0 if the kernel does not say.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	value, _ := strconv.ParseFloat(first, 64)
	return value
}
