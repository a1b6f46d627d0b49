package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/test/lab"
)

// create makes a volume of the size in MiB.
func create(t testing.TB, b backend.Backend, id backend.ID, size int64) backend.Volume {
	t.Helper()
	v, err := b.Create(t.Context(), backend.Request{ID: id, Name: string(id), Size: size * mib})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func device(t testing.TB, b backend.Backend, id backend.ID) *os.File {
	t.Helper()
	path, err := b.(backend.Activator).Activate(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// mark is what is written at a place.
func mark(at int64) []byte {
	b := host.AlignedBuffer(mib)
	copy(b, bytes.Repeat([]byte{byte(1 + at/mib)}, mib))
	return b
}

func problems(t testing.TB, b backend.Backend, id backend.ID) string {
	t.Helper()
	found, err := b.(backend.Checker).Check(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range found {
		all = append(all, fmt.Sprintf("%d %s: %s", p.Severity, p.Reason, p.Message))
	}
	return strings.Join(all, "\n")
}

// gauges are the figures of a pool, each by its name and part.
func gauges(t testing.TB, b backend.Backend) map[string]float64 {
	t.Helper()
	all, err := b.(backend.Gauger).Gauges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, g := range all {
		values[g.Name+" "+g.Part] = g.Value
	}
	return values
}

func within(t testing.TB, most time.Duration, what string, ok func() bool) {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > most {
			t.Fatalf("%s: not within %v", what, most)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("%s after %v", what, time.Since(start).Round(time.Millisecond))
}

// TestDiskPulled takes a disk away from under volumes: theirs is noticed, the others go on, and a mirror does.
func TestDiskPulled(t *testing.T) {
	if !lab.Run(t, guest(200*mib, 200*mib)) {
		return
	}
	newGroup(t, "vg", 0, 1)
	h := host.New()
	plain := openPool(t, h, map[string]string{"volumeGroup": "vg"})
	mirror := openPool(t, h, map[string]string{"volumeGroup": "vg", "layout": "raid1"})
	create(t, plain, "a", 120)
	create(t, plain, "b", 100)
	create(t, mirror, "m", 20)
	lost, whole := backend.ID("a"), backend.ID("b")
	s, err := plain.(*Thick).groups[0].Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	on := func(id string) []string { return s.On(s.ByTag["volume/main/"+id]) }
	if len(on("a")) != 1 || len(on("b")) != 1 || slices.Equal(on("a"), on("b")) || len(on("m")) != 2 {
		t.Fatalf("a is on %v, b on %v, m on %v: the test needs them apart", on("a"), on("b"), on("m"))
	}
	disk := 0
	if on("a")[0] == "pv1" {
		disk = 1
	}
	pull(t, disk)
	within(t, 10*time.Second, "condition", func() bool { return problems(t, plain, lost) != "" })
	t.Logf("it says: %s", problems(t, plain, lost))
	if n := gauges(t, plain)["volume_group_missing_devices vg"]; n != 1 {
		t.Errorf("%.0f missing devices, want 1", n)
	}
	if got := problems(t, plain, whole); got != "" {
		t.Errorf("the volume on the other disk: %s", got)
	}
	f := device(t, plain, whole)
	if _, err := f.WriteAt(mark(0), 0); err != nil {
		t.Errorf("the volume on the other disk: %v", err)
	}
	f.Close()
	f = device(t, mirror, "m")
	if _, err := f.WriteAt(mark(0), 0); err != nil {
		t.Errorf("the mirror: %v", err)
	}
	f.Close()
	within(t, 10*time.Second, "mirror's condition", func() bool { return strings.Contains(problems(t, mirror, "m"), "RaidDegraded") })
	if _, err := plain.Create(t.Context(), backend.Request{ID: "c", Name: "c", Size: 4 * mib}); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("create in a group that lacks a disk: %v", err)
	}
	if _, err := plain.Get(t.Context(), lost); err != nil {
		t.Errorf("the volume is not lost to its owner: %v", err)
	}
	push(t, disk)
	within(t, 10*time.Second, "well again", func() bool { return problems(t, plain, lost) == "" })
	create(t, plain, "c", 4)
}

// TestRaidComesBack takes all disks away from under a raid, and gives them back: its next user has the data,
// with all disks.
func TestRaidComesBack(t *testing.T) {
	if !lab.Run(t, guest(200*mib, 200*mib, 200*mib)) {
		return
	}
	newGroup(t, "vg", 0, 1, 2)
	for _, layout := range []string{"raid1", "raid5"} {
		b := openPool(t, host.New(), map[string]string{"volumeGroup": "vg", "layout": layout, "wipe": "none"})
		create(t, b, "v", 16)
		f := device(t, b, "v")
		if _, err := f.WriteAt(mark(0), 0); err != nil {
			t.Fatal(err)
		}
		restore := unreachable(t, []int{0, 1, 2})
		if _, err := f.WriteAt(mark(mib), mib); err == nil {
			t.Errorf("%s: written to no disk", layout)
		}
		restore()
		within(t, 30*time.Second, layout+": the disks answer", func() bool { return !strings.Contains(problems(t, b, "v"), "PhysicalVolumeLost") })
		if got := problems(t, b, "v"); !strings.Contains(got, "RaidDegraded") {
			t.Errorf("%s: it is not noticed that legs have failed: %s", layout, got)
		}
		device(t, b, "v").Close() // which must not take it away from who has it open
		f.Close()
		f = device(t, b, "v")
		got := host.AlignedBuffer(mib)
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, mark(0)) {
			t.Errorf("%s: what was written before cannot be read: %v", layout, err)
		}
		if _, err := f.WriteAt(mark(mib), mib); err != nil {
			t.Errorf("%s: %v", layout, err)
		}
		f.Close()
		if got := problems(t, b, "v"); got != "" {
			t.Errorf("%s: %s", layout, got)
		}
		if err := b.Delete(t.Context(), "v"); err != nil {
			t.Error(err)
		}
		b.Close()
	}
}

// TestRaidLost takes the disks of a raid one after another while it is written: the last of them says that
// the others have failed, so the kernel refuses the raid for good. It is told so, and can still be deleted.
func TestRaidLost(t *testing.T) {
	if !lab.Run(t, guest(200*mib, 200*mib, 200*mib)) {
		return
	}
	newGroup(t, "vg", 0, 1, 2)
	b := openPool(t, host.New(), map[string]string{"volumeGroup": "vg", "layout": "raid5", "wipe": "none"})
	defer b.Close()
	create(t, b, "v", 16)
	f := device(t, b, "v")
	for disk := range 3 {
		pull(t, disk)
		for range 2 { // the second only goes on after the first one's failure is written
			_, err := f.WriteAt(mark(0), 0)
			t.Logf("without %d of 3 disks: %v", disk+1, err)
		}
		time.Sleep(time.Second) // beyond what a raid can lack, writes fail before it is written
	}
	f.Close()
	push(t, 0, 1, 2)
	_, err := b.(backend.Activator).Activate(t.Context(), "v")
	t.Logf("it says: %v", err)
	if !errs.Is(err, errs.Internal) || !strings.Contains(err.Error(), "dmesg") {
		t.Errorf("a raid that the kernel refuses: %v", err)
	}
	if _, err := b.Get(t.Context(), "v"); err != nil {
		t.Errorf("it is not lost to its owner: %v", err)
	}
	if err := b.Delete(t.Context(), "v"); err != nil {
		t.Error(err)
	}
}

// TestThinPoolFull fills a thin pool to the brim: no data is lost, and with more room all goes on.
func TestThinPoolFull(t *testing.T) {
	if !lab.Run(t, guest(400*mib)) {
		return
	}
	newGroup(t, "vg", 0)
	options := map[string]string{"volumeGroup": "vg", "type": "thin", "thinPoolSize": "64Mi", "overprovision": "3", "autoExtend": "0"}
	b := openPool(t, host.New(), options)
	create(t, b, "a", 96)
	f := device(t, b, "a")
	defer f.Close()
	var written atomic.Int64
	done := make(chan error, 1)
	go func() {
		for at := int64(0); at < 96*mib; at += mib {
			if _, err := f.WriteAt(mark(at), at); err != nil {
				done <- err
				return
			}
			written.Store(at + mib)
		}
		done <- f.Sync()
	}()
	within(t, 30*time.Second, "full", func() bool { return strings.Contains(problems(t, b, "a"), "ThinPoolFull") })
	t.Logf("after %d MiB it says: %s", written.Load()/mib, problems(t, b, "a"))
	_, err := b.Create(t.Context(), backend.Request{ID: "b", Name: "b", Size: 4 * mib})
	if !errs.Is(err, errs.NoSpace) || !strings.Contains(err.Error(), "it is full") {
		t.Errorf("create in a full thin pool: %v", err)
	}
	t.Logf("create says: %v", err)
	if c, err := b.Capacity(t.Context(), ""); err != nil || c.Available != 0 || c.MaxVolume != 0 {
		t.Errorf("a full thin pool has the capacity %+v, %v", c, err)
	}
	brim := gauges(t, b)
	t.Logf("figures: %v", brim)
	size := brim["thin_pool_size_bytes vg/dozo.main"]
	if brim["thin_pool_data_used_ratio vg/dozo.main"] != 1 || size != 64*mib || brim["thin_pool_promised_bytes vg/dozo.main"] != 96*mib ||
		brim["thin_pool_metadata_used_ratio vg/dozo.main"] <= 0 || brim["volume_group_volumes_left vg"] < 100 || brim["volume_group_missing_devices vg"] != 0 {
		t.Errorf("figures of a full thin pool of 64Mi with a volume of 96Mi: %v", brim)
	}
	got := host.AlignedBuffer(mib)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, mark(0)) {
		t.Errorf("what was written before cannot be read: %v", err)
	}

	options["autoExtend"] = "50"
	defer openPool(t, host.New(), options).Close()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("the write that waited: %v", err)
		}
	case <-time.After(45 * time.Second):
		t.Fatal("the write that waited does not go on")
	}
	for at := int64(0); at < 96*mib; at += mib {
		if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, mark(at)) {
			t.Errorf("at %d MiB there is not what was written: %v", at/mib, err)
		}
	}
	within(t, 20*time.Second, "well again", func() bool { return problems(t, b, "a") == "" })
	after := gauges(t, b)
	t.Logf("figures: %v", after)
	if got := after["thin_pool_size_bytes vg/dozo.main"]; got <= size {
		t.Errorf("of the thin pool it says that it has %.0f bytes, %.0f before it was extended", got, size)
	}
	if got, want := after["thin_pool_data_used_ratio vg/dozo.main"]*after["thin_pool_size_bytes vg/dozo.main"], float64(96*mib); got < want || got > want+2*mib {
		t.Errorf("of the thin pool %.0f bytes are in use, want %.0f", got, want)
	}
}

// programs counts those that are run.
type programs struct{ n atomic.Int64 }

func (p *programs) seam(e host.Effect, do func() error) error {
	if e.Program {
		p.n.Add(1)
	}
	return do()
}

func (p *programs) take() int64 { return p.n.Swap(0) }

// TestCommands counts LVM's commands for each call, in groups with no LVs and with many. All but the
// latter's own are the same.
func TestCommands(t *testing.T) {
	if !lab.Run(t, guest(3<<30)) {
		return
	}
	lab.Output(t, "vgcreate", "--physicalextentsize", "1m", "--metadatasize", "64m", "vg", lab.DiskPath(0))
	for _, many := range []int{0, 100, 300, 1000} {
		bulk(t, "vg", many)
		count(t, many)
	}
}

// bulk makes LVs of ours.
func bulk(t testing.TB, group string, n int) {
	t.Helper()
	lab.FillGroup(t, group, n, 1, func(i int) string { return fmt.Sprintf("dozo=volume/main/pvc-2f6a4f6e-8c0e-4c5e-9d2f-%012d", i) })
}

func count(t *testing.T, many int) {
	p := &programs{}
	h := host.New()
	h.Seam = p.seam
	b := openPool(t, h, map[string]string{"volumeGroup": "vg", "wipe": "none"})
	defer b.Close()
	opening := p.take()
	x := b.(*Thick)
	ctx := t.Context()
	type call struct {
		name string
		want int64
		do   func() error
	}
	for _, c := range []call{
		{"create", 1, func() error { create(t, b, "v", 4); return nil }},
		{"create again", 0, func() error { create(t, b, "v", 4); return nil }},
		{"activate", 0, func() error { _, err := x.Activate(ctx, "v"); return err }},
		{"get", 0, func() error { _, err := b.Get(ctx, "v"); return err }},
		{"list", 0, func() error {
			n := 0
			for _, err := range b.List(ctx) {
				if err != nil {
					return err
				}
				n++
			}
			if n != many+1 {
				return fmt.Errorf("%d volumes of %d", n, many+1)
			}
			return nil
		}},
		{"capacity", 0, func() error { _, err := b.Capacity(ctx, ""); return err }},
		{"gauges", 0, func() error { _, err := x.Gauges(ctx); return err }},
		{"check", 0, func() error { _, err := x.Check(ctx, "v"); return err }},
		{"expand", 1, func() error { _, err := x.Expand(ctx, "v", 8*mib); return err }},
		{"deactivate", 0, func() error { return x.Deactivate(ctx, "v") }},
		{"delete", 1, func() error { return b.Delete(ctx, "v") }},
		{"delete again", 0, func() error { return b.Delete(ctx, "v") }},
		{"5 deletes at once", 2, func() error { return together(t, b, p) }},
	} {
		start := time.Now()
		err := c.do()
		took := time.Since(start)
		got := p.take()
		if err != nil || got != c.want && c.name != "5 deletes at once" || got > c.want {
			t.Errorf("%d LVs, %s: %d programs, want %d; %v", many, c.name, got, c.want, err)
		}
		fmt.Printf("lvm: %4d LVs, %-17s %d commands, %8.1f ms\n", many, c.name+":", got, float64(took.Microseconds())/1000)
	}
	if opening != 1 {
		t.Errorf("opening took %d programs, want 1", opening)
	}
	fmt.Printf("lvm: %4d LVs, %.0f more volumes fit\n", many, gauges(t, b)["volume_group_volumes_left vg"])
}

// together deletes volumes at once: the first goes alone, the others go together.
func together(t *testing.T, b backend.Backend, p *programs) error {
	ids := []backend.ID{"v1", "v2", "v3", "v4", "v5"}
	for _, id := range ids {
		create(t, b, id, 4)
	}
	p.take()
	failures := make(chan error, len(ids))
	for _, id := range ids {
		go func() { failures <- b.Delete(t.Context(), id) }()
	}
	var all error
	for range ids {
		all = errors.Join(all, <-failures)
	}
	return all
}

// TestMetadataFull fills a small metadata area.
func TestMetadataFull(t *testing.T) {
	if !lab.Run(t, guest(3<<30)) {
		return
	}
	lab.Output(t, "vgcreate", "--physicalextentsize", "1m", "vg", lab.DiskPath(0))
	bulk(t, "vg", 900)
	b := openPool(t, host.New(), map[string]string{"volumeGroup": "vg", "wipe": "none"})
	left := gauges(t, b)["volume_group_volumes_left vg"]
	if left == 0 {
		t.Fatal("with 900 LVs none more fits")
	}
	bulk(t, "vg", 900+int(left)-2)
	create(t, b, "last", 4)
	if err := b.Delete(t.Context(), "last"); err != nil {
		t.Fatal(err)
	}
	s, err := b.(*Thick).groups[0].Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	each := s.TextSize / int64(len(s.LVs))
	for n := int((s.Most - 4000) / each); left > 0; n++ {
		bulk(t, "vg", n)
		left = gauges(t, b)["volume_group_volumes_left vg"]
	}
	_, err = b.Create(t.Context(), backend.Request{ID: "v", Name: "v", Size: 4 * mib})
	if !errs.Is(err, errs.NoSpace) || !strings.Contains(err.Error(), "metadata") {
		t.Errorf("create with full metadata: %v", err)
	}
	t.Logf("it says: %v", err)
	if c, err := b.Capacity(t.Context(), ""); err != nil || c.MaxVolume != 0 {
		t.Errorf("capacity %+v, %v", c, err)
	}
}
