package dm

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/lab"
)

func spec(start, length uint64, next uint32, kind, params string) []byte {
	b := make([]byte, 40, 64)
	binary.NativeEndian.PutUint64(b, start)
	binary.NativeEndian.PutUint64(b[8:], length)
	binary.NativeEndian.PutUint32(b[20:], next)
	copy(b[24:], kind)
	return append(append(b, params...), 0)
}

func TestParseTargets(t *testing.T) {
	first := append(spec(0, 8, 48, "linear", "98:16 0"), make([]byte, 0)...)
	b := append(first, spec(8, 8, 96, "error", "")...)
	got, err := parseTargets(b, 2)
	want := []Target{{0, 4096, "linear", "98:16 0"}, {4096, 4096, "error", ""}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for n := range 80 {
		if got, err := parseTargets(b[:n], 2); err == nil {
			t.Errorf("the first %d bytes: %+v, want an error", n, got)
		}
	}
}

func TestParseNames(t *testing.T) {
	entry := func(dev uint64, next uint32, name string) []byte {
		b := make([]byte, 12, 24)
		binary.NativeEndian.PutUint64(b, dev)
		binary.NativeEndian.PutUint32(b[8:], next)
		return append(append(b, name...), make([]byte, 24-12-len(name))...)
	}
	for what, c := range map[string]struct {
		data []byte
		want []string
		bad  bool
	}{
		"nothing":  {nil, nil, false},
		"none":     {entry(0, 0, ""), nil, false},
		"two":      {append(entry(1, 24, "a"), entry(2, 0, "vg-b")...), []string{"a", "vg-b"}, false},
		"no end":   {entry(1, 24, "a"), nil, true},
		"too far":  {entry(1, 400, "a"), nil, true},
		"in a row": {entry(1, 3, "a"), nil, true},
	} {
		got, err := parseNames(c.data)
		if (err != nil) != c.bad || !c.bad && !cmp.Equal(got, c.want) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

func TestNoDeviceMapper(t *testing.T) {
	h := host.New()
	h.Roots.Dev = t.TempDir()
	if _, err := Find(h, "LVM-x"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("%v, want errs.Unavailable: nobody was asked", err)
	}
	h.Seam = func(host.Effect, func() error) error { return errors.New("broken") }
	if _, err := Status(h, "LVM-x"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("%v, want errs.Unavailable", err)
	}
}

// TestKernel asks a real device mapper.
func TestKernel(t *testing.T) {
	if !lab.Run(t, lab.Guest{Disks: []lab.Disk{{Size: 8 << 20}}, Modules: []string{"dm-mod"}, Programs: []string{"dmsetup"}}) {
		return
	}
	h := host.New()
	if names, err := List(h); err != nil || len(names) != 0 {
		t.Fatalf("with no device: %q, %v", names, err)
	}
	if d, err := Find(h, "DOZO-test"); !errs.Is(err, errs.NotFound) {
		t.Fatalf("%+v, %v", d, err)
	}
	lab.Output(t, "dmsetup", "create", "--noudevsync", "--noudevrules", "test", "--uuid", "DOZO-test", "--table", "0 2048 linear "+lab.DiskPath(0)+" 1024")
	d, err := Find(h, "DOZO-test")
	if err != nil || d.Name != "test" || d.UUID != "DOZO-test" || !d.Live || d.Suspended || d.Open != 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	if size, err := h.DeviceSize("test", d.Path(h)); err != nil || size != 1<<20 {
		t.Errorf("%s has %d bytes, %v", d.Path(h), size, err)
	}
	if named, err := Named(h, "test"); err != nil || named != d {
		t.Errorf("%+v, %v", named, err)
	}
	if table, err := Table(h, d.UUID); err != nil || len(table) != 1 || table[0].Params != "98:16 1024" {
		t.Errorf("%+v, %v", table, err)
	}
	if status, err := Status(h, d.UUID); err != nil || len(status) != 1 || status[0].Type != "linear" || status[0].Length != 1<<20 {
		t.Errorf("%+v, %v", status, err)
	}
	lab.Output(t, "dmsetup", "suspend", "test")
	if d, err := Find(h, "DOZO-test"); err != nil || !d.Suspended {
		t.Errorf("suspended: %+v, %v", d, err)
	}
	if names, err := List(h); err != nil || !cmp.Equal(names, []string{"test"}) {
		t.Errorf("%q, %v", names, err)
	}
}
