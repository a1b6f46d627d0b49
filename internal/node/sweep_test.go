package node

import (
	"slices"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
)

// stale has the node remember a volume from before it restarted, as its record is after a change.
func (b *bench) stale(s StageRequest, change func(*record)) {
	b.t.Helper()
	b.stage(s)
	rec, err := b.node.load(s.Volume)
	if err != nil {
		b.t.Fatal(err)
	}
	b.unstage(s)
	rec.Boot = "another"
	change(rec)
	if err := b.node.save("test", rec); err != nil {
		b.t.Fatal(err)
	}
}

func TestRecordsOfAnEarlierBoot(t *testing.T) {
	b := newBench(t)
	b.disk("v1", 32*mib)
	s := request(b, "v1", "ext4")
	p := b.publishRequest(s, "target")
	b.stale(s, func(r *record) { r.Staging, r.Targets = "/somewhere/else", []target{{Path: p.Target}} })
	errstest.Refused(t, "Publish of what was staged before a reboot", b.node.Publish(b.ctx, p), errs.InUse, "not staged")
	problems, err := b.node.Health(b.ctx, s.Volume)
	if err != nil || len(problems) != 1 || problems[0].Reason != ReasonBeforeReboot {
		t.Errorf("Health: %+v, %v", problems, err)
	}
	b.stage(s)
	b.publish(p)
	b.unpublish(p)
	b.unstage(s)
}

// TestSweepRecords: of what was staged before the node restarted nothing is left, unless it was staged again, or its pod has it; and what
// cannot be asked for stays until it can.
func TestSweepRecords(t *testing.T) {
	b := newBench(t)
	recorded := func() (all []string) {
		t.Helper()
		records, err := b.node.records()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			all = append(all, r.Volume)
		}
		return all
	}
	var all []StageRequest
	for _, id := range []backend.ID{"v1", "v2", "v3", "v4"} {
		b.disk(id, 32*mib)
		all = append(all, request(b, id, "ext4"))
	}
	b.stale(all[0], func(*record) {})
	b.stale(all[1], func(r *record) { r.Access.Local.Pool = "none" })
	b.stale(all[2], func(r *record) { r.Version, r.Inline = inlineRecord, &inline{Size: 32 * mib} })
	b.stale(all[3], func(*record) {})
	b.stage(all[3])
	for range 2 {
		errstest.Refused(t, "a sweep of what cannot be asked for", b.node.Sweep(b.ctx), errs.Unavailable, all[1].Volume, "none")
		if got, want := recorded(), []string{all[1].Volume, all[2].Volume, all[3].Volume}; !slices.Equal(got, want) {
			t.Errorf("records of %v, want %v", got, want)
		}
	}
	b.well(all[3])
	b.unstage(all[3])
	for _, s := range all[:2] {
		b.stage(s)
		b.unstage(s)
	}
	if err := b.node.forget("test", all[2].Volume); err != nil {
		t.Error(err)
	}
}
