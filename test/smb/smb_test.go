// Package smb tests volumes that are shares by SMB for real: the pool, a NAS with Samba's smbd, and nodes with the kernel's
// client, in a guest that is all of them.
package smb

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/lab"
)

const mib = 1 << 20

// size is that of volumes, of which a share's quota is made.
const size = 64 * mib

// bed is a pool on a NAS, and nodes that use it.
type bed struct {
	*naslab.NAS
	t     *testing.T
	dir   string
	pool  backend.Backend
	argv  *hosttest.ArgvLog
	nodes map[string]*node.Node
}

func newBed(t *testing.T, nas *naslab.NAS) *bed {
	t.Helper()
	b := &bed{NAS: nas, t: t, dir: t.TempDir(), argv: &hosttest.ArgvLog{Runner: host.Exec{}}, nodes: map[string]*node.Node{}}
	options, err := backend.Complete("options", synology.Kind().Options, map[string]string{
		"url": nas.Server.URL, "ca": string(nas.Server.CA()), "protocol": "smb", "users": naslab.User,
	})
	b.ok(err)
	b.pool, err = synology.Kind().Open(t.Context(), backend.Config{
		Pool: "nas", Options: options, Secrets: map[string][]byte{"username": []byte(naslab.Account), "password": []byte(naslab.Password)},
	})
	b.ok(err)
	t.Cleanup(func() { // runs when the nodes' was
		if err := b.pool.Close(); err != nil {
			t.Error(err)
		}
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || strings.Contains(string(table), " - cifs ") {
			t.Errorf("mounted: %s, %v", table, err)
		}
	})
	for _, name := range []string{"n1", "n2"} {
		b.restart(name)
	}
	return b
}

// patience is for a machine that is busy with other things: the kernel takes a server that is slow to answer for one that is away.
const patience = 5 * time.Minute

// stage stages a volume.
func (b *bed) stage(on string, r node.StageRequest) error {
	return b.again(func() error { return b.nodes[on].Stage(b.t.Context(), r) })
}

// unstage undoes it.
func (b *bed) unstage(on string, r node.StageRequest) error {
	return b.again(func() error { return b.nodes[on].Unstage(b.t.Context(), r.Volume, r.Staging) })
}

// soonAgain reports whether an error is that the server is away, or that an earlier call still waits for it.
func soonAgain(err error) bool { return errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Aborted) }

// again makes a call as often as it takes until the volume's server has answered.
func (b *bed) again(call func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(time.Second) {
		err := call()
		if !soonAgain(err) || time.Now().After(end) {
			return err
		}
		b.t.Logf("once more: %v", err)
	}
}

// restart makes a node, or ends its process and begins another one.
func (b *bed) restart(name string) {
	b.t.Helper()
	pools, err := pool.NewSet()
	b.ok(err)
	h := host.New()
	h.Runner = b.argv
	dir := filepath.Join(b.dir, name)
	if b.nodes[name] == nil {
		b.t.Cleanup(func() { hosttest.NothingLeft(b.t, dir, "state/lock") })
	}
	b.nodes[name], err = node.New(h, pools, node.Options{Name: name, StateDir: filepath.Join(dir, "state"), TargetRoot: dir, Log: slog.New(slog.DiscardHandler)})
	b.ok(err)
}

func login() map[string]string {
	return map[string]string{"username": naslab.User, "password": naslab.UserPassword}
}

// create makes a volume for the length of the test.
func (b *bed) create(name string) backend.ID {
	b.t.Helper()
	parameters, err := backend.Complete("parameters", synology.Kind().Parameters, nil)
	b.ok(err)
	v, err := b.pool.Create(b.t.Context(), backend.Request{ID: backend.IDFor(name), Name: name, Size: size, Parameters: parameters})
	b.ok(err)
	b.t.Cleanup(func() {
		if err := b.pool.Delete(context.WithoutCancel(b.t.Context()), v.ID); err != nil {
			b.t.Error(err)
		}
	})
	return v.ID
}

// stageRequest attaches a volume to a node, and is how it is staged there.
func (b *bed) stageRequest(id backend.ID, on string) node.StageRequest {
	b.t.Helper()
	a, err := b.pool.(backend.Attacher).Attach(context.WithoutCancel(b.t.Context()), id, backend.AttachRequest{Node: on, Shared: true})
	b.ok(err)
	b.ok(a.Check())
	b.t.Cleanup(func() { b.detach(id, on) })
	return node.StageRequest{Volume: "nas:" + string(id), Access: a, Staging: filepath.Join(b.dir, on, "staging-"+string(id)), Secrets: login()}
}

func (b *bed) detach(id backend.ID, on string) {
	b.t.Helper()
	if err := b.pool.(backend.Attacher).Detach(context.WithoutCancel(b.t.Context()), id, on); err != nil {
		b.t.Error(err)
	}
}

func (b *bed) publishRequest(r node.StageRequest, name string) node.PublishRequest {
	return node.PublishRequest{Volume: r.Volume, Staging: r.Staging, Target: filepath.Join(filepath.Dir(r.Staging), name)}
}

func (b *bed) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// expect fails unless a file has the content.
func (b *bed) expect(path, content string) {
	b.t.Helper()
	if text, err := os.ReadFile(path); err != nil || string(text) != content {
		b.t.Errorf("%s has %q, %v", path, text, err)
	}
}

// mounts counts how often it was tried to mount.
func (b *bed) mounts() int { return strings.Count(b.argv.String(), "mount.cifs ") }

// TestSMB is one boot of a guest for all of it.
func TestSMB(t *testing.T) {
	if !lab.Run(t, naslab.Guest()) {
		return
	}
	nas := naslab.Start(t, dsmsim.Config{})
	for _, c := range []struct {
		name string
		test func(*bed)
	}{{"permission", permission}, {"quota", quota}, {"life", life}, {"away", away}, {"secrets", secrets}, {"refuses", refuses}} {
		t.Run(c.name, func(t *testing.T) { c.test(newBed(t, nas)) })
	}
}

// life: a volume on two nodes at once, one of which only reads.
func life(b *bed) {
	ctx, n1, n2 := b.t.Context(), b.nodes["n1"], b.nodes["n2"]
	id := b.create("life")
	r1, r2 := b.stageRequest(id, "n1"), b.stageRequest(id, "n2")
	r1.MountOptions = []string{"noatime", "seal"}
	for range 2 {
		b.ok(b.stage("n1", r1))
		b.ok(b.stage("n2", r2))
	}
	rw, ro, far := b.publishRequest(r1, "rw"), b.publishRequest(r1, "ro"), b.publishRequest(r2, "far")
	ro.ReadOnly = true
	for range 2 {
		b.ok(n1.Publish(ctx, rw))
		b.ok(n1.Publish(ctx, ro))
		b.ok(n2.Publish(ctx, far))
	}
	b.ok(hosttest.WriteThrough(filepath.Join(rw.Target, "data"), []byte("shared")))
	b.expect(filepath.Join(ro.Target, "data"), "shared")
	b.expect(filepath.Join(far.Target, "data"), "shared")
	b.ok(hosttest.WriteThrough(filepath.Join(far.Target, "back"), []byte("too")))
	b.expect(filepath.Join(rw.Target, "back"), "too")
	if err := hosttest.WriteThrough(filepath.Join(ro.Target, "more"), nil); !errors.Is(err, unix.EROFS) {
		b.t.Errorf("the read-only pod wrote: %v", err)
	}
	anybody(b, rw.Target)
	stats, err := n1.Stats(ctx, r1.Volume, rw.Target)
	if err != nil || stats.TotalBytes == 0 {
		b.t.Errorf("stats: %+v, %v", stats, err)
	}
	if got, err := n1.Expand(ctx, r1.Volume, rw.Target); err != nil || got == 0 {
		b.t.Errorf("expanded to %d, %v", got, err)
	}
	if problems, err := n1.Health(ctx, r1.Volume); err != nil || len(problems) > 0 {
		b.t.Errorf("health: %v, %v", problems, err)
	}
	errstest.Refused(b.t, "Unstage while published", n1.Unstage(ctx, r1.Volume, r1.Staging), errs.InUse, rw.Target)
	b.restart("n1") // which knows all from its records
	n1 = b.nodes["n1"]
	b.ok(b.stage("n1", r1))
	for range 2 {
		b.ok(n1.Unpublish(ctx, r1.Volume, rw.Target))
		b.ok(n1.Unpublish(ctx, r1.Volume, ro.Target))
		b.ok(n2.Unpublish(ctx, r2.Volume, far.Target))
		b.ok(n1.Unstage(ctx, r1.Volume, r1.Staging))
		b.ok(n2.Unstage(ctx, r2.Volume, r2.Staging))
	}
}
