package metadata

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// device is the first MiB of a physical volume as LVM 2.03.16 wrote it.
func device(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// text is what the reader does with a device.
func text(dev []byte) (string, error) {
	l, err := ParseLabel(dev[:LabelSize])
	if err != nil {
		return "", err
	}
	a := l.Areas[0]
	h, _, err := ParseHeader(dev[a.Offset:], a)
	if err != nil {
		return "", err
	}
	from := a.Offset + h.Offset
	return Text(dev[from:from+h.Size], h.Checksum)
}

func TestLabel(t *testing.T) {
	l, err := ParseLabel(device(t, "full-pv0")[:LabelSize])
	if err != nil {
		t.Fatal(err)
	}
	want := Label{UUID: "17m8b3-XeyM-0gQ0-6SOG-zagm-c2Xs-mpVbvu", Size: 512 << 20, Areas: []Area{{4096, 1020 << 10}}}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Error(diff)
	}
	if n := l.Areas[0].Most(); n != 521472 {
		t.Errorf("%d bytes of metadata fit; LVM says 521472", n)
	}
}

func TestEmptyGroup(t *testing.T) {
	s, err := text(device(t, "empty-pv0"))
	if err != nil {
		t.Fatal(err)
	}
	vg, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	if vg.Name != "vg" || vg.Seqno != 1 || vg.ExtentSize != 4<<20 || len(vg.PVs) != 3 || len(vg.LVs) != 0 {
		t.Errorf("%+v", vg)
	}
	if vg.PVs[0].Free != 127 || vg.PVs[2].Free != 63 || !vg.PVs[1].Allocatable {
		t.Errorf("%+v", vg.PVs)
	}
}

// TestFullGroup compares with what lvs and pvs showed at the time, and with the file of vgcfgbackup.
func TestFullGroup(t *testing.T) {
	s, err := text(device(t, "full-pv0"))
	if err != nil {
		t.Fatal(err)
	}
	vg, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	backup, err := os.ReadFile("testdata/full.vgcfgbackup")
	if err != nil {
		t.Fatal(err)
	}
	same, err := Parse(string(backup))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []*VG{vg, same} {
		v.TextSize = 0
		for _, l := range v.LVs {
			l.TextSize, l.text = 0, "" // comments are in one of them only
		}
	}
	if diff := cmp.Diff(same, vg, cmp.AllowUnexported(LV{})); diff != "" {
		t.Errorf("vgcfgbackup and disk differ:\n%s", diff)
	}
	for i, free := range []int64{380 / 4, 440 / 4, 236 / 4} {
		if vg.PVs[i].Free != free {
			t.Errorf("%s has %d free extents, pvs said %d", vg.PVs[i].Key, vg.PVs[i].Free, free)
		}
	}
	for name, mib := range map[string]int64{
		"dozo.main.pvc-1": 12, "integ": 16, "mirrored": 16, "r5": 16, "snap": 4, "striped": 16, "t1": 100, "tp": 40,
	} {
		if l := vg.LVs[name]; l == nil || vg.Size(l) != mib<<20 {
			t.Errorf("%s: %+v, lvs said %d MiB", name, l, mib)
		}
	}
	for name, on := range map[string]string{
		"dozo.main.pvc-1": "pv0", "striped": "pv0 pv1", "integ": "pv0 pv1", "r5": "pv0 pv1 pv2", "t1": "pv0 pv2", "tp": "pv0 pv2",
	} {
		if got := strings.Join(vg.On(vg.LVs[name]), " "); got != on {
			t.Errorf("%s is on %s, lvs said %s", name, got, on)
		}
	}
}

func TestDetails(t *testing.T) {
	s, err := text(device(t, "full-pv0"))
	if err != nil {
		t.Fatal(err)
	}
	vg, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	v := vg.LVs["dozo.main.pvc-1"]
	if id, ok := v.Tag("dozo"); !ok || id != "volume/main/pvc-1" {
		t.Errorf("tags %q", v.Tags)
	}
	if got := vg.DeviceUUID(v); got != "LVM-GsiEvnbI0dB07Jn6CQQEjEJE3fS2ll6FJeyZ6zVIggvZypglGBg66zgMn2m1aH74" {
		t.Error(got)
	}
	if got := vg.Snapshots(v.Name); !cmp.Equal(got, []string{"snap"}) {
		t.Errorf("snapshots %q", got)
	}
	copied := vg.LVs["t1s"]
	if !copied.Skipped || copied.Segments[0].Origin != "t1" || copied.Segments[0].Pool != "tp" || copied.Created.Unix() != 1795362040 {
		t.Errorf("%+v", copied)
	}
	if vg.LVs["tp_tdata"].Visible {
		t.Error("a thin pool's data is not hidden")
	}
}

// TestDamage changes one byte at a time where the header and the text are: none may go unnoticed.
func TestDamage(t *testing.T) {
	good := device(t, "full-pv0")
	want, err := text(good)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := ParseLabel(good[:LabelSize])
	h, _, _ := ParseHeader(good[l.Areas[0].Offset:], l.Areas[0])
	at := []int64{512 + 32, 512 + 100, 512 + 511}
	for n := range int64(64) {
		at = append(at, 4096+n)
	}
	for n := int64(0); n < h.Size; n += 997 {
		at = append(at, 4096+h.Offset+n)
	}
	for _, n := range at {
		bad := bytes.Clone(good)
		bad[n] ^= 0x10
		if got, err := text(bad); err == nil && got != want {
			t.Errorf("byte %d changed, and nobody noticed", n)
		}
	}
}

func TestRefused(t *testing.T) {
	good := `contents = "x" version = 1 vg { id = "GsiEvn-bI0d-B07J-n6CQ-QEjE-JE3f-S2ll6F" seqno = 1 extent_size = 8192 status = ["READ"] physical_volumes { } }`
	if _, err := Parse(good); err != nil {
		t.Fatalf("what the others are made of: %v", err)
	}
	for old, wrong := range map[string]string{
		"version = 1": "version = 2", "seqno = 1": "", "8192": "0", "{ } }": "{ }", `["READ"]`: `["READ"`, `"x"`: `"x`,
		"= 1 vg": "= 1 x { } vg", "vg {": "vg", "GsiEvn": "G", "extent_size": "seqno", "{ }": `{ pv0 { } }`, "contents": "{",
		"physical_volumes { }": strings.Repeat("a { ", 20) + strings.Repeat("} ", 20),
	} {
		if vg, err := Parse(strings.Replace(good, old, wrong, 1)); err == nil {
			t.Errorf("%q for %q: %+v, want an error", wrong, old, vg)
		}
	}
}

// TestParseAfter: what has not changed is taken over, what has is read, whatever there was before.
func TestParseAfter(t *testing.T) {
	s, err := text(device(t, "full-pv0"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	const tag = "dozo=volume/main/pvc-1"
	changed := strings.Replace(s, tag, "dozo=volume/main/pvc-9", 1)
	for name, now := range map[string]string{
		"the same": s, "a tag": changed,
		"a name":           strings.Replace(s, "dozo.main.pvc-1 {", "dozo.main.pvc-2 {", 1),
		"one twice":        strings.Replace(s, "logical_volumes {", "logical_volumes {\nt1s {\n}\n", 1),
		"in another place": strings.Replace(s, "physical_volumes {", "physical_volumes {\n"+before.LVs["t1s"].text, 1),
	} {
		want, wrong := Parse(now)
		got, err := ParseAfter(before, now)
		if !reflect.DeepEqual(got, want) || (err == nil) != (wrong == nil) {
			t.Errorf("%s: %+v (%v), want %+v (%v)", name, got, err, want, wrong)
		}
	}
	after, err := ParseAfter(before, changed)
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range after.LVs {
		if same := l == before.LVs[name]; same == (name == "dozo.main.pvc-1") {
			t.Errorf("%s was taken over: %v", name, same)
		}
	}
}

func FuzzParse(f *testing.F) {
	backup, err := os.ReadFile("testdata/full.vgcfgbackup")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(backup))
	f.Add(`version = 1 vg { id = "" status = [] }`)
	f.Add(`a = "\"`)
	earlier, err := Parse(string(backup))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		vg, err := Parse(s)
		if after, failed := ParseAfter(earlier, s); !reflect.DeepEqual(after, vg) || (failed == nil) != (err == nil) {
			t.Errorf("after another text it is %+v (%v), not %+v (%v)", after, failed, vg, err)
		}
		if err != nil {
			return
		}
		for _, l := range vg.LVs { // what callers do with it
			_, _ = vg.On(l), vg.Size(l)
			_, _ = vg.DeviceUUID(l), vg.Snapshots(l.Name)
		}
		for _, p := range vg.PVs {
			if p.Free < 0 || p.Free > p.Extents {
				t.Errorf("%+v", p)
			}
		}
	})
}

func FuzzDisk(f *testing.F) {
	dev := device(f, "full-pv0")
	f.Add(dev[:LabelSize], dev[4096:4096+HeaderSize])
	f.Fuzz(func(t *testing.T, label, header []byte) {
		l, err := ParseLabel(label)
		if err != nil {
			return
		}
		for _, a := range l.Areas {
			if h, ok, err := ParseHeader(header, a); err == nil && ok && (h.Offset < HeaderSize || h.Offset >= a.Size || h.Size > a.Size) {
				t.Errorf("%+v in %+v", h, a)
			}
		}
	})
}

// BenchmarkParse reads a group with 1,000 LVs of which one has changed.
func BenchmarkParse(b *testing.B) {
	var lvs strings.Builder
	for n := range 1000 {
		fmt.Fprintf(&lvs, `
		dozo.fast.pvc-%[1]d {
			id = "Iggypg-lGBg-66zg-Mn2m-1aH7-%04[1]d-aaaaaa"
			status = ["READ", "WRITE", "VISIBLE"]
			flags = []
			tags = ["dozo=volume/fast/pvc-%[1]d", "dozo.mark=xfs:done"]
			creation_time = 1795362040
			creation_host = "n1"
			segment_count = 1

			segment1 {
				start_extent = 0
				extent_count = 1
				type = "striped"
				stripe_count = 1
				stripes = ["pv0", %[1]d]
			}
		}`, n)
	}
	text := `version = 1 vg { id = "GsiEvn-bI0d-B07J-n6CQ-QEjE-JE3f-S2ll6F" seqno = 1 extent_size = 8192 status = ["READ"]
	physical_volumes { pv0 { id = "GsiEvn-bI0d-B07J-n6CQ-QEjE-JE3f-S2ll6G" status = ["ALLOCATABLE"] flags = [] pe_count = 2000 } }
	logical_volumes {` + lvs.String() + "} }"
	before, err := Parse(strings.Replace(text, "pvc-500\"", "other\"", 1))
	if err != nil {
		b.Fatal(err)
	}
	for name, earlier := range map[string]*VG{"anew": nil, "after": before} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := ParseAfter(earlier, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
