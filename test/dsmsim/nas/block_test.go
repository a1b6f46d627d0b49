package nas_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/lab"
)

func chap() dsm.CHAP {
	return dsm.CHAP{User: "node1", Password: dsm.NewSecret("twelve-chars-1")}
}

// TestBlock is LUNs through DSM's API as an initiator has them.
func TestBlock(t *testing.T) {
	if !lab.Run(t, naslab.Guest()) {
		return
	}
	lab.StartInitiator(t)
	b := newBed(t, dsmsim.Config{})
	b.run("identity", identity)
	b.run("chap", wrongPasswords)
	b.run("grow", growMounted)
	b.run("copies", copies)
	b.run("fence", fence)
	b.run("index", indexReused)
	b.run("limit", maxSessions)
	b.run("discard", discard)
	b.run("replaced", replaced)
	b.run("power", powerCycle)
}

// identity: the disk of a LUN is known by the WWID that follows from its UUID, and who has it is known to the NAS.
func identity(b *bed) {
	l, at := b.newLUN("a", 64*mib), b.newTarget("node1", 0, dsm.CHAP{})
	b.mapTo(at, l.UUID)
	b.login(at)
	disk := b.disk(l.UUID)
	for file, want := range map[string]string{
		"device/vendor": dsmsim.Vendor, "device/model": dsmsim.Product, "device/rev": dsmsim.Revision,
		"queue/write_cache": "write back", "queue/fua": "0", // what is to be durable is flushed
	} {
		got, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(disk), file))
		if err != nil || strings.TrimSpace(string(got)) != want {
			b.t.Errorf("%s %q, %v, want %q", file, got, err, want)
		}
	}
	data := block(b.t)
	b.ok(writeTo(disk, 3*mib, data))
	expectAt(b.t, disk, 3*mib, data)
	if image, err := os.ReadFile("/volume1/@iSCSI/" + l.UUID); err != nil || !bytes.Equal(image[3*mib:4*mib], data) {
		b.t.Errorf("what was written is not in the image (%v)", err)
	}
	sessions := b.describe(at).Sessions
	if len(sessions) != 1 || sessions[0].IQN != "iqn.2026-01.dev.dozo:guest" || sessions[0].IP != "127.0.0.1" {
		b.t.Errorf("sessions %+v", sessions)
	}
	b.logout(at)
	eventually(b.t, func() error {
		if s := b.describe(at).Sessions; len(s) != 0 {
			return fmt.Errorf("sessions after the logout: %+v", s)
		}
		return nil
	})
}

// wrongPasswords are refused, and so is whoever has none; a target that cannot prove itself is refused by the initiator.
func wrongPasswords(b *bed) {
	mutual := chap()
	mutual.MutualUser, mutual.MutualPassword = "nas", dsm.NewSecret("another-secret")
	at := b.newTarget("node1", 0, mutual)
	right := at.auth
	for what, auth := range map[string][]string{
		"nothing":               nil,
		"a wrong user":          {"authmethod=CHAP", "username=node2", "password=twelve-chars-1"},
		"a wrong password":      {"authmethod=CHAP", "username=node1", "password=twelve-chars-2"},
		"the wrong NAS":         {"authmethod=CHAP", "username=node1", "password=twelve-chars-1", "username_in=nas", "password_in=not-the-secret"},
		"no mutual, as is fine": {"authmethod=CHAP", "username=node1", "password=twelve-chars-1"},
	} {
		at.auth = auth
		err := b.tryLogin(at)
		if fine := strings.Contains(what, "fine"); fine != (err == nil) {
			b.t.Errorf("login with %s: %v", what, err)
		}
		if auth == nil && exitCode(err) != exitDenied {
			b.t.Errorf("login with %s: exit %d, want %d", what, exitCode(err), exitDenied)
		}
		b.logout(at)
	}
	at.auth = right
	b.login(at)
	b.ok(b.SetTarget(b.ctx, at.id, 0, dsm.CHAP{User: "node1", Password: dsm.NewSecret("twelve-chars-3")}))
	if s := b.describe(at).Sessions; len(s) != 1 {
		b.t.Errorf("a new password ended the session: %+v", s)
	}
	b.logout(at)
	if err := b.tryLogin(at); err == nil {
		b.t.Error("the old password is still taken")
	}
	b.logout(at)
	b.ok(b.SetTarget(b.ctx, at.id, 0, dsm.CHAP{}))
	at.auth = nil
	b.login(at)
}

// growMounted: a LUN grows under its file system once the initiator looks again, and not before.
func growMounted(b *bed) {
	l, at := b.newLUN("a", 64*mib), b.newTarget("node1", 0, chap())
	b.mapTo(at, l.UUID)
	b.login(at)
	disk := b.disk(l.UUID)
	lab.Output(b.t, "mkfs.ext4", "-q", disk)
	dir := b.t.TempDir()
	b.ok(unix.Mount(disk, dir, "ext4", 0, ""))
	b.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	data := block(b.t)
	b.ok(os.WriteFile(filepath.Join(dir, "data"), data, 0o600))

	b.ok(b.ResizeLUN(b.ctx, l.UUID, 160*mib))
	size := func() int64 {
		f, err := os.Open(disk)
		b.ok(err)
		defer f.Close()
		n, err := f.Seek(0, 2)
		b.ok(err)
		return n
	}
	if got := size(); got != 64*mib {
		b.t.Errorf("the disk has %d MiB before the initiator looked", got/mib)
	}
	rescan(b.t)
	if got := size(); got != 160*mib {
		b.t.Errorf("the disk has %d MiB afterwards, want 160", got/mib)
	}
	lab.Output(b.t, "resize2fs", disk)
	var st unix.Statfs_t
	b.ok(unix.Statfs(dir, &st))
	if got := int64(st.Blocks) * st.Bsize; got < 128*mib {
		b.t.Errorf("the file system has %d MiB", got/mib)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "data")); err != nil || !bytes.Equal(got, data) {
		b.t.Errorf("the file's bytes after growing: %v", err)
	}
	b.ok(unix.Unmount(dir, 0))
}

// copies have what was acknowledged when they were taken, and nothing of later.
func copies(b *bed) {
	l, at := b.newLUN("a", 64*mib), b.newTarget("node1", 0, chap())
	b.mapTo(at, l.UUID)
	b.login(at)
	before, after := block(b.t), block(b.t)
	b.ok(writeTo(b.disk(l.UUID), 0, before))
	snapshot, err := b.TakeSnapshot(b.ctx, dsm.NewSnapshot{LUN: l.UUID, Name: "s"})
	b.ok(err)
	clone, err := b.CloneLUN(b.ctx, l.UUID, "clone", "/volume1")
	b.ok(err)
	b.t.Cleanup(func() { b.ok(b.DeleteLUN(b.ctx, clone)) })
	b.ok(writeTo(b.disk(l.UUID), 0, after))
	restored, err := b.CloneSnapshot(b.ctx, l.UUID, snapshot, "restored", "")
	b.ok(err)
	b.t.Cleanup(func() { b.ok(b.DeleteLUN(b.ctx, restored)) })
	b.ok(b.ResizeLUN(b.ctx, restored, 128*mib))
	b.mapTo(at, clone)
	b.mapTo(at, restored)
	rescan(b.t)
	expectAt(b.t, b.disk(clone), 0, before)
	expectAt(b.t, b.disk(restored), 0, before)
	expectAt(b.t, b.disk(l.UUID), 0, after)
	// A clone is a LUN of its own: what is written to it is nowhere else.
	b.ok(writeTo(b.disk(clone), 0, after))
	expectAt(b.t, b.disk(restored), 0, before)
	b.ok(b.DeleteSnapshot(b.ctx, snapshot, "test"))
	expectAt(b.t, b.disk(restored), 0, before)
}

// fence: who has lost a LUN cannot write to it any more, and who shares the target goes on.
func fence(b *bed) {
	l, other, at := b.newLUN("a", 64*mib), b.newLUN("b", 64*mib), b.newTarget("node1", 0, chap())
	elsewhere := b.newTarget("node2", 0, chap())
	b.mapTo(at, l.UUID)
	b.mapTo(at, other.UUID)
	b.login(at)
	disk, data := b.disk(l.UUID), block(b.t)
	b.ok(writeTo(disk, 0, data))
	b.ok(b.MapLUN(b.ctx, l.UUID, elsewhere.id))
	b.ok(b.UnmapLUN(b.ctx, l.UUID, at.id))
	if err := writeTo(disk, 0, block(b.t)); err == nil {
		b.t.Error("a LUN that was taken away was written to")
	}
	b.ok(writeTo(b.disk(other.UUID), 0, data))
	b.login(elsewhere)
	rescan(b.t)
	// The first disk has the same WWID, and does not work: its kernel still lists it.
	b.ok(os.WriteFile(filepath.Join("/sys/block", filepath.Base(disk), "device/delete"), []byte("1"), 0))
	b.logout(at)
	b.logout(elsewhere)
	b.ok(b.tryLogin(elsewhere))
	expectAt(b.t, b.disk(l.UUID), 0, data)
}

// indexReused: the number that a LUN had is the next one's, and only the WWID tells them apart.
func indexReused(b *bed) {
	first, second, at := b.newLUN("a", 64*mib), b.newLUN("b", 64*mib), b.newTarget("node1", 0, chap())
	one := b.mapTo(at, first.UUID)
	b.login(at)
	stale := b.disk(first.UUID)
	b.ok(b.UnmapLUN(b.ctx, first.UUID, at.id))
	if two := b.mapTo(at, second.UUID); two != one {
		b.t.Fatalf("index %d, then %d", one, two)
	}
	// The disk of before is now the other LUN, and looks as ever until somebody looks anew: writes of whoever has it mounted still
	// arrive. This is what Linux does, not what is wanted: a node has to remove its disk before the LUN is taken away.
	foreign := block(b.t)
	b.ok(writeTo(stale, 0, foreign))
	if image, err := os.ReadFile("/volume1/@iSCSI/" + second.UUID); err != nil || !bytes.Equal(image[:mib], foreign) {
		b.t.Errorf("a write to the disk of a LUN that was taken away is not in the one that has its number now (%v)", err)
	}
	if d := disks(b.t); d[dsm.WWID(first.UUID)] != stale {
		b.t.Errorf("the disk has another WWID before anybody looked: %v", d)
	}
	rescan(b.t)
	if d := disks(b.t); d[dsm.WWID(second.UUID)] != stale {
		b.t.Errorf("the disk has the old WWID after a rescan: %v", d)
	}
	b.ok(os.WriteFile(filepath.Join("/sys/block", filepath.Base(stale), "device/delete"), []byte("1"), 0))
	rescan(b.t)
	data := block(b.t)
	b.ok(writeTo(b.disk(second.UUID), 0, data))
	if image, err := os.ReadFile("/volume1/@iSCSI/" + second.UUID); err != nil || !bytes.Equal(image[:mib], data) {
		b.t.Errorf("the write is not in the second LUN (%v)", err)
	}
}

// maxSessions: DSM's default of one keeps the second initiator out until the first one has gone.
func maxSessions(b *bed) {
	at := b.newTarget("node1", 1, dsm.CHAP{})
	other := []string{"-m", "iface", "-I", "other"}
	lab.Output(b.t, "iscsiadm", append(other, "-o", "new")...)
	b.t.Cleanup(func() { lab.Output(b.t, "iscsiadm", append(other, "-o", "delete")...) })
	lab.Output(b.t, "iscsiadm", append(other, "-o", "update", "-n", "iface.initiatorname", "-v", "iqn.2026-01.dev.dozo:other")...)
	b.login(at)
	admits := "/sys/kernel/config/target/iscsi/" + at.iqn + "/tpgt_1/attrib/generate_node_acls"
	closed := func(want string) func() error {
		return func() error {
			if got, err := os.ReadFile(admits); err != nil || strings.TrimSpace(string(got)) != want {
				return fmt.Errorf("admits others: %q, %w", got, err)
			}
			return nil
		}
	}
	eventually(b.t, closed("0"))
	b.ok(at.admin(b.t, "-I", "other", "-o", "new"))
	if err := at.admin(b.t, "-I", "other", "--login"); exitCode(err) != exitDenied {
		b.t.Errorf("a second initiator: %v, want exit %d", err, exitDenied)
	}
	l := b.newLUN("a", 64*mib)
	b.mapTo(at, l.UUID)
	rescan(b.t)
	b.disk(l.UUID) // who is in gets what comes
	b.ok(b.UnmapLUN(b.ctx, l.UUID, at.id))
	b.ok(at.admin(b.t, "-I", "default", "--logout"))
	eventually(b.t, closed("1"))
	b.ok(at.admin(b.t, "-I", "other", "--login"))
}

// discard gives the room back.
func discard(b *bed) {
	l, at := b.newLUN("a", 64*mib), b.newTarget("node1", 0, chap())
	b.mapTo(at, l.UUID)
	b.login(at)
	disk := b.disk(l.UUID)
	b.ok(writeTo(disk, 0, bytes.Repeat(block(b.t), 16)))
	used := func() int64 {
		var st unix.Stat_t
		b.ok(unix.Stat("/volume1/@iSCSI/"+l.UUID, &st))
		return st.Blocks * 512
	}
	if got := used(); got < 16*mib {
		b.t.Fatalf("16 MiB take %d bytes", got)
	}
	lab.Output(b.t, "blkdiscard", "--force", disk)
	eventually(b.t, func() error {
		if got := used(); got > mib {
			return fmt.Errorf("discarded, and %d bytes are in use", got)
		}
		return nil
	})
}

// replaced: the simulator's process dies and another one goes on; sessions notice nothing.
func replaced(b *bed) {
	l, at := b.newLUN("a", 64*mib), b.newTarget("node1", 0, chap())
	b.mapTo(at, l.UUID)
	b.login(at)
	disk, data := b.disk(l.UUID), block(b.t)
	b.ok(writeTo(disk, 0, data))
	session := func() string {
		s, err := filepath.Glob("/sys/class/iscsi_session/session*")
		if err != nil || len(s) != 1 {
			b.t.Fatalf("sessions %v, %v", s, err)
		}
		return s[0]
	}
	before := session()
	unfinished := "/sys/kernel/config/target/iscsi/iqn.2000-01.com.synology:nas.unfinished"
	b.ok(os.MkdirAll(unfinished+"/tpgt_1", 0o755)) // of a call in the middle of which the process died
	b.Replace()
	if _, err := os.Stat(unfinished); err == nil {
		b.t.Error("what the first process did not finish is still there")
	}
	if got := session(); got != before {
		b.t.Errorf("session %s, before it was %s", got, before)
	}
	b.ok(writeTo(disk, 4*mib, data))
	expectAt(b.t, disk, 0, data)
	if s := b.describe(at).Sessions; len(s) != 1 {
		b.t.Errorf("sessions %+v", s)
	}
	b.ok(b.UnmapLUN(b.ctx, l.UUID, at.id))
	if err := writeTo(disk, 0, data); err == nil {
		b.t.Error("the second process did not take the LUN away")
	}
}

// powerCycle: the NAS is away and comes back; what was waiting goes on.
func powerCycle(b *bed) {
	l, at := b.newLUN("a", 64*mib), b.newTarget("node1", 0, chap())
	b.mapTo(at, l.UUID)
	b.login(at)
	disk, data := b.disk(l.UUID), block(b.t)
	b.ok(writeTo(disk, 0, data))
	written := make(chan error, 1)
	b.PowerCycle(func() {
		if left, err := filepath.Glob("/sys/kernel/config/target/iscsi/iqn.*"); err != nil || len(left) != 0 {
			b.t.Errorf("targets of a NAS without power: %v, %v", left, err)
		}
		eventually(b.t, func() error {
			states, err := filepath.Glob("/sys/class/iscsi_session/session*/state")
			b.ok(err)
			state, err := os.ReadFile(states[0])
			if err != nil || strings.TrimSpace(string(state)) == "LOGGED_IN" {
				return fmt.Errorf("the session of a NAS without power: %s, %w", state, err)
			}
			return nil
		})
		go func() { written <- writeTo(disk, 4*mib, data) }()
	})
	if err := <-written; err != nil {
		b.t.Errorf("the write that waited: %v", err)
	}
	expectAt(b.t, disk, 0, data)
	expectAt(b.t, disk, 4*mib, data)
}
