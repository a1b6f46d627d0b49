package nas_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/lab"
)

// here is this machine as a client, and nowhere one that it is not.
const (
	here    = "127.0.0.1"
	nowhere = "10.9.9.9"
)

// TestShares is shared folders through DSM's API as a client has them.
func TestShares(t *testing.T) {
	if !lab.Run(t, naslab.Guest()) {
		return
	}
	b := newBed(t, dsmsim.Config{})
	b.run("rules", rules)
	b.run("quota", quota)
	b.run("squash", squash)
	b.run("copies", shareCopies)
	b.run("again", sameName)
	b.run("replaced", replacedUnderMount)
	b.run("power", powerCycleUnderMount)
}

func rule(client string) dsm.NFSRule {
	return dsm.NFSRule{Client: client, Privilege: "rw", RootSquash: dsm.SquashNone, Insecure: true, Security: dsm.SecurityFlavor{Sys: true}}
}

func readOnly(client string) dsm.NFSRule {
	r := rule(client)
	r.Privilege = "ro"
	return r
}

// newShare makes one and removes it after the test.
func (b *bed) newShare(name string, quotaMB int64, rules ...dsm.NFSRule) {
	b.t.Helper()
	b.ok(b.CreateShare(b.ctx, dsm.NewShare{Name: name, VolumePath: "/volume1", QuotaMB: quotaMB}))
	b.t.Cleanup(func() { b.ok(b.DeleteShare(b.ctx, name)) })
	b.ok(b.SetNFSRules(b.ctx, name, rules))
}

func (b *bed) tryMount(share, dir string) error {
	_, err := lab.Try(b.t, "mount", "-t", "nfs", "-o", "vers=4.1,retry=0,actimeo=0", here+":/volume1/"+share, dir)
	return err
}

// mount mounts a share for the length of the test.
func (b *bed) mount(share string) string {
	b.t.Helper()
	dir := b.t.TempDir()
	b.ok(b.tryMount(share, dir))
	b.t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			b.t.Errorf("unmount %s: %v", share, err)
			_ = unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH)
		}
	})
	return dir
}

func (b *bed) expectFile(path string, want []byte) {
	b.t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		b.t.Errorf("%s has other bytes: %d, %v", path, len(got), err)
	}
}

// isRefused: either the address is not known any more, or what it had is stale.
func isRefused(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.EPERM)
}

// rules are those of the present, also for who has the share mounted.
func rules(b *bed) {
	data := block(b.t)
	b.newShare("a", 0, rule(nowhere))
	b.newShare("b", 0, rule(nowhere), rule("*"))
	other := b.mount("b") // so that this address is not unknown altogether
	dir := b.t.TempDir()
	if err := b.tryMount("a", dir); err == nil {
		b.t.Error("somebody whom no rule is for has mounted the share")
		b.ok(unix.Unmount(dir, 0))
	}
	b.ok(b.SetNFSRules(b.ctx, "a", []dsm.NFSRule{readOnly("*"), rule("127.0.0.0/8")}))
	dir = b.mount("a")
	b.ok(hosttest.WriteThrough(filepath.Join(dir, "file"), data))
	b.expectFile(filepath.Join("/volume1/a/file"), data)

	b.ok(b.SetNFSRules(b.ctx, "a", []dsm.NFSRule{rule("127.0.0.0/8"), readOnly(here)}))
	if err := hosttest.WriteThrough(filepath.Join(dir, "other"), data); !errors.Is(err, unix.EROFS) {
		b.t.Errorf("a write by a rule for reading: %v", err)
	}
	b.expectFile(filepath.Join(dir, "file"), data)

	b.ok(b.SetNFSRules(b.ctx, "a", []dsm.NFSRule{rule(nowhere)}))
	if err := hosttest.WriteThrough(filepath.Join(dir, "file"), data); !isRefused(err) {
		b.t.Errorf("a write by one who is in no rule any more: %v", err)
	}
	if _, err := os.ReadDir(dir); !isRefused(err) {
		b.t.Errorf("a look by one who is in no rule any more: %v", err)
	}
	b.ok(hosttest.WriteThrough(filepath.Join(other, "file"), data))
	b.ok(b.SetNFSRules(b.ctx, "b", nil))
	if err := hosttest.WriteThrough(filepath.Join(other, "file"), data); !isRefused(err) {
		b.t.Errorf("a write by one whom no share is for: %v", err)
	}
	b.ok(b.SetNFSRules(b.ctx, "a", []dsm.NFSRule{rule(here)}))
	eventually(b.t, func() error { return hosttest.WriteThrough(filepath.Join(dir, "file"), data) })
}

// quota: the share is full at its quota, and not any more once that is raised.
func quota(b *bed) {
	b.newShare("a", 16, rule(here))
	dir := b.mount("a")
	b.ok(hosttest.WriteThrough(filepath.Join(dir, "fits"), bytes.Repeat(block(b.t), 8)))
	big := bytes.Repeat(block(b.t), 16)
	if err := hosttest.WriteThrough(filepath.Join(dir, "big"), big); !errors.Is(err, unix.EDQUOT) {
		b.t.Errorf("beyond the quota: %v", err)
	}
	b.ok(b.SetShare(b.ctx, "a", dsm.Share{Name: "a", VolumePath: "/volume1", QuotaMB: 64}))
	// To another file: of the one that did not fit Linux's NFS client now and then tells its next writer once more.
	b.ok(hosttest.WriteThrough(filepath.Join(dir, "fits now"), big))
	b.expectFile(filepath.Join(dir, "fits now"), big)
	b.ok(b.SetShare(b.ctx, "a", dsm.Share{Name: "a", VolumePath: "/volume1"}))
	b.ok(hosttest.WriteThrough(filepath.Join(dir, "more"), bytes.Repeat(big, 4)))
}

// squash: whom root of a client is on the NAS.
func squash(b *bed) {
	b.newShare("a", 0)
	dir := ""
	for i, c := range []struct {
		squash string
		owner  uint32
	}{{dsm.SquashNone, 0}, {dsm.SquashRootAdmin, 1024}, {dsm.SquashRootGuest, 1025}, {dsm.SquashAllToAdmin, 1024}, {dsm.SquashAllToGuest, 1025}} {
		r := rule(here)
		r.RootSquash = c.squash
		b.ok(b.SetNFSRules(b.ctx, "a", []dsm.NFSRule{r}))
		if dir == "" {
			dir = b.mount("a")
		}
		name := fmt.Sprint("file", i)
		b.ok(hosttest.WriteThrough(filepath.Join(dir, name), nil))
		info, err := os.Stat(filepath.Join("/volume1/a", name))
		b.ok(err)
		if got := info.Sys().(*syscall.Stat_t).Uid; got != c.owner {
			b.t.Errorf("%s: the file is of %d, want %d", c.squash, got, c.owner)
		}
	}
}

// shareCopies have what was there when they were taken.
func shareCopies(b *bed) {
	before, after := block(b.t), block(b.t)
	b.newShare("a", 32, rule(here))
	dir := b.mount("a")
	b.ok(hosttest.WriteThrough(filepath.Join(dir, "file"), before))
	taken, err := b.TakeShareSnapshot(b.ctx, "a", "s", false)
	b.ok(err)
	b.ok(hosttest.WriteThrough(filepath.Join(dir, "file"), after))
	for name, snapshot := range map[string]string{"restored": taken, "cloned": ""} {
		b.ok(b.CloneShare(b.ctx, "a", snapshot, dsm.NewShare{Name: name, VolumePath: "/volume1", QuotaMB: 16}))
		b.t.Cleanup(func() { b.ok(b.DeleteShare(b.ctx, name)) })
		b.ok(b.SetNFSRules(b.ctx, name, []dsm.NFSRule{rule(here)}))
	}
	restored := b.mount("restored")
	b.expectFile(filepath.Join(restored, "file"), before)
	b.expectFile(filepath.Join(b.mount("cloned"), "file"), after)
	if err := hosttest.WriteThrough(filepath.Join(restored, "big"), bytes.Repeat(before, 24)); !errors.Is(err, unix.EDQUOT) {
		b.t.Errorf("beyond the quota of a copy: %v", err)
	}
	b.ok(b.DeleteShareSnapshot(b.ctx, "a", taken))
	b.expectFile(filepath.Join(restored, "file"), before)
}

// sameName: a share that has the name of one that was deleted is not it.
func sameName(b *bed) {
	b.newShare("other", 0, rule(here))
	b.ok(b.CreateShare(b.ctx, dsm.NewShare{Name: "a", VolumePath: "/volume1"}))
	b.ok(b.SetNFSRules(b.ctx, "a", []dsm.NFSRule{rule(here)}))
	dir := b.mount("a")
	b.ok(hosttest.WriteThrough(filepath.Join(dir, "file"), block(b.t)))
	b.ok(b.DeleteShare(b.ctx, "a"))
	b.newShare("a", 0, rule(here))
	if err := hosttest.WriteThrough(filepath.Join(dir, "file"), block(b.t)); !errors.Is(err, unix.ESTALE) {
		b.t.Errorf("a write to the share that was deleted: %v", err)
	}
	b.ok(unix.Unmount(dir, 0))
	if left, err := os.ReadDir("/volume1/a"); err != nil || len(left) != 0 {
		b.t.Errorf("the new share has %v, %v", left, err)
	}
	b.ok(hosttest.WriteThrough(filepath.Join(b.mount("a"), "file"), nil))
}

// openFile is one that stays open, over whatever happens to the NAS.
func (b *bed) openFile(dir string) *os.File {
	b.t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "open"), os.O_CREATE|os.O_RDWR|unix.O_SYNC, 0o644)
	b.ok(err)
	b.t.Cleanup(func() { _ = f.Close() })
	return f
}

// replacedUnderMount: the simulator's process dies and another one goes on; who has a share mounted notices nothing.
func replacedUnderMount(b *bed) {
	b.newShare("a", 16, rule(here))
	dir, data := b.mount("a"), block(b.t)
	f := b.openFile(dir)
	_, err := f.Write(data)
	b.ok(err)
	b.Replace()
	_, err = f.Write(data)
	b.ok(err)
	b.expectFile("/volume1/a/open", append(bytes.Clone(data), data...))
	b.ok(b.SetNFSRules(b.ctx, "a", []dsm.NFSRule{rule(nowhere)}))
	if _, err := f.Write(data); !isRefused(err) {
		b.t.Errorf("a write by one whom the second process removed: %v", err)
	}
	b.ok(b.SetNFSRules(b.ctx, "a", []dsm.NFSRule{rule(here)}))
}

// powerCycleUnderMount: the NAS is away and comes back; a write waits for it, and files stay open.
func powerCycleUnderMount(b *bed) {
	b.newShare("a", 16, rule(here))
	dir, data := b.mount("a"), block(b.t)
	f := b.openFile(dir)
	_, err := f.Write(data)
	b.ok(err)
	written := make(chan error, 1)
	b.PowerCycle(func() {
		if c, err := net.Dial("tcp", here+":2049"); err == nil {
			b.t.Error("a NAS without power serves NFS")
			b.ok(c.Close())
		}
		go func() {
			_, err := f.Write(data)
			written <- err
		}()
	})
	b.ok(<-written)
	b.expectFile("/volume1/a/open", append(bytes.Clone(data), data...))
}
