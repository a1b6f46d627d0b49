package dsm_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/test/dsmsim"
)

// TestBlock is the life of a LUN: snapshot, copies, growth, a target, and the end of all.
func TestBlock(t *testing.T) {
	b, ctx := newBed(t, dsmsim.Config{VirtualDisks: 2}), t.Context()
	uuid := b.lun("dozo-a")
	for _, key := range []string{uuid, "dozo-a"} {
		l, err := b.LUN(ctx, key)
		if err != nil || l.UUID != uuid || l.Size != 1<<30 || l.Description != "dozo pool=nas" || !l.HasAttr(dsm.AttrSnapshot) || !l.HasAttr(dsm.AttrUnmap) || l.HasAttr(dsm.AttrFUA) {
			t.Errorf("LUN(%s): %+v, %v", key, l, err)
		}
	}
	_, err := b.CreateLUN(ctx, thin("dozo-a"))
	is(t, err, errs.Exists)
	fine(t, b.ResizeLUN(ctx, uuid, 2<<30))
	fine(t, b.ResizeLUN(ctx, uuid, 2<<30))
	fine(t, b.DescribeLUN(ctx, uuid, "dozo pool=nas\nvolume=pvc-1"))

	snap, err := b.TakeSnapshot(ctx, dsm.NewSnapshot{LUN: uuid, Name: "s 1", Description: "d", TakenBy: "dozo", Locked: true})
	fine(t, err)
	_, err = b.TakeSnapshot(ctx, dsm.NewSnapshot{LUN: uuid, Name: "s 1"})
	is(t, err, errs.Exists)
	s, err := b.Snapshot(ctx, snap)
	if err != nil || s.Parent != uuid || s.Name != "s 1" || s.Size != 2<<30 || !bool(s.Locked) || s.TakenBy != "dozo" {
		t.Errorf("Snapshot: %+v, %v", s, err)
	}
	all, err := b.Snapshots(ctx, uuid)
	if err != nil || len(all) != 1 || all[0] != s {
		t.Errorf("Snapshots: %+v, %v", all, err)
	}
	clone, err := b.CloneLUN(ctx, uuid, "dozo-b", "/volume1")
	fine(t, err)
	restored, err := b.CloneSnapshot(ctx, uuid, snap, "dozo-c", "restored")
	fine(t, err)
	l, err := b.LUN(ctx, restored)
	if err != nil || l.Size != 2<<30 || l.Description != "restored" {
		t.Errorf("LUN of a snapshot: %+v, %v", l, err)
	}
	b.target(t, uuid)
	fine(t, b.DeleteSnapshot(ctx, snap, "dozo"))
	_, err = b.Snapshot(ctx, snap)
	is(t, err, errs.NotFound)
	for _, id := range []string{uuid, clone, restored} {
		fine(t, b.DeleteLUN(ctx, id))
		_, err = b.LUN(ctx, id)
		is(t, err, errs.NotFound)
		is(t, b.DeleteLUN(ctx, id), errs.NotFound)
	}
	left, err := b.LUNs(ctx)
	if err != nil || len(left) != 2 || left[0].Type != "VDISK_BLUN" || b.plane.Images() != 0 {
		t.Errorf("left: %+v, %d images, %v; want the 2 disks of virtual machines", left, b.plane.Images(), err)
	}
}

// target maps a LUN and takes the target away again.
func (b *bed) target(t *testing.T, lun string) {
	ctx, iqn := t.Context(), "iqn.2000-01.com.synology:nas.dozo"
	chap := dsm.CHAP{User: "u", Password: dsm.NewSecret("twelve-chars"), MutualUser: "m", MutualPassword: dsm.NewSecret("other-twelve")}
	id, err := b.CreateTarget(ctx, dsm.NewTarget{Name: "7", IQN: iqn, CHAP: chap})
	fine(t, err)
	_, err = b.CreateTarget(ctx, dsm.NewTarget{Name: "7", IQN: iqn + "2"})
	is(t, err, errs.Exists)
	fine(t, b.EnableTarget(ctx, id))
	fine(t, b.MapLUN(ctx, lun, id))
	fine(t, b.MapLUN(ctx, lun, id))
	for range 2 {
		fine(t, b.plane.Login(iqn, dsmsim.Session{IQN: "iqn.node", IP: "10.0.0.5"}))
	}
	for _, key := range []string{fmt.Sprint(id), "7"} {
		g, err := b.Target(ctx, key)
		if err != nil || int64(g.ID) != id || !slices.Equal(g.Mapped, []dsm.Mapping{{LUN: lun, Index: 1}}) || g.MaxSessions != 0 ||
			g.AuthType != 2 || len(g.Sessions) != 2 || g.Sessions[0].IP != "10.0.0.5" || !bool(g.Enabled) {
			t.Errorf("Target(%s): %+v, %v", key, g, err)
		}
	}
	if e, ok := b.plane.Export(iqn); !ok || e.MutualPassword != "other-twelve" || !e.LUNs[0].Discard || e.LUNs[0].Serial == lun {
		t.Errorf("exported: %+v", e)
	}
	fine(t, b.SetTarget(ctx, id, 1, dsm.CHAP{}))
	if e, _ := b.plane.Export(iqn); e.User != "" || e.MaxSessions != 1 {
		t.Errorf("exported without CHAP: %+v", e)
	}
	fine(t, b.UnmapLUN(ctx, lun, id))
	fine(t, b.UnmapLUN(ctx, lun, id))
	fine(t, b.DeleteTarget(ctx, id))
	_, err = b.Target(ctx, fmt.Sprint(id))
	is(t, err, errs.NotFound)
	list, err := b.Targets(ctx)
	if err != nil || len(list) != 0 {
		t.Errorf("Targets: %+v, %v", list, err)
	}
}

// TestShares is the life of a shared folder.
func TestShares(t *testing.T) {
	b, ctx := newBed(t, dsmsim.Config{ForgetQuota: true}), t.Context()
	n := dsm.NewShare{Name: "dozo-a", VolumePath: "/volume1", Description: "dozo", QuotaMB: 1024}
	fine(t, b.CreateShare(ctx, n))
	is(t, b.CreateShare(ctx, n), errs.Exists)
	fine(t, b.SetShare(ctx, "dozo-a", dsm.Share{Name: "dozo-a", VolumePath: "/volume1", Description: "dozo", QuotaMB: 2048}))
	s, err := b.Share(ctx, "dozo-a")
	if err != nil || s.QuotaMB != 2048 || s.VolumePath != "/volume1" || bool(s.RecycleBin) {
		t.Errorf("Share: %+v, %v", s, err)
	}
	rule := dsm.NFSRule{Client: "10.0.0.0/24", Privilege: "rw", RootSquash: dsm.SquashNone, Async: true, Insecure: true, CrossMount: true, Security: dsm.SecurityFlavor{Sys: true}}
	fine(t, b.SetNFSRules(ctx, "dozo-a", []dsm.NFSRule{rule}))
	rules, err := b.NFSRules(ctx, "dozo-a")
	if f, _ := b.plane.Folder("dozo-a"); err != nil || !slices.Equal(rules, []dsm.NFSRule{rule}) || len(f.Rules) != 1 || f.Rules[0].Client != "10.0.0.0/24" || f.QuotaMB != 2048 {
		t.Errorf("NFSRules: %+v, %v; served: %+v", rules, err, f)
	}
	fine(t, b.SetNFSRules(ctx, "dozo-a", nil))
	_, err = b.NFSRules(ctx, "none")
	is(t, err, errs.NotFound)
	fine(t, b.SetPermissions(ctx, "dozo-a", dsm.LocalUsers, []dsm.Permission{{Name: "u", Writable: true}}))
	may, err := b.Permissions(ctx, "dozo-a", dsm.LocalUsers)
	if err != nil || len(may) != 2 || !bool(may[1].Writable) || may[1].Name != "u" {
		t.Errorf("Permissions: %+v, %v", may, err)
	}
	at, err := b.TakeShareSnapshot(ctx, "dozo-a", "snap-1", true)
	fine(t, err)
	taken, err := b.ShareSnapshots(ctx, "dozo-a")
	if err != nil || len(taken) != 1 || taken[0].Time != at || taken[0].Description != "snap-1" || !bool(taken[0].Locked) {
		t.Errorf("ShareSnapshots: %+v, %v", taken, err)
	}
	for name, snapshot := range map[string]string{"dozo-b": at, "dozo-c": ""} {
		fine(t, b.CloneShare(ctx, "dozo-a", snapshot, dsm.NewShare{Name: name, VolumePath: "/volume1", QuotaMB: 2048}))
	}
	is(t, b.CloneShare(ctx, "dozo-a", "GMT+00-1970.01.01-00.00.00", dsm.NewShare{Name: "dozo-d", VolumePath: "/volume1"}), errs.Internal)
	fine(t, b.DeleteShareSnapshot(ctx, "dozo-a", at))
	is(t, b.DeleteShareSnapshot(ctx, "dozo-a", at), errs.Unavailable)
	list, err := b.Shares(ctx)
	if err != nil || len(list) != 3 || list[1].QuotaMB != 0 {
		t.Errorf("Shares: %+v, %v; want 3, clones without a quota", list, err)
	}
	for _, s := range list {
		fine(t, b.DeleteShare(ctx, s.Name))
		_, err = b.Share(ctx, s.Name)
		is(t, err, errs.NotFound)
	}
	nfs, err := b.NFS(ctx)
	if err != nil || !bool(nfs.Enabled) || nfs.Major != 4 {
		t.Errorf("NFS: %+v, %v", nfs, err)
	}
}

func TestTheNAS(t *testing.T) {
	b, ctx := newBed(t, dsmsim.Config{}), t.Context()
	s, err := b.System(ctx)
	if err != nil || s.Model != "DS918+" || s.Serial == "" || s.Firmware == "" {
		t.Errorf("System: %+v, %v", s, err)
	}
	if name, err := b.Hostname(ctx); err != nil || name != "nas" {
		t.Errorf("Hostname: %q, %v", name, err)
	}
	if l, err := b.Limits(ctx); err != nil || l.LUNs != 128 || l.Targets != 64 || l.SnapshotsPerLUN != 256 || !bool(l.SupportISCSI) {
		t.Errorf("Limits: %+v, %v", l, err)
	}
	if v, err := b.Volume(ctx, "/volume2"); err != nil || v.FileSystem != "ext4" || v.Free != 1<<40 {
		t.Errorf("Volume: %+v, %v", v, err)
	}
	for _, path := range []string{"/volume9", "no path", "/volume1/x"} {
		_, err := b.Volume(ctx, path)
		is(t, err, errs.NotFound)
	}
}

// TestCeilings are errors that say which one it is.
func TestCeilings(t *testing.T) {
	b, ctx := newBed(t, dsmsim.Config{VirtualDisks: 1, Model: dsmsim.Model{Name: "DS223j", LUNs: 3, Targets: 1, SnapshotsPerLUN: 1, Shares: 1}}), t.Context()
	uuid := b.lun("a")
	b.lun("b")
	_, err := b.CreateLUN(ctx, thin("c"))
	is(t, err, errs.NoSpace)
	_, err = b.CreateTarget(ctx, dsm.NewTarget{Name: "a", IQN: "iqn.a"})
	fine(t, err)
	_, err = b.CreateTarget(ctx, dsm.NewTarget{Name: "b", IQN: "iqn.b"})
	is(t, err, errs.NoSpace)
	_, err = b.TakeSnapshot(ctx, dsm.NewSnapshot{LUN: uuid, Name: "a"})
	fine(t, err)
	_, err = b.TakeSnapshot(ctx, dsm.NewSnapshot{LUN: uuid, Name: "b"})
	is(t, err, errs.NoSpace)
	fine(t, b.CreateShare(ctx, dsm.NewShare{Name: "a", VolumePath: "/volume1"}))
	is(t, b.CreateShare(ctx, dsm.NewShare{Name: "b", VolumePath: "/volume1"}), errs.NoSpace)
	is(t, b.CreateShare(ctx, dsm.NewShare{Name: "a-name-that-has-thirty-three-chars", VolumePath: "/volume1"}), errs.Invalid)
	for _, name := range []string{"", "with space", "under_score", string(make([]byte, 201))} {
		_, err := b.CreateLUN(ctx, thin(name))
		is(t, err, errs.Invalid)
	}
	n := thin("thick")
	n.Type, n.Size = dsm.TypeThick, 2<<40
	fine(t, b.DeleteLUN(ctx, uuid))
	_, err = b.CreateLUN(ctx, n)
	is(t, err, errs.NoSpace)
}
