package iscsi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/iscsi"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/test/lab"
)

// TestISCSI is one boot of a guest for all of it.
func TestISCSI(t *testing.T) {
	if !lab.Run(t, guest()) {
		return
	}
	lab.StartInitiator(t)
	for _, kind := range []string{"ext4", "xfs", "btrfs", "block"} {
		t.Run("life/"+kind, func(t *testing.T) { life(t, kind) })
	}
	for name, test := range map[string]func(*testing.T, *bed){
		"chap": chap, "shared": shared, "reused": reused, "swapped": swapped, "gone": gone, "away": away, "back": back,
		"sweep": sweep, "admin": admin, "discovered": discovered, "twice": twice, "of the node": ofNode, "cut short": cutShort, "patient": patient, "spelling": spelling,
	} {
		t.Run(name, func(t *testing.T) { test(t, newBed(t)) })
	}
}

// life: made, used, grown while in use, let go of and used again.
func life(t *testing.T, kind string) {
	b := newBed(t)
	d, a := b.disk(size)
	b.serve("", "", d)
	r := b.request("v", a, kind)
	b.stage(r)
	b.stage(r) // finds all done
	target := b.publish(r)
	b.publish(r)
	file := target
	if !r.Block {
		file = filepath.Join(target, "data")
	}
	write(t, file, "what a pod writes")
	if got := b.reasons(r); len(got) > 0 {
		t.Errorf("health: %v", got)
	}
	before, err := b.node.Stats(t.Context(), r.Volume, target)
	if err != nil || before.TotalBytes < size/2 {
		t.Errorf("stats: %+v, %v", before, err)
	}
	d.Grow(2 * size)
	for range 2 {
		got, err := b.node.Expand(t.Context(), r.Volume, target)
		if err != nil || got != 2*size {
			t.Errorf("grown to %d, %v", got, err)
		}
	}
	after, err := b.node.Stats(t.Context(), r.Volume, target)
	if err != nil || after.TotalBytes < before.TotalBytes+size*8/10 {
		t.Errorf("stats: %d bytes before, %d after, %v", before.TotalBytes, after.TotalBytes, err)
	}
	errstest.Refused(b.t, "Unstage while published", b.node.Unstage(t.Context(), r.Volume, r.Staging), errs.InUse, target)
	b.unpublish(r)
	b.unstage(r)
	b.unstage(r)
	if left := lab.InitiatorLeft(); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
	b.stage(r)
	b.publish(r)
	read(t, file, "what a pod writes")
	b.unpublish(r)
	b.unstage(r)
}

// chap: the right password, a wrong one, none, and one that was changed; and nobody sees it.
func chap(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve(user, password, d)
	r := b.request("v", a, "ext4")
	errstest.Refused(b.t, "no CHAP", b.node.Stage(t.Context(), r), errs.Invalid, iscsi.SecretUser, "node-stage-secret-name")
	r.Access.ISCSI.Target.CHAP = true
	errstest.Refused(b.t, "no secret", b.node.Stage(t.Context(), r), errs.Invalid, iscsi.SecretUser, "node-stage-secret-name")
	r.Secrets = map[string]string{iscsi.SecretUser: user, iscsi.SecretPassword: "a-wrong-password"}
	errstest.Refused(b.t, "wrong password", b.node.Stage(t.Context(), r), errs.Invalid, iscsi.SecretPassword)
	if left := lab.InitiatorLeft(); len(left) > 0 {
		t.Fatalf("left after a refused login: %v", left)
	}
	r.Secrets[iscsi.SecretPassword] = password
	b.stage(r)
	records, _ := filepath.Glob("/etc/iscsi/nodes/*/*")
	if len(records) != 1 {
		t.Fatalf("records: %v", records)
	}
	if at, err := os.Stat(records[0]); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("the record: %v, %v", at.Mode(), err)
	}
	places := []string{b.log.String(), b.argv.String()}
	states, _ := filepath.Glob(filepath.Join(b.dir, "state", "*"))
	for _, s := range states {
		text, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, string(text))
	}
	for _, text := range places {
		if strings.Contains(text, password) {
			t.Errorf("the password is in %.200q", text)
		}
	}
	b.unstage(r)
	const next = "another-password"
	b.target.Password(user, next)
	errstest.Refused(b.t, "old password", b.node.Stage(t.Context(), r), errs.Invalid)
	r.Secrets[iscsi.SecretPassword] = next
	b.stage(r)
	b.unstage(r)
}

// shared: two volumes in one session. The end of one leaves the other alone.
func shared(t *testing.T, b *bed) {
	d1, a1 := b.disk(size)
	d2, a2 := b.disk(size)
	b.serve("", "", d1, d2)
	one, two := b.request("one", a1, "ext4"), b.request("two", a2, "xfs")
	done := make(chan error, 2)
	for _, r := range []node.StageRequest{one, two} {
		go func() { done <- b.node.Stage(t.Context(), r) }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := b.sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	write(t, filepath.Join(one.Staging, "data"), "of one")
	write(t, filepath.Join(two.Staging, "data"), "of two")
	b.unstage(one)
	if found, _ := filepath.Glob("/sys/class/scsi_device/*"); len(found) != 1 || b.sessions() != 1 {
		t.Errorf("disks %v, %d sessions", found, b.sessions())
	}
	write(t, filepath.Join(two.Staging, "more"), "of two")
	read(t, filepath.Join(two.Staging, "data"), "of two")
	b.stage(one)
	read(t, filepath.Join(one.Staging, "data"), "of one")
	b.unstage(two)
	read(t, filepath.Join(one.Staging, "data"), "of one")
	b.unstage(one)
}

// reused: the number of a disk is given to another one.
func reused(t *testing.T, b *bed) {
	d1, a1 := b.disk(size)
	d2, a2 := b.disk(size)
	d3, _ := b.disk(size)
	b.serve("", "", d1, d2)
	one, two := b.request("one", a1, "ext4"), b.request("two", a2, "ext4")
	b.stage(one)
	b.stage(two)
	write(t, filepath.Join(two.Staging, "data"), "of two")
	three := b.request("three", b.access(d3, 2), "ext4")
	// Its access says a number that another volume has: nothing is done to that one.
	errstest.Refused(b.t, "a number in use", b.node.Stage(t.Context(), three), errs.InUse, d2.WWID, "mounted")
	read(t, filepath.Join(two.Staging, "data"), "of two")
	b.unstage(two)
	errstest.Refused(b.t, "another disk", b.node.Stage(t.Context(), three), errs.Unavailable, d2.WWID, d3.WWID)
	// The kernel still has the disk that was there before.
	hosts, _ := filepath.Glob("/sys/class/scsi_host/host*/scan")
	if err := os.WriteFile(hosts[0], []byte("0 0 2"), 0o200); err != nil {
		t.Fatal(err)
	}
	b.target.Unmap(2)
	b.target.Map(d3, 2)
	b.stage(three)
	write(t, filepath.Join(three.Staging, "data"), "of three")
	b.unstage(three)
	b.target.Unmap(2)
	errstest.Refused(b.t, "no such disk", b.node.Stage(t.Context(), three), errs.Unavailable, "number 2")
	b.target.Map(d2, 7)
	two.Access = b.access(d2, 7)
	b.stage(two)
	read(t, filepath.Join(two.Staging, "data"), "of two")
	b.unstage(two)
	b.unstage(one)
}

// swapped: a target has another disk under the number of one that is mounted.
func swapped(t *testing.T, b *bed) {
	d1, a1 := b.disk(size)
	d2, _ := b.disk(size)
	b.serve("", "", d1)
	r := b.request("v", a1, "block")
	b.stage(r)
	b.target.Unmap(1)
	if got := b.reasons(r); !slices.Contains(got, "OtherDisk") {
		t.Errorf("health without its disk: %v", got)
	}
	b.target.Map(d2, 1)
	if got := b.reasons(r); !slices.Contains(got, "OtherDisk") {
		t.Errorf("health with another disk: %v", got)
	}
	_, err := b.node.Expand(t.Context(), r.Volume, r.Staging)
	errstest.Refused(b.t, "Expand", err, errs.Unavailable, d2.WWID, d1.WWID)
	err = b.node.Publish(t.Context(), node.PublishRequest{Volume: r.Volume, Staging: r.Staging, Target: r.Staging + "-target", Block: true})
	errstest.Refused(b.t, "Publish", err, errs.Unavailable, d2.WWID, d1.WWID)
	b.unstage(r)
}

// gone: the target is removed under a live session. What is unstaged then leaves nothing behind.
func gone(t *testing.T, b *bed) {
	d1, a1 := b.disk(size)
	d2, a2 := b.disk(size)
	b.serve("", "", d1, d2)
	mounted, raw := b.request("mounted", a1, "ext4"), b.request("raw", a2, "block")
	b.stage(mounted)
	b.stage(raw)
	b.impatient()
	write(t, filepath.Join(mounted.Staging, "data"), "safe")
	b.target.Enable(false)
	b.eventually("the session has failed", func() bool { return slices.Contains(b.reasons(raw), "SessionLost") })
	b.unstage(raw)
	b.unstage(mounted)
	if left := lab.InitiatorLeft(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	b.target.Enable(true)
	b.stage(mounted)
	read(t, filepath.Join(mounted.Staging, "data"), "safe")
	b.unstage(mounted)
}

// away: nobody answers when a volume is staged.
func away(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	b.target.Enable(false)
	r := b.request("v", a, "ext4")
	errstest.Refused(b.t, "no target", b.node.Stage(t.Context(), r), errs.Unavailable, iqn, address)
	other := r
	other.Access = backend.ISCSIAccess(d.WWID, &backend.ISCSITarget{IQN: iqn, Portals: []string{"127.0.0.9:3260"}, LUN: 1})
	errstest.Refused(b.t, "no server", b.node.Stage(t.Context(), other), errs.Unavailable, "127.0.0.9:3260")
	if left := lab.InitiatorLeft(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	b.target.Enable(true)
	b.stage(r)
	b.unstage(r)
}

// back: a target that is away for a while, as one that restarts, is waited for.
func back(t *testing.T, b *bed) {
	d, a := b.disk(size)
	b.serve("", "", d)
	r := b.request("v", a, "ext4")
	b.stage(r)
	b.target.Enable(false)
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(r.Staging, "data"), []byte("late"), 0o600) }()
	b.eventually("the session has failed", func() bool { return slices.Contains(b.reasons(r), "SessionLost") })
	b.target.Enable(true)
	b.eventually("it is well again", func() bool { return len(b.reasons(r)) == 0 })
	if err := <-written; err != nil {
		t.Error(err)
	}
	b.stage(r)
	read(t, filepath.Join(r.Staging, "data"), "late")
	b.unstage(r)
}

// patient: while a target restarts, a volume that is staged through it does not take away the disk that a pod has as a
// block device. Nothing but the file that is mounted for the pod says that the disk is in use: it does not answer.
func patient(t *testing.T, b *bed) {
	d1, a1 := b.disk(size)
	d2, a2 := b.disk(size)
	b.serve("", "", d1, d2)
	raw, next := b.request("raw", a1, "block"), b.request("next", a2, "ext4")
	b.stage(raw)
	pod, err := os.OpenFile(b.publish(raw), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	b.target.Enable(false)
	b.eventually("the session has failed", func() bool { return slices.Contains(b.reasons(raw), "SessionLost") })
	page := slices.Repeat([]byte("late"), 1024) // the kernel takes it without reading what was there
	if _, err := pod.WriteAt(page, 1<<20); err != nil {
		t.Error(err)
	}
	errstest.Refused(b.t, "next, while the target is away", b.node.Stage(t.Context(), next), errs.Unavailable, iqn, "in use", raw.Staging+"-target")
	b.target.Enable(true)
	b.eventually("it is well again", func() bool { return len(b.reasons(raw)) == 0 })
	if err := pod.Sync(); err != nil {
		t.Errorf("what the pod wrote: %v", err)
	}
	b.stage(next)
	b.unstage(next)
	if err := pod.Close(); err != nil {
		t.Error(err)
	}
	b.unpublish(raw)
	b.unstage(raw)
	d1.Holds(string(page), 1<<20)
}

// spelling: an address of IPv6 has many, and open-iscsi names its records by the one that it is given.
func spelling(t *testing.T, _ *bed) {
	i := iscsi.New(host.New())
	for range 2 {
		if err := i.Record(t.Context(), iqn, "[FD00:0:0::0:1]:3260", nil); err != nil {
			t.Error(err)
		}
	}
	if err := i.Forget(t.Context(), iqn); err != nil {
		t.Error(err)
	}
}

// sweep ends what no record speaks of, and nothing else.
func sweep(t *testing.T, b *bed) {
	d1, a1 := b.disk(size)
	d2, a2 := b.disk(size)
	b.serve("", "", d1, d2)
	one, two := b.request("one", a1, "ext4"), b.request("two", a2, "block")
	b.stage(one)
	b.stage(two)
	records, _ := filepath.Glob(filepath.Join(b.dir, "state", "*.json"))
	if len(records) != 2 {
		t.Fatalf("records: %v", records)
	}
	forget := func(volume string) {
		for _, r := range records {
			if text, err := os.ReadFile(r); err == nil && strings.Contains(string(text), volume) {
				if err := os.Remove(r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := b.node.Sweep(t.Context()); err != nil || b.sessions() != 1 {
		t.Errorf("a sweep of nothing: %v, %d sessions", err, b.sessions())
	}
	forget(two.Volume)
	if err := b.open().Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if found, _ := filepath.Glob("/sys/class/scsi_device/*"); len(found) != 1 {
		t.Errorf("disks after the sweep: %v", found)
	}
	write(t, filepath.Join(one.Staging, "data"), "still there")
	saved, err := os.ReadFile(recordOf(t, b, one.Volume))
	if err != nil {
		t.Fatal(err)
	}
	path := recordOf(t, b, one.Volume)
	forget(one.Volume)
	errstest.Refused(b.t, "a sweep of what is in use", b.node.Sweep(t.Context()), errs.InUse, "mounted")
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.node.Sweep(t.Context()); err == nil {
		t.Error("a sweep beside a damaged record")
	}
	if err := os.WriteFile(path, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	lab.Output(t, "umount", one.Staging)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := b.node.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if left := lab.InitiatorLeft(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	_ = os.Remove(one.Staging)
}

func recordOf(t *testing.T, b *bed, volume string) string {
	t.Helper()
	records, _ := filepath.Glob(filepath.Join(b.dir, "state", "*.json"))
	for _, r := range records {
		if text, err := os.ReadFile(r); err == nil && strings.Contains(string(text), volume) {
			return r
		}
	}
	t.Fatalf("no record of %s", volume)
	return ""
}
