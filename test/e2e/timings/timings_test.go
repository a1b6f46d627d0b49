package timings

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestPercentiles(t *testing.T) {
	var r Recorder
	for _, ms := range []int{900, 100, 300, 200, 500, 400, 600, 700, 1000, 800} {
		r.Add(PVCBound, time.Duration(ms)*time.Millisecond)
	}
	r.Add(Deleted, 2*time.Second)
	all := r.Operations()
	if len(all) != 2 || all[0].Name != PVCBound || all[1].Name != Deleted {
		t.Fatalf("operations are not in the order of a volume's life: %+v", all)
	}
	if o := all[0]; o.N != 10 || o.Median != 0.5 || o.P90 != 0.9 || o.Max != 1 || o.Samples[0] != 0.9 {
		t.Errorf("ten samples of 0.1 to 1 s: %+v", o)
	}
	if o := all[1]; o.Median != 2 || o.P90 != 2 || o.Max != 2 {
		t.Errorf("one sample of 2 s: %+v", o)
	}
}

func TestFile(t *testing.T) {
	var recorder Recorder
	recorder.Add(Expanded, 1234*time.Millisecond)
	written := Report{Format: Format, Unit: "seconds", Driver: "d", Started: time.Unix(0, 0).UTC(), Operations: recorder.Operations()}
	file := filepath.Join(t.TempDir(), "new", "timings.json")
	if err := written.Write(file); err != nil {
		t.Fatal(err)
	}
	read, err := Read(file)
	if err != nil || !reflect.DeepEqual(read, written) {
		t.Fatalf("wrote %+v, read %+v, %v", written, read, err)
	}
	var table strings.Builder
	if err := read.Print(&table); err != nil || !strings.Contains(table.String(), "expanded  1  1.23    1.23  1.23") {
		t.Errorf("%v\n%s", err, table.String())
	}
	written.Format = "another/2"
	if err := written.Write(file); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err == nil {
		t.Error("a file of another format was read")
	}
}
