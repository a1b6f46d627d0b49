// Package iscsi tests volumes behind iSCSI targets for real, on a kernel of their own that is both target and initiator.
package iscsi

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/lab/lio"
)

const (
	mib      = 1 << 20
	size     = 320 * mib // enough for xfs
	iqn      = "iqn.2000-01.com.synology:nas.dozo.p.n1"
	address  = "127.0.0.1:3260"
	user     = "dozo"
	password = "a-password-of-chap"
)

func guest() lab.Guest {
	return lab.Guest{
		MemoryMiB: 1024,
		Modules:   append(lio.Modules(), "iscsi_tcp", "sd_mod", "dm-crypt", "xts", "algif_skcipher"),
		Programs:  []string{"iscsid", "iscsiadm", "losetup", "blkdiscard", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "cryptsetup"},
	}
}

// bed is a node that uses a target.
type bed struct {
	t      *testing.T
	dir    string
	argv   *hosttest.ArgvLog
	log    *bytes.Buffer
	seam   *hosttest.Recorder
	node   *node.Node
	target *lio.Target
	disks  int
	root   string // of the node's file system; see [host.Host]
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), log: &bytes.Buffer{}, seam: &hosttest.Recorder{}, argv: &hosttest.ArgvLog{Runner: hosttest.CheapKeys{Runner: host.Exec{}}}}
	b.node = b.open()
	t.Cleanup(b.nothingLeft)
	return b
}

// open starts another node process, as far as that can be had in one.
func (b *bed) open() *node.Node {
	b.t.Helper()
	h := host.New()
	h.Runner, h.Seam, h.Node = b.argv, b.seam.Seam, b.root
	log := slog.New(slog.NewTextHandler(b.log, nil))
	pools, err := pool.NewSet()
	if err != nil {
		b.t.Fatal(err)
	}
	n, err := node.New(h, pools, node.Options{Name: "n1", StateDir: filepath.Join(b.dir, "state"), TargetRoot: b.dir, Log: log})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bed) nothingLeft() {
	if left := lab.InitiatorLeft(); len(left) > 0 {
		b.t.Errorf("left on the node: %v\n%s", left, b.log)
	}
	hosttest.NothingLeft(b.t, b.dir, "state/lock")
}

// disk makes a disk that the target has under the next number.
func (b *bed) disk(bytes int64) (*lio.Disk, backend.Access) {
	b.t.Helper()
	b.disks++
	d := lio.NewDisk(b.t, fmt.Sprintf("d%d", b.disks), fmt.Sprintf("%025x", 0xa0+b.disks), bytes)
	return d, b.access(d, b.disks)
}

func (b *bed) access(d *lio.Disk, lun int) backend.Access {
	return backend.ISCSIAccess(d.WWID, &backend.ISCSITarget{IQN: iqn, Portals: []string{address}, LUN: lun})
}

// serve starts a target with these disks under the numbers 1, 2, ….
func (b *bed) serve(user, password string, disks ...*lio.Disk) {
	b.t.Helper()
	b.target = lio.NewTarget(b.t, iqn, user, password, address)
	for i, d := range disks {
		b.target.Map(d, i+1)
	}
}

func (b *bed) request(name string, a backend.Access, kind string) node.StageRequest {
	r := node.StageRequest{Volume: "p:" + name, Access: a, Staging: filepath.Join(b.dir, "staging-"+name), FSType: kind}
	if kind == "block" {
		r.FSType, r.Block = "", true
	}
	return r
}

func (b *bed) stage(r node.StageRequest) {
	b.t.Helper()
	if err := b.node.Stage(b.t.Context(), r); err != nil {
		b.t.Fatalf("Stage %s: %v\n%s", r.Volume, err, b.log)
	}
}

func (b *bed) unstage(r node.StageRequest) {
	b.t.Helper()
	if err := b.node.Unstage(b.t.Context(), r.Volume, r.Staging); err != nil {
		b.t.Fatalf("Unstage %s: %v\n%s", r.Volume, err, b.log)
	}
}

func (b *bed) publish(r node.StageRequest) (target string) {
	b.t.Helper()
	target = r.Staging + "-target"
	err := b.node.Publish(b.t.Context(), node.PublishRequest{Volume: r.Volume, Staging: r.Staging, Target: target, Block: r.Block})
	if err != nil {
		b.t.Fatalf("Publish %s: %v", r.Volume, err)
	}
	return target
}

func (b *bed) unpublish(r node.StageRequest) {
	b.t.Helper()
	if err := b.node.Unpublish(b.t.Context(), r.Volume, r.Staging+"-target"); err != nil {
		b.t.Fatalf("Unpublish %s: %v", r.Volume, err)
	}
}

// reasons are those of a volume's problems.
func (b *bed) reasons(r node.StageRequest) (all []string) {
	b.t.Helper()
	problems, err := b.node.Health(b.t.Context(), r.Volume)
	if err != nil {
		b.t.Errorf("Health: %v", err)
	}
	for _, p := range problems {
		all = append(all, p.Reason)
	}
	return all
}

// impatient makes the sessions give up a target that is away after seconds.
func (b *bed) impatient() {
	b.t.Helper()
	files, err := filepath.Glob("/sys/class/iscsi_session/*/recovery_tmo")
	if err != nil || len(files) == 0 {
		b.t.Fatalf("no sessions: %v", err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("3"), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bed) sessions() int {
	b.t.Helper()
	found, err := filepath.Glob("/sys/class/iscsi_session/*")
	if err != nil {
		b.t.Fatal(err)
	}
	return len(found)
}

func (b *bed) eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("not after two minutes: %s\n%s", what, b.log)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path, want string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := f.Read(got); err != nil || string(got) != want {
		t.Errorf("%s: read %q, %v; want %q", path, got, err, want)
	}
}
