// Package timings collects how long the operations of a volume's life take, and reports them as data.
package timings

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// Format names the layout of [Report]; it changes with it.
const Format = "dozo-e2e-timings/1"

// Report is the file of timings. All times are in seconds, as a watching client sees them.
type Report struct {
	Format     string      `json:"format"`
	Unit       string      `json:"unit"`
	Driver     string      `json:"driver"`
	Started    time.Time   `json:"started"`
	Kubernetes string      `json:"kubernetes"`
	Nodes      int         `json:"nodes"`
	CPUs       int         `json:"cpus"` // of the first node; in the lab all nodes share them
	Operations []Operation `json:"operations"`
}

// Operation is how long one thing took, each time that it was done.
type Operation struct {
	Name    string    `json:"name"`
	Meaning string    `json:"meaning"`
	N       int       `json:"n"`
	Median  float64   `json:"median"`
	P90     float64   `json:"p90"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"` // in the order in which they ended
}

// The operations that are timed, in the order of a volume's life.
const (
	PVCBound        = "pvc-bound"
	PodRunning      = "pod-running"
	PodRunningAgain = "pod-running-again"
	Expanded        = "expanded"
	SnapshotReady   = "snapshot-ready"
	RestoreBound    = "restore-bound"
	CloneBound      = "clone-bound"
	Deleted         = "deleted"
	BurstBound      = "burst-pvc-bound"
	BurstRunning    = "burst-pod-running"
	Recovered       = "recovered"
	IOStall         = "io-stall"
)

// meanings has what begins and ends each operation.
func meanings() [][2]string {
	return [][2]string{
		{PVCBound, "PVC and its pod created → PVC Bound"},
		{PodRunning, "PVC and its pod created → pod Ready"},
		{PodRunningAgain, "pod created with a PVC that has data → pod Ready"},
		{Expanded, "PVC's request raised → its status and the pod see the new size"},
		{SnapshotReady, "VolumeSnapshot created → readyToUse"},
		{RestoreBound, "PVC from a snapshot and its pod created → PVC Bound"},
		{CloneBound, "PVC from a PVC and its pod created → PVC Bound"},
		{Deleted, "PVC that no pod uses deleted → PersistentVolume gone"},
		{BurstBound, "pvc-bound, of many that are created at once"},
		{BurstRunning, "pod-running, of many that are created at once"},
		{Recovered, "driver killed → the interrupted operation has succeeded"},
		{IOStall, "driver killed while a pod writes → the longest of its writes"},
	}
}

// Recorder collects samples. It is used by many scenarios at a time.
type Recorder struct {
	lock    sync.Mutex
	samples map[string][]float64
}

// Add records how long an operation took.
func (t *Recorder) Add(operation string, took time.Duration) {
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.samples == nil {
		t.samples = map[string][]float64{}
	}
	t.samples[operation] = append(t.samples[operation], took.Round(time.Millisecond).Seconds())
}

// Operations summarises what there is.
func (t *Recorder) Operations() []Operation {
	t.lock.Lock()
	defer t.lock.Unlock()
	var all []Operation
	for _, m := range meanings() {
		samples := slices.Clone(t.samples[m[0]])
		if len(samples) == 0 {
			continue
		}
		sorted := slices.Sorted(slices.Values(samples))
		all = append(all, Operation{
			Name: m[0], Meaning: m[1], N: len(sorted), Samples: samples,
			Median: percentile(sorted, 50), P90: percentile(sorted, 90), Max: sorted[len(sorted)-1],
		})
	}
	return all
}

// percentile is the smallest sample that at least p of 100 do not exceed: one that was measured.
func percentile(sorted []float64, p int) float64 {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// Write stores a report.
func (r Report) Write(file string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// Read reads what [Report.Write] wrote.
func Read(file string) (Report, error) {
	var r Report
	data, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("%s: %w", file, err)
	}
	if r.Format != Format {
		return r, fmt.Errorf("%s: format %q, this reads %q", file, r.Format, Format)
	}
	return r, nil
}

// Print shows a report as a table.
func (r Report) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SECONDS\tN\tMEDIAN\tP90\tMAX\tFROM → TO")
	for _, o := range r.Operations {
		fmt.Fprintf(table, "%s\t%d\t%.2f\t%.2f\t%.2f\t%s\n", o.Name, o.N, o.Median, o.P90, o.Max, o.Meaning)
	}
	return table.Flush()
}
