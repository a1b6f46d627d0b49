package synology_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// kindOf is an error's kind in words.
func kindOf(err error) string { return errs.KindOf(err).String() }

// TestMaskIsTrue: what the kind says of its pools is what they can.
func TestMaskIsTrue(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	if got, want := pool.Find(b.open(nil)).Mask(), synology.Kind().Mask(nil); got != want {
		t.Errorf("pools have %+v, the kind says %+v", got, want)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, words string }{
		{"url", "", "https"}, {"url", "http://nas:5000", "https"}, {"url", "https://u:p@nas:5001", "more than"}, {"url", "https://nas\x7f", "none"},
		{"fingerprint", "xx", "SHA-256"}, {"ca", "no certificate", "PEM"}, {"protocol", "nvme", "none of"}, {"users", "k8s,WORK\\k8s", "user of DSM"}, {"location", "volume1", "/volume1"},
		{"portals", "10.0.0.1:0", "host:port"}, {"portals", "a b;c", "host:port"}, {"server", "a/b", "server:/path"}, {"targets", "pool", "none of"},
		{"allow", "10.0.0.0/33", "network"}, {"allow", "*", "network"}, {"clusterID", "a b", "letters"}, {"colour", "red", "unknown"},
	} {
		given := map[string]string{"url": "https://nas:5001", c.name: c.value}
		options, err := backend.Complete("options", synology.Kind().Options, given)
		if err == nil {
			_, err = synology.Kind().Open(t.Context(), backend.Config{Pool: "nas", Options: options, Secrets: map[string][]byte{"username": []byte("u"), "password": []byte("p")}})
		}
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.words) || !strings.Contains(err.Error(), c.name) || strings.Contains(err.Error(), ":p@") {
			t.Errorf("%s=%q: %v", c.name, c.value, err)
		}
	}
}

// TestDownAtStart: a pool opens while its NAS is down, says so, and works once it is there.
func TestDownAtStart(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	fine(t, b.server.Stop())
	p, ctx := b.open(nil), t.Context()
	_, err := p.Create(ctx, request("a"))
	is(t, err, errs.Unavailable)
	_, err = p.Capacity(ctx, "")
	is(t, err, errs.Unavailable)
	fine(t, b.server.Start())
	b.create(p, "a")
}

// TestGrowsAfterRestart is what expansion is for: 10 GiB become 15 GiB while a node has the volume, also when the NAS restarts in the middle.
func TestGrowsAfterRestart(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, protocol := range []string{"iscsi", "nfs", "smb"} {
		for _, method := range []string{"set", "get"} {
			b := newBed(t, dsmsim.Config{Dir: t.TempDir()})
			p, ctx := b.open(map[string]string{"protocol": protocol, "users": "k8s"}), t.Context()
			v := b.create(p, "a", sized(10*gib))
			before := b.attach(p, v.ID, node)
			b.faults(dsmsim.Fault{Method: method, Action: dsmsim.Reboot, Times: 1})
			for n := 0; ; n++ {
				grown, err := p.Expand(ctx, v.ID, 15*gib)
				if err == nil && grown.Size == 15*gib {
					break
				}
				if n == 3 || !errs.Is(err, errs.Unavailable) {
					t.Fatalf("%s: %+v, %v", protocol, grown, err)
				}
			}
			again, err := p.Expand(ctx, v.ID, 12*gib)
			if err != nil || again.Size != 15*gib {
				t.Errorf("%s: expanded to less: %+v, %v", protocol, again, err)
			}
			after := b.attach(p, v.ID, node)
			if protocol == "iscsi" && (after.ISCSI.WWID != before.ISCSI.WWID || after.ISCSI.Target.LUN != before.ISCSI.Target.LUN) {
				t.Errorf("attached as %+v, after a restart as %+v", before.ISCSI, after.ISCSI)
			}
		}
	}
}

// TestImport: a LUN and a share become volumes under their own data; what somebody has is refused, and stays as it is.
func TestImport(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(map[string]string{"location": "/volume1"}), t.Context()
	made := b.create(p, "made")
	lun := func(n dsm.NewLUN) dsm.NewLUN {
		if n.Location == "" {
			n.Location, n.Type = "/volume1", dsm.TypeThin
		}
		n.Size = 5<<20 + 512
		_, err := b.nas.CreateLUN(ctx, n)
		fine(t, err)
		return n
	}
	lun(dsm.NewLUN{Name: "data"})
	lun(dsm.NewLUN{Name: "elsewhere", Location: "/volume2", Type: dsm.TypeThinExt4})
	lun(dsm.NewLUN{Name: "vm", Location: "/volume1", Type: "VDISK_BLUN"})
	lun(dsm.NewLUN{Name: "theirs", Description: `{"dozo":1,"cluster":"c2","pool":"nas","id":"x"}`})
	lun(dsm.NewLUN{Name: "mapped"})
	l, err := b.nas.LUN(ctx, "mapped")
	fine(t, err)
	target, err := b.nas.CreateTarget(ctx, dsm.NewTarget{Name: "t", IQN: "iqn.t"})
	fine(t, err)
	fine(t, b.nas.MapLUN(ctx, l.UUID, target))
	for _, n := range []dsm.NewShare{{Name: "docs", VolumePath: "/volume1", QuotaMB: 5}, {Name: "endless", VolumePath: "/volume1"}, {Name: "served", VolumePath: "/volume1", QuotaMB: 5}} {
		fine(t, b.nas.CreateShare(ctx, n))
	}
	fine(t, b.nas.SetNFSRules(ctx, "served", []dsm.NFSRule{byHand}))
	for from, want := range map[string]errs.Kind{"absent": errs.NotFound, "elsewhere": errs.Invalid, "vm": errs.Invalid, "theirs": errs.Exists, "mapped": errs.InUse,
		"dozo.nas.made": errs.Invalid, "": errs.Invalid} {
		_, err := p.Import(ctx, from, request("n"))
		_, before := p.Importable(ctx, from, request("n"))
		if !errs.Is(err, want) || !errs.Is(before, want) {
			t.Errorf("import LUN %s: %v, and said before: %v, want %v", from, err, before, want)
		}
	}
	for from, want := range map[string]errs.Kind{"absent": errs.NotFound, "endless": errs.Invalid, "served": errs.InUse} {
		_, err := p.Import(ctx, from, request("n", shared))
		_, before := p.Importable(ctx, from, request("n", shared))
		if !errs.Is(err, want) || !errs.Is(before, want) {
			t.Errorf("import share %s: %v, and said before: %v, want %v", from, err, before, want)
		}
	}
	_, err = p.Import(ctx, "data", request("made"))
	is(t, err, errs.Exists)
	before, err := b.nas.LUN(ctx, "data")
	fine(t, err)
	for range 2 {
		v, err := p.Import(ctx, "data", request("n"))
		if err != nil || v.Size != 5<<20+512 || v.Access.ISCSI.WWID != dsm.WWID(before.UUID) {
			t.Errorf("imported %+v, %v", v, err)
		}
		v, err = p.Import(ctx, "docs", request("m", shared))
		if err != nil || v.Size != 5<<20 || v.Access.Mount == nil {
			t.Errorf("imported %+v, %v", v, err)
		}
	}
	_, err = p.Import(ctx, "docs", request("n", shared))
	is(t, err, errs.Exists)
	if a := b.attach(p, "n", node); !a.ISCSI.Raw {
		t.Error("what is in an imported LUN may be formatted")
	}
	fine(t, p.Detach(ctx, "n", node.Node))
	if _, err := b.nas.LUN(ctx, "data"); !errs.Is(err, errs.NotFound) {
		t.Errorf("the LUN has its old name still: %v", err)
	}
	fine(t, p.Delete(ctx, made.ID))
}

// TestImportable: what an import would make is said beforehand, and nothing is changed by that. A UUID is as good as a name.
func TestImportable(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(nil), t.Context()
	uuid, err := b.nas.CreateLUN(ctx, dsm.NewLUN{Name: "k8s-csi-pvc-1", Location: "/volume1", Type: dsm.TypeThin, Size: 5 << 20, Description: "default/data"})
	fine(t, err)
	fine(t, b.nas.CreateShare(ctx, dsm.NewShare{Name: "k8s-csi-pvc-2", VolumePath: "/volume1", QuotaMB: 5, Description: "by hand"}))
	s, err := b.nas.Share(ctx, "k8s-csi-pvc-2")
	fine(t, err)
	for from, r := range map[string]backend.Request{uuid: request("n"), s.UUID: request("m", shared)} {
		b.sim.ResetCalls()
		would, err := p.Importable(ctx, from, r)
		fine(t, err)
		for call := range b.sim.Calls() {
			if strings.HasSuffix(call, ".set") {
				t.Errorf("it changed something: %s", call)
			}
		}
		for range 2 {
			v, err := p.Import(ctx, from, r)
			if err != nil || !reflect.DeepEqual(v, would) {
				t.Errorf("it is %+v, %v; it would be %+v", v, err, would)
			}
			if again, err := p.Importable(ctx, from, r); err != nil || !reflect.DeepEqual(again, v) {
				t.Errorf("when it was done: %+v, %v", again, err)
			}
		}
	}
	_, err = p.Importable(ctx, strings.Replace(s.UUID, s.UUID[:8], "01234567", 1), request("x", shared))
	is(t, err, errs.NotFound)
}

// TestImportNameTaken: what the NAS has by the name that a volume would get is not taken for it, and what was to be imported stays as it was.
func TestImportNameTaken(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(nil), t.Context()
	for _, name := range []string{"data", "dozo.nas.n"} {
		_, err := b.nas.CreateLUN(ctx, dsm.NewLUN{Name: name, Location: "/volume1", Type: dsm.TypeThin, Size: 5 << 20, Description: "by hand"})
		fine(t, err)
	}
	_, err := p.Import(ctx, "data", request("n"))
	is(t, err, errs.Exists)
	if l, err := b.nas.LUN(ctx, "data"); err != nil || l.Description != "by hand" {
		t.Errorf("it is %+v, %v", l, err)
	}
}

// TestImportKilledInBetween: a LUN that was marked and not renamed is finished by the next call, unless somebody uses it by then.
func TestImportKilledInBetween(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	p, ctx := b.open(nil), t.Context()
	uuid, err := b.nas.CreateLUN(ctx, dsm.NewLUN{Name: "data", Location: "/volume1", Type: dsm.TypeThin, Size: 5 << 20})
	fine(t, err)
	b.faults(dsmsim.Fault{API: "SYNO.Core.ISCSI.LUN", Method: "set", Skip: 1, Times: 1, Action: dsmsim.Refuse, Code: 117})
	if _, err := p.Import(ctx, "data", request("n")); err == nil {
		t.Fatal("renamed all the same")
	}
	target, err := b.nas.CreateTarget(ctx, dsm.NewTarget{Name: "t", IQN: "iqn.t"})
	fine(t, err)
	fine(t, b.nas.MapLUN(ctx, uuid, target))
	_, err = p.Import(ctx, "data", request("n"))
	is(t, err, errs.InUse)
	fine(t, b.nas.UnmapLUN(ctx, uuid, target))
	_, err = p.Import(ctx, "data", request("n"))
	fine(t, err)
}

// TestImportAtOnce: processes that import the same at once all get the one volume.
func TestImportAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{})
	for n := range 10 {
		name := fmt.Sprintf("data-%d", n)
		_, err := b.nas.CreateLUN(t.Context(), dsm.NewLUN{Name: name, Location: "/volume1", Type: dsm.TypeThin, Size: 5 << 20})
		fine(t, err)
		fine(t, b.nas.CreateShare(t.Context(), dsm.NewShare{Name: name, VolumePath: "/volume1", QuotaMB: 5}))
		var wg sync.WaitGroup
		for range 4 {
			p := b.open(nil)
			wg.Go(func() {
				lun, err := p.Import(t.Context(), name, request("lun-"+name))
				share, err2 := p.Import(t.Context(), name, request("share-"+name, shared))
				if err != nil || err2 != nil || lun.Access.ISCSI == nil || share.Access.Mount == nil {
					t.Errorf("%+v, %v; %+v, %v", lun, err, share, err2)
				}
			})
		}
		wg.Wait()
	}
	if all := b.left(); len(all) != 21 {
		t.Errorf("there are %v", all)
	}
}

// TestCheck: what is wrong with the NAS's volume is wrong with the volumes in it.
func TestCheck(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]string{"normal": "", "degrade": "VolumeNotNormal", "crashed": "VolumeCrashed", "read_only": "VolumeReadOnly"} {
		dir := t.TempDir()
		good := newBed(t, dsmsim.Config{Dir: dir})
		good.create(good.open(nil), "a", with("location", "/volume1"))
		ill := newBed(t, dsmsim.Config{Dir: dir, Volumes: []dsmsim.Volume{{Path: "/volume1", FileSystem: "btrfs", Total: 1 << 40, Status: status}}})
		found, err := ill.open(nil).Check(t.Context(), "a")
		got := ""
		for _, f := range found {
			got += f.Reason
		}
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", status, found, err)
		}
	}
}

// TestNothingIsWaitedForEver: while the NAS works on a LUN a caller is told so when their time is up.
func TestNothingIsWaitedForEver(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{CreateLock: time.Hour})
	p := b.open(nil)
	said := make(chan string, 1)
	ctx := backend.WithProgress(t.Context(), func(what string) {
		select {
		case said <- what:
		default:
		}
	})
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() { _, err := p.Create(ctx, request("a")); done <- err }()
	if what := <-said; !strings.Contains(what, "working on LUN dozo.nas.a") {
		t.Errorf("progress %q", what)
	}
	cancel()
	is(t, <-done, errs.Aborted)
}

// TestSharesNeedNoSANManager: without it a pool of shares works, and one of LUNs takes that for no answer.
func TestSharesNeedNoSANManager(t *testing.T) {
	t.Parallel()
	for protocol, options := range map[string]map[string]string{"nfs": {"protocol": "nfs"}, "smb": {"protocol": "smb", "users": "k8s"}} {
		t.Run(protocol, func(t *testing.T) {
			b := newBed(t, dsmsim.Config{})
			luns := b.open(nil)
			b.create(luns, "l")
			b.faults(dsmsim.Fault{API: "SYNO.Core.ISCSI.LUN", Action: dsmsim.Refuse, Code: 102}, dsmsim.Fault{API: "SYNO.Core.ISCSI.Target", Action: dsmsim.Refuse, Code: 102})
			shares, ctx := b.open(options), t.Context()
			b.create(shares, "a")
			b.attach(shares, "a", node)
			fine(t, counted(shares.List(ctx), 1))
			fine(t, counted(shares.ListSnapshots(ctx), 0))
			_, err := shares.Gauges(ctx)
			fine(t, err)
			_, err = shares.Capacity(ctx, "")
			fine(t, err)
			fine(t, shares.Detach(ctx, "a", "n1"))
			fine(t, shares.Delete(ctx, "a"))
			fine(t, shares.Delete(ctx, "a"))
			fine(t, shares.Detach(ctx, "a", "n1"))
			_, err = shares.Create(ctx, request("m", with("protocol", "iscsi")))
			is(t, err, errs.Unsupported)
			_, err = luns.Get(ctx, "l")
			is(t, err, errs.Unsupported)
			is(t, luns.Delete(ctx, "l"), errs.Unsupported)
		})
	}
}

// TestSharesAreNoLUNs: where the NAS takes no more LUNs, there is room for shares.
func TestSharesAreNoLUNs(t *testing.T) {
	t.Parallel()
	b := newBed(t, dsmsim.Config{VirtualDisks: 3, Model: dsmsim.Model{Name: "DS425+", LUNs: 3, Targets: 1, SnapshotsPerLUN: 1, SnapshotsPerShare: 1, Shares: 1}})
	for protocol, room := range map[string]bool{"iscsi": false, "nfs": true, "smb": true} {
		c, err := b.open(map[string]string{"protocol": protocol, "users": "k8s"}).Capacity(t.Context(), "")
		if err != nil || c.MaxVolume > 0 != room || c.Available > 0 != room {
			t.Errorf("%s: room %+v, %v", protocol, c, err)
		}
	}
}
