package nas_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend/synology/dsm"
	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/lab"
)

const mib = 1 << 20

// patience is for what needs a busy machine's time, and is never used up when all is well.
const patience = 2 * time.Minute

// bed is a NAS, our client of it, and an initiator in the same kernel.
type bed struct {
	*naslab.NAS
	*dsm.Client
	t   *testing.T
	ctx context.Context
}

func newBed(t *testing.T, cfg dsmsim.Config) *bed {
	t.Helper()
	b := &bed{NAS: naslab.Start(t, cfg), t: t, ctx: context.WithoutCancel(t.Context())}
	client, err := dsm.New(dsm.Config{URL: b.Server.URL, CA: b.Server.CA(), Credentials: dsm.Credentials{Account: naslab.Account, Password: dsm.NewSecret(naslab.Password)}})
	b.ok(err)
	b.Client = client
	t.Cleanup(func() {
		if err := client.Close(b.ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

// run is a subtest, after which nothing of it may be left in the kernel.
func (b *bed) run(name string, f func(b *bed)) {
	b.t.Run(name, func(t *testing.T) {
		t.Cleanup(func() { expectNothing(t) }) // runs last
		f(&bed{NAS: b.NAS, Client: b.Client, t: t, ctx: b.ctx})
	})
}

func (b *bed) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// expectNothing looks for whatever the plane and the initiator could leave.
func expectNothing(t *testing.T) {
	t.Helper()
	for _, left := range naslab.Left(t) {
		t.Errorf("left over: %s", left)
	}
}

// newLUN makes one and removes it after the test.
func (b *bed) newLUN(name string, size int64) dsm.LUN {
	b.t.Helper()
	uuid, err := b.CreateLUN(b.ctx, dsm.NewLUN{Name: name, Location: "/volume1", Type: dsm.TypeThin, Size: size, Attrs: []string{dsm.AttrSnapshot, dsm.AttrUnmap}})
	b.ok(err)
	b.t.Cleanup(func() { b.ok(b.DeleteLUN(b.ctx, uuid)) })
	l, err := b.LUN(b.ctx, uuid)
	b.ok(err)
	return l
}

// target is one with the secrets that an initiator says.
type target struct {
	id   int64
	iqn  string
	auth []string // NAME=VALUE of a node record
}

func (b *bed) newTarget(name string, max int, chap dsm.CHAP) target {
	b.t.Helper()
	at := target{iqn: "iqn.2000-01.com.synology:nas." + name}
	id, err := b.CreateTarget(b.ctx, dsm.NewTarget{Name: name, IQN: at.iqn, MaxSessions: max, CHAP: chap})
	b.ok(err)
	at.id = id
	b.t.Cleanup(func() { b.ok(b.DeleteTarget(b.ctx, id)) })
	if chap.User != "" {
		at.auth = []string{"authmethod=CHAP", "username=" + chap.User, "password=" + chap.Password.Reveal()}
	}
	if chap.MutualUser != "" {
		at.auth = append(at.auth, "username_in="+chap.MutualUser, "password_in="+chap.MutualPassword.Reveal())
	}
	return at
}

// mapTo maps a LUN and returns the index that it has got.
func (b *bed) mapTo(at target, uuid string) int {
	b.t.Helper()
	b.ok(b.MapLUN(b.ctx, uuid, at.id))
	for _, m := range b.describe(at).Mapped {
		if m.LUN == uuid {
			return int(m.Index)
		}
	}
	b.t.Fatalf("LUN %s is not in target %s", uuid, at.iqn)
	return 0
}

func (b *bed) describe(at target) dsm.Target {
	b.t.Helper()
	d, err := b.Target(b.ctx, fmt.Sprint(at.id))
	b.ok(err)
	return d
}

// Exit statuses of iscsiadm (man iscsiadm).
const (
	exitNone   = 21
	exitDenied = 24 // login failed for want of authorization
)

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// eventually asks until there is no error.
func eventually(t *testing.T, problem func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := problem()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (at target) admin(t *testing.T, args ...string) error {
	_, err := lab.Try(t, "iscsiadm", append([]string{"-m", "node", "-T", at.iqn, "-p", naslab.Portal}, args...)...)
	return err
}

// tryLogin logs in with what the initiator knows of the target.
func (b *bed) tryLogin(at target) error {
	b.t.Helper()
	b.ok(at.admin(b.t, "-o", "new"))
	for _, s := range at.auth {
		name, value, _ := strings.Cut(s, "=")
		b.ok(at.admin(b.t, "-o", "update", "-n", "node.session.auth."+name, "-v", value))
	}
	return at.admin(b.t, "--login")
}

func (b *bed) login(at target) {
	b.t.Helper()
	b.t.Cleanup(func() { b.logout(at) })
	b.ok(b.tryLogin(at))
}

// logout ends the session if there is one, and removes the record.
func (b *bed) logout(at target) {
	b.t.Helper()
	if err := at.admin(b.t, "--logout"); err != nil && exitCode(err) != exitNone {
		b.t.Error(err)
	}
	if err := at.admin(b.t, "-o", "delete"); err != nil && exitCode(err) != exitNone {
		b.t.Error(err)
	}
}

// disks returns the disks of the initiator by what the kernel calls them.
func disks(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/sd*/device/wwid")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, f := range files {
		wwid, err := os.ReadFile(f)
		if err != nil {
			continue // it is going away
		}
		found["3"+strings.TrimPrefix(strings.TrimSpace(string(wwid)), "naa.")] = "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(f)))
	}
	return found
}

// disk waits for the disk that a LUN is, until the kernel has done with looking at it: a LUN that is taken away before has
// no size afterwards.
func (b *bed) disk(uuid string) string {
	b.t.Helper()
	var device string
	eventually(b.t, func() error {
		device = disks(b.t)[dsm.WWID(uuid)]
		if _, err := os.Stat(device); device == "" || err != nil {
			return fmt.Errorf("there is no disk %s, but %v", dsm.WWID(uuid), disks(b.t))
		}
		return nil
	})
	b.ok(os.WriteFile(filepath.Join("/sys/block", filepath.Base(device), "device/rescan"), []byte("1"), 0)) // waits for the driver's probe
	return device
}

// rescan has the initiator look for LUNs that came and for new sizes.
func rescan(t *testing.T) { lab.Output(t, "iscsiadm", "-m", "session", "-R") }

// block is data to recognise.
func block(t *testing.T) []byte {
	t.Helper()
	data := make([]byte, mib)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// writeTo writes data at an offset of a device and does not return before the NAS has acknowledged it. Nothing of it stays
// in this kernel's memory, of which the NAS has the same.
func writeTo(device string, at int64, data []byte) error {
	f, err := os.OpenFile(device, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, at)
	return errors.Join(err, forgetPages(f), f.Close())
}

func forgetPages(f *os.File) error {
	return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// expectAt reads a device from the NAS.
func expectAt(t *testing.T, device string, at int64, want []byte) {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has other bytes at %d: %v", device, at, err)
	}
}
