package iscsi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/errs/errstest"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/test/lab"
	"github.com/dozo-dev/dozo/test/lab/lio"
)

const second = "127.0.0.2:3260"

// TestMultipath: a disk with two portals is one device, which outlives one of them.
func TestMultipath(t *testing.T) {
	g := guest()
	g.Modules = append(g.Modules, "dm-multipath", "dm-round-robin", "dm-service-time")
	g.Programs = append(g.Programs, "multipath", "multipathd")
	if !lab.Run(t, g) {
		return
	}
	lab.StartInitiator(t)
	b := newBed(t)
	d, a := b.disk(size)
	b.target = lio.NewTarget(t, iqn, "", "", address, second)
	b.target.Map(d, 1)
	a.ISCSI.Target.Portals = append(a.ISCSI.Target.Portals, second)
	r := b.request("v", a, "ext4")
	errstest.Refused(b.t, "without multipathd", b.node.Stage(t.Context(), r), errs.Unavailable, "multipathd", "find_multipaths no")
	if left := lab.InitiatorLeft(); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
	configure(t, "fail")
	lab.Output(t, "/lib/systemd/systemd-udevd", "--daemon")
	lab.Output(t, "multipathd")
	b.eventually("a map that does not wait for the storage is refused", func() bool {
		err := b.node.Stage(t.Context(), r)
		return err != nil && strings.Contains(err.Error(), "no_path_retry")
	})
	configure(t, "300")
	lab.Output(t, "multipathd", "reconfigure")
	b.eventually("multipathd has made a map", func() bool { // in its own time; the kubelet calls again too
		err := b.node.Stage(t.Context(), r)
		if err != nil && !errs.Is(err, errs.Unavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	b.stage(r)
	if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || !strings.Contains(string(table), "/dev/dm-") && !strings.Contains(string(table), "/dev/mapper/") {
		t.Errorf("not mounted by its map: %s, %v", table, err)
	}
	if n := b.sessions(); n != 2 {
		t.Errorf("%d sessions", n)
	}
	write(t, filepath.Join(r.Staging, "data"), "by two ways")
	d.Grow(2 * size)
	if got, err := b.node.Expand(t.Context(), r.Volume, r.Staging); err != nil || got != 2*size {
		t.Errorf("grown to %d, %v", got, err)
	}
	if got := b.reasons(r); len(got) > 0 {
		t.Errorf("health: %v", got)
	}
	outage(b, r)
	lab.Output(t, "iscsiadm", "-m", "node", "-T", iqn, "-p", second, "--logout")
	b.eventually("one path is lost", func() bool { return slices.Contains(b.reasons(r), "PathLost") })
	write(t, filepath.Join(r.Staging, "more"), "by one way")
	read(t, filepath.Join(r.Staging, "data"), "by two ways")
	b.unstage(r)
}

// configure says how often a path is looked for when there is none left.
func configure(t *testing.T, noPathRetry string) {
	t.Helper()
	conf := "defaults {\n find_multipaths no\n polling_interval 1\n}\noverrides {\n no_path_retry " + noPathRetry + "\n}\nblacklist {\n devnode \"^(ubd|loop|dm-)\"\n}\n"
	if err := os.WriteFile("/etc/multipath.conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
}

// outage: a write waits for a storage that is away by all its portals, for longer than dm-multipath gives a path.
func outage(b *bed, r node.StageRequest) {
	b.t.Helper()
	path := filepath.Join(r.Staging, "late")
	b.target.Enable(false)
	written := make(chan error, 1)
	go func() { written <- hosttest.WriteThrough(path, []byte("late")) }()
	select {
	case err := <-written:
		b.t.Errorf("written without a path: %v", err)
	case <-time.After(10 * time.Second):
	}
	b.target.Enable(true)
	if err := <-written; err != nil {
		b.t.Error(err)
	}
	read(b.t, path, "late")
	b.eventually("all paths are back", func() bool { return len(b.reasons(r)) == 0 })
}
