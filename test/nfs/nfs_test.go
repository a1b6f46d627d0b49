// Package nfs tests volumes that are file systems on a server for real, on a kernel of their own that is both server and
// client.
package nfs

import (
	"context"
	"errors"
	"hash/crc32"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/dsmsim/knfsd"
	"github.com/dozo-dev/dozo/test/lab"
)

const shares = "/srv/shares"

// bed is a node that uses the server.
type bed struct {
	t      *testing.T
	server *knfsd.Server
	dir    string
	node   *node.Node
}

func newBed(t *testing.T, s *knfsd.Server) *bed {
	t.Helper()
	b := &bed{t: t, server: s, dir: t.TempDir()}
	pools, err := pool.NewSet()
	if err != nil {
		t.Fatal(err)
	}
	b.node, err = node.New(host.New(), pools, node.Options{Name: "n1", StateDir: filepath.Join(b.dir, "state"), TargetRoot: b.dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		hosttest.NothingLeft(t, b.dir, "state/lock")
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || strings.Contains(string(table), " - nfs4 ") {
			t.Errorf("mounted: %s, %v", table, err)
		}
	})
	return b
}

// request is for a share, which is made if it is not there.
func (b *bed) request(share string) node.StageRequest {
	b.t.Helper()
	path := filepath.Join(shares, share)
	b.ok(os.MkdirAll(path, 0o777))
	anybody := knfsd.Rule{Clients: func(netip.Addr) bool { return true }}
	b.ok(b.server.Set(knfsd.Export{Path: path, FSID: crc32.ChecksumIEEE([]byte(share)), Rules: []knfsd.Rule{anybody}}))
	a := backend.MountAccess(backend.Mount{Type: backend.NFS, Source: "127.0.0.1:" + path, Options: []string{"nfsvers=4.1"}})
	return node.StageRequest{Volume: "p:" + share, Access: a, Staging: filepath.Join(b.dir, "staging-"+share)}
}

func (b *bed) publishRequest(r node.StageRequest, name string) node.PublishRequest {
	return node.PublishRequest{Volume: r.Volume, Staging: r.Staging, Target: filepath.Join(b.dir, name)}
}

func (b *bed) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestNFS is one boot of a guest for all of it.
func TestNFS(t *testing.T) {
	if !lab.Run(t, lab.Guest{MemoryMiB: 768, Modules: []string{"nfs", "nfsv4", "nfsd"}, Programs: []string{"mount.nfs"}}) {
		return
	}
	s, err := knfsd.Open(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Stop(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Run("life", func(t *testing.T) { life(t, newBed(t, s)) })
	t.Run("refuses", func(t *testing.T) { refuses(t, newBed(t, s)) })
	t.Run("away", func(t *testing.T) { away(t, newBed(t, s)) })
}

// life: two volumes of one server, each for several pods.
func life(t *testing.T, b *bed) {
	ctx := t.Context()
	r, other := b.request("one"), b.request("two")
	r.MountOptions = []string{"noatime"}
	for range 2 {
		b.ok(b.node.Stage(ctx, r))
		b.ok(b.node.Stage(ctx, other))
	}
	rw, ro := b.publishRequest(r, "rw"), b.publishRequest(r, "ro")
	ro.ReadOnly = true
	for range 2 {
		b.ok(b.node.Publish(ctx, rw))
		b.ok(b.node.Publish(ctx, ro))
	}
	b.ok(os.WriteFile(filepath.Join(rw.Target, "data"), []byte("shared"), 0o600))
	if text, err := os.ReadFile(filepath.Join(shares, "one", "data")); err != nil || string(text) != "shared" {
		t.Errorf("the server has %q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(ro.Target, "data")); err != nil || string(text) != "shared" {
		t.Errorf("the other pod has %q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(ro.Target, "more"), nil, 0o600); err == nil {
		t.Error("the read-only pod wrote")
	}
	stats, err := b.node.Stats(ctx, r.Volume, rw.Target)
	if err != nil || stats.TotalBytes == 0 || stats.TotalInodes == 0 {
		t.Errorf("stats: %+v, %v", stats, err)
	}
	if got, err := b.node.Expand(ctx, r.Volume, rw.Target); err != nil || got != stats.TotalBytes {
		t.Errorf("expanded to %d, %v", got, err)
	}
	if problems, err := b.node.Health(ctx, r.Volume); err != nil || len(problems) > 0 {
		t.Errorf("health: %v, %v", problems, err)
	}
	errstest.Refused(b.t, "Unstage while published", b.node.Unstage(ctx, r.Volume, r.Staging), errs.InUse, rw.Target)
	taken := b.publishRequest(other, "rw")
	errstest.Refused(b.t, "the other volume's target", b.node.Publish(ctx, taken), errs.InUse)
	for range 2 {
		b.ok(b.node.Unpublish(ctx, r.Volume, rw.Target))
		b.ok(b.node.Unpublish(ctx, r.Volume, ro.Target))
		b.ok(b.node.Unstage(ctx, r.Volume, r.Staging))
	}
	b.ok(b.node.Unstage(ctx, other.Volume, other.Staging))
}

func refuses(t *testing.T, b *bed) {
	ctx := t.Context()
	for what, change := range map[string]func(*node.StageRequest){
		"volumeMode": func(r *node.StageRequest) { r.Block = true },
		"fs_type":    func(r *node.StageRequest) { r.FSType = "ext4" },
		"mkfs":       func(r *node.StageRequest) { r.MkfsOptions = []string{"-q"} },
		"addr":       func(r *node.StageRequest) { r.MountOptions = []string{"addr=127.0.0.2"} },
		"bogus":      func(r *node.StageRequest) { r.MountOptions = []string{"bogus"} },
	} {
		r := b.request("one")
		change(&r)
		errstest.Refused(b.t, what, b.node.Stage(ctx, r), errs.Invalid, what)
	}
	absent := b.request("one")
	absent.Access.Mount.Source += "/nosuch"
	errstest.Refused(b.t, "no such share", b.node.Stage(ctx, absent), errs.Unavailable, "No such file")
}

// away: nothing waits for ever for a server that does not answer.
func away(t *testing.T, b *bed) {
	ctx := t.Context()
	r := b.request("one")
	b.ok(b.node.Stage(ctx, r))
	p, late := b.publishRequest(r, "pod"), b.publishRequest(r, "late")
	b.ok(b.node.Publish(ctx, p))
	b.ok(os.WriteFile(filepath.Join(p.Target, "data"), []byte("kept"), 0o600))
	b.ok(b.server.Stop())
	_, err := b.node.Stats(ctx, r.Volume, p.Target)
	errstest.Refused(b.t, "Stats", err, errs.Unavailable, "no answer")
	problems, err := b.node.Health(ctx, r.Volume)
	if err != nil || !slices.ContainsFunc(problems, func(p backend.Problem) bool { return p.Reason == node.ReasonNoAnswer }) {
		t.Errorf("health: %v, %v", problems, err)
	}
	errstest.Refused(b.t, "Publish", b.node.Publish(ctx, late), errs.Unavailable)
	errstest.Refused(b.t, "Stage of another", b.node.Stage(ctx, b.request("two")), errs.Unavailable)
	b.ok(b.node.Stage(ctx, r)) // finds it, without asking
	b.ok(b.node.Unpublish(ctx, r.Volume, p.Target))
	for range 2 { // what may not be written yet is not let go of
		soon, cancel := context.WithTimeout(ctx, 3*time.Second)
		if err := b.node.Unstage(soon, r.Volume, r.Staging); !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Aborted) {
			t.Errorf("Unstage without a server: %v", err)
		}
		cancel()
	}
	b.ok(b.server.Start())
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) { // as the kubelet
		if err := b.node.Unstage(ctx, r.Volume, r.Staging); err == nil || time.Now().After(end) {
			b.ok(err)
			break
		}
	}
	b.ok(b.node.Stage(ctx, r))
	if text, err := os.ReadFile(filepath.Join(r.Staging, "data")); err != nil || string(text) != "kept" {
		t.Errorf("read %q, %v", text, err)
	}
	b.ok(b.node.Unstage(ctx, r.Volume, r.Staging))
}
