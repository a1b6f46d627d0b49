package fs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
)

// loop is a blank device of a size.
func loop(t *testing.T, size int64) string {
	t.Helper()
	hosttest.NeedRoot(t)
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	device := strings.TrimSpace(hosttest.Command(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { hosttest.Command(t, "losetup", "--detach", device) })
	return device
}

// TestMarksOutliveMkfs: whatever is made on a device, and however large that is, a mark is left until it is cleared.
func TestMarksOutliveMkfs(t *testing.T) {
	for _, kind := range Types() {
		for _, size := range []int64{320 << 20, 1 << 30, 10 << 30, 100 << 30} {
			h, device := host.New(), loop(t, size)
			o := NewOnDevice(h, device, "disk", "")
			if err := o.SetMark(t.Context(), backend.Mark{FS: kind}); err != nil {
				t.Fatal(err)
			}
			if err := mkfs(t.Context(), h, Request{Device: device, NoDiscard: true}, kind, true); err != nil {
				t.Fatal(err)
			}
			left, err := NewOnDevice(h, device, "disk", "").read(t.Context())
			if err != nil || len(left) < 2 {
				t.Errorf("%s of %d bytes: %d marks left, %v", kind, size, len(left), err)
			}
			t.Logf("%s of %d MiB: %d of %d marks left", kind, size>>20, len(left), len(markPlaces(size)))
			if _, known, err := NewOnDevice(h, device, "a copy", "").Mark(t.Context()); err != nil || !known {
				t.Error(err)
			}
			if err := o.SetMark(t.Context(), backend.Mark{FS: kind, Done: true}); err != nil {
				t.Fatal(err)
			}
			if m, _, err := NewOnDevice(h, device, "disk", "").Mark(t.Context()); err != nil || m != (backend.Mark{}) {
				t.Errorf("%s: %+v is left, %v", kind, m, err)
			}
			check := map[string][]string{"ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check", "--readonly"}}[kind]
			hosttest.Command(t, check[0], append(check[1:], device)...)
		}
	}
}

// TestMarkOfAnother: the marks of a disk are not those of its copy.
func TestMarkOfAnother(t *testing.T) {
	h, device := host.New(), loop(t, 64<<20)
	if err := NewOnDevice(h, device, "disk", "").SetMark(t.Context(), backend.Mark{FS: "ext4"}); err != nil {
		t.Fatal(err)
	}
	other := NewOnDevice(h, device, "copy", "")
	if m, known, err := other.Mark(t.Context()); m != (backend.Mark{}) || !known || err != nil {
		t.Errorf("%+v, %v, %v", m, known, err)
	}
	if err := other.SetMark(t.Context(), backend.Mark{FS: "ext4"}); !errs.Is(err, errs.InUse) {
		t.Errorf("a copy with marks was taken for blank: %v", err)
	}
}

// TestMarkOfTheFirstStage: what was made first is remembered until what comes after it is there too.
func TestMarkOfTheFirstStage(t *testing.T) {
	h, device := host.New(), loop(t, 64<<20)
	for _, m := range []backend.Mark{{FS: "luks2"}, {FS: "luks2", Done: true}, {FS: "luks2/ext4"}} {
		if err := NewOnDevice(h, device, "disk", "luks2").SetMark(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got, _, err := NewOnDevice(h, device, "disk", "luks2").Mark(t.Context()); got != m || err != nil {
			t.Errorf("%+v, %v, want %+v", got, err, m)
		}
	}
	o := NewOnDevice(h, device, "disk", "luks2")
	if err := o.SetMark(t.Context(), backend.Mark{FS: "luks2/ext4", Done: true}); err != nil {
		t.Fatal(err)
	}
	if err := refuseUnlessBlank(t.Context(), h, device, 64<<20); err != nil {
		t.Errorf("something is left: %v", err)
	}
}

// TestTold: what was told to be raw is used if it has a file system, and else stays as it is, though it looks blank wherever anybody looks.
func TestTold(t *testing.T) {
	h, device := host.New(), loop(t, 320<<20)
	raw := Told{FS: Raw, Done: true}
	look := func() (kind string, err error) {
		return Ensure(t.Context(), h, Request{Device: device, NoDiscard: true}, raw)
	}
	if _, err := look(); !errs.Is(err, errs.InUse) {
		t.Errorf("a blank one: %v", err)
	}
	if err := refuseUnlessBlank(t.Context(), h, device, 320<<20); err != nil {
		t.Errorf("it was written to: %v", err)
	}
	if err := mkfs(t.Context(), h, Request{Device: device}, "xfs", false); err != nil {
		t.Fatal(err)
	}
	if kind, err := look(); kind != "xfs" || err != nil {
		t.Errorf("with a file system: %q, %v", kind, err)
	}
	if err := MarkRaw(t.Context(), raw); err != nil {
		t.Error(err)
	}
}

func TestMarkPlacesStay(t *testing.T) {
	const most = 1 << 46
	all := markPlaces(most)
	for size := int64(1 << 20); size < most; size *= 2 {
		some := markPlaces(size)
		if !slices.Equal(some, all[:len(some)]) || some[len(some)-1]+markBlock > size {
			t.Errorf("%d: %v", size, some)
		}
	}
	for _, at := range all {
		if at%4096 != 0 || slices.Contains(superOffsets(), at) {
			t.Errorf("at %d", at)
		}
	}
}

func FuzzParseMark(f *testing.F) {
	b := make([]byte, markBlock)
	if err := formatMark(b, written{"disk", backend.Mark{FS: "ext4"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := parseMark(b, "disk"); ok && (m.FS == "" || !strings.HasPrefix(string(b), markMagic)) {
			t.Errorf("%q is %+v", b, m)
		}
		for i := range min(len(b), 80) { // a mark with one bit changed is none
			c := slices.Clone(b)
			c[i] ^= 1
			_, was := parseMark(b, "disk")
			if _, ok := parseMark(c, "disk"); ok && was {
				t.Errorf("changed at %d it is still a mark: %q", i, c[:120])
			}
		}
	})
}
