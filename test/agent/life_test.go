package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/api/v1alpha1"
	"github.com/dozo-dev/dozo/internal/agent/record"
	"github.com/dozo-dev/dozo/internal/agent/remote"
	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// refused checks the kind of an error and words of it.
func refused(t *testing.T, err error, kind errs.Kind, words ...string) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("%v: is %v, want %v", err, errs.KindOf(err), kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
}

// TestBothKilledInTheMiddle: the node is at work when both processes are killed, once for each call. Called
// again, with new processes, everything is as if nothing had happened.
func TestBothKilledInTheMiddle(t *testing.T) {
	b := newBed(t)
	b.node("n1", "fast")
	b.pool("p", fake.KindName, nil)
	f, dir := newFakes(fake.Options{}), t.TempDir()
	node, c := b.agent("n1", dir, f.Kind), b.controller(t)
	b.ready("p", "n1")
	calls := []struct {
		what string
		step func(*fake.Errors) *fake.Step
		call func(context.Context, *remote.Backend) error
	}{
		{"create", func(e *fake.Errors) *fake.Step { return &e.Create }, func(ctx context.Context, p *remote.Backend) error {
			_, err := p.Create(ctx, request("v"))
			return err
		}},
		{"expand", func(e *fake.Errors) *fake.Step { return &e.Expand }, func(ctx context.Context, p *remote.Backend) error {
			_, err := p.Expand(ctx, "v", 4<<20)
			return err
		}},
		{"snapshot", func(e *fake.Errors) *fake.Step { return &e.CreateSnapshot }, func(ctx context.Context, p *remote.Backend) error {
			_, err := p.CreateSnapshot(ctx, backend.SnapshotRequest{ID: "s", Name: "s", Source: "v"})
			return err
		}},
		{"delete snapshot", func(e *fake.Errors) *fake.Step { return &e.DeleteSnapshot }, func(ctx context.Context, p *remote.Backend) error {
			return p.DeleteSnapshot(ctx, "s")
		}},
		{"delete", func(e *fake.Errors) *fake.Step { return &e.Delete }, func(ctx context.Context, p *remote.Backend) error {
			return p.Delete(ctx, "v")
		}},
	}
	for _, when := range []string{"before", "after"} {
		for _, k := range calls {
			t.Run(when+" "+k.what, func(t *testing.T) {
				began, killed := make(chan struct{}), make(chan struct{})
				var once sync.Once
				f.opened().Arm(func(e *fake.Errors) {
					if when == "after" { // the work is done, and nobody hears of it
						k.step(e).After = errs.E(errs.Unavailable, "killed")
					}
					k.step(e).Hold = func(context.Context) error {
						once.Do(func() { close(began) })
						if when == "after" {
							return nil
						}
						<-killed
						return errs.E(errs.Unavailable, "killed")
					}
				})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				p := remote.New("p", c.view, backend.FullMask())
				go func() { ended <- k.call(ctx, p) }()
				<-began
				cancel()
				c.kill()
				<-ended
				close(killed)
				node.kill()
				node, c = b.agent("n1", dir, f.Kind), b.controller(b.t)
				ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				for {
					err := k.call(ctx, remote.New("p", c.view, backend.FullMask()))
					if err == nil {
						break
					}
					if !errs.Is(err, errs.Aborted) && !errs.Is(err, errs.Unavailable) {
						t.Fatal(err)
					}
				}
			})
		}
	}
	b.empty("p", f)
}

// empty checks that nothing is left of a pool, neither objects nor storage.
func (b *bed) empty(name string, of ...*fakes) {
	b.t.Helper()
	var volumes v1alpha1.NodeVolumeList
	b.must(b.Client.List(b.t.Context(), &volumes))
	var snapshots v1alpha1.NodeSnapshotList
	b.must(b.Client.List(b.t.Context(), &snapshots))
	if n := len(volumes.Items) + len(snapshots.Items); n > 0 {
		b.t.Errorf("pool %s: %d objects are left", name, n)
	}
	for _, f := range of {
		if left := f.opened().Leftovers(); len(left) > 0 {
			b.t.Errorf("pool %s: left on the storage: %v", name, left)
		}
	}
}

// TestAPIServerAway: nothing ends on a node because the API server does not answer, its pools are open, also
// after a restart, and the work goes on by itself when it is back.
func TestAPIServerAway(t *testing.T) {
	b := newBed(t)
	b.node("n1", "fast")
	b.pool("p", fake.KindName, nil)
	f, dir := newFakes(fake.Options{}), t.TempDir()
	node, c := b.agent("n1", dir, f.Kind), b.controller(t)
	b.ready("p", "n1")
	p := remote.New("p", c.view, backend.FullMask())
	_, err := p.Create(t.Context(), request("v"))
	b.must(err)

	b.Interrupt()
	use := func(when string) {
		t.Helper()
		local, err := node.pools.Get("p")
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := local.Activate(t.Context(), "v"); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if err := local.SetMark(t.Context(), "v", backend.Mark{FS: "xfs"}); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	use("the API server is away")
	_, err = p.Create(t.Context(), request("later"))
	refused(t, err, errs.Unavailable, "API server")
	_, err = p.Get(t.Context(), "v")
	refused(t, err, errs.Unavailable, "API server")
	node.kill() // and fails the test if it had ended
	node = b.agent("n1", dir, f.Kind)
	use("the agent was started without it")

	b.Resume(t)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	began := time.Now()
	for {
		if _, err = p.Create(ctx, request("later")); err == nil {
			break
		}
		if !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Aborted) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("work went on %v after the API server was back", time.Since(began).Round(10*time.Millisecond))
}

// twoNodes is a pool on n1 and n2 with that much room.
func (b *bed) twoNodes(first, second int64) (f1, f2 *fakes, p *remote.Backend) {
	b.t.Helper()
	b.node("n1", "fast")
	b.node("n2", "slow")
	b.pool("p", fake.KindName, nil)
	f1, f2 = newFakes(fake.Options{Total: first}), newFakes(fake.Options{Total: second})
	b.agent("n1", b.t.TempDir(), f1.Kind)
	b.agent("n2", b.t.TempDir(), f2.Kind)
	b.ready("p", "n1")
	b.ready("p", "n2")
	c := b.controller(b.t)
	return f1, f2, remote.New("p", c.view, backend.FullMask())
}

func TestPlacement(t *testing.T) {
	b := newBed(t)
	f1, f2, p := b.twoNodes(64<<20, 32<<20)
	ctx := t.Context()
	on := func(name string, change func(*backend.Request)) (string, error) {
		r := request(name)
		if change != nil {
			change(&r)
		}
		v, err := p.Create(ctx, r)
		if err != nil {
			return "", err
		}
		return v.Nodes[0], nil
	}
	is := func(what, node, want string, err error) {
		t.Helper()
		if err != nil || node != want {
			t.Errorf("%s: on node %q (%v), want %s", what, node, err, want)
		}
	}
	node, err := on("spread", nil)
	is("most room", node, "n1", err)
	node, err = on("chosen", func(r *backend.Request) { r.Nodes = []string{"n2"} })
	is("the only candidate", node, "n2", err)
	node, err = on("chosen", func(r *backend.Request) { r.Nodes = []string{"n1"} })
	is("the node recorded wins over that of a retry", node, "n2", err)
	node, err = on("copy", func(r *backend.Request) { r.Source.Volume = "chosen" })
	is("a copy", node, "n2", err)
	_, err = on("far-copy", func(r *backend.Request) { r.Source.Volume, r.Nodes = "chosen", []string{"n1"} })
	refused(t, err, errs.NoSpace, "node n2", "n1")
	_, err = on("nowhere", func(r *backend.Request) { r.Nodes = []string{"n9"} })
	refused(t, err, errs.NoSpace, "n9")
	_, err = on("huge", func(r *backend.Request) { r.Size = 1 << 30 })
	refused(t, err, errs.NoSpace, "node n1 has room", "node n2 has room")
	_, err = on("too-large-there", func(r *backend.Request) { r.Size, r.Nodes = 48<<20, []string{"n2"} })
	refused(t, err, errs.NoSpace, "node n2", "free")
	// Nothing is left of it in the way, so that it can be made where there is room.
	node, err = on("too-large-there", func(r *backend.Request) { r.Size, r.Nodes = 48<<20, []string{"n1"} })
	is("rescheduled", node, "n1", err)
	b.must(p.Delete(ctx, "too-large-there"))

	pool := &v1alpha1.Pool{}
	b.must(b.Client.Get(ctx, client.ObjectKey{Name: "p"}, pool))
	pool.Spec.Placement = v1alpha1.Pack
	b.must(b.Client.Update(ctx, pool))
	i := 0
	b.until("volumes are packed on the fuller node", func() bool {
		i++
		node, err := on(fmt.Sprintf("pack-%d", i), nil)
		b.must(err)
		return node == "n2"
	})
	b.deleteAll(p)
	b.empty("p", f1, f2)
}

func (b *bed) deleteAll(p *remote.Backend) {
	b.t.Helper()
	for v, err := range p.List(b.t.Context()) {
		b.must(err)
		b.must(p.Delete(b.t.Context(), v.ID))
	}
}

// TestBurstIsSpread: many volumes at once go to both nodes, though the figures are of before.
func TestBurstIsSpread(t *testing.T) {
	b := newBed(t)
	f1, f2, p := b.twoNodes(64<<20, 64<<20)
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			r := request(fmt.Sprintf("v%d", i))
			r.Size = 2 << 20
			for {
				_, err := p.Create(t.Context(), r)
				if err == nil {
					return
				}
				if !errs.Is(err, errs.NoSpace) { // that node was full; the provisioner calls again
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.deleteAll(p)
	b.empty("p", f1, f2)
}

// TestStorageIsTheTruth: orphans are listed and adopted, never deleted; what vanished is reported, never
// made anew; an object that does not fit what is there does not take it along.
func TestStorageIsTheTruth(t *testing.T) {
	b := newBed(t)
	b.node("n1", "fast")
	b.pool("p", fake.KindName, nil)
	f := newFakes(fake.Options{})
	node := b.agent("n1", t.TempDir(), f.Kind)
	b.ready("p", "n1")
	p, ctx := remote.New("p", b.controller(t).view, backend.FullMask()), t.Context()
	disk := f.opened()
	orphan := request("orphan")
	orphan.Nodes = nil
	_, err := disk.Create(ctx, orphan)
	b.must(err)
	node.agent.Observe(poolObservation())
	b.until("the orphan is listed", func() bool {
		np := b.poolOn("p", "n1")
		return np.Orphans == 1 && len(np.OrphanItems) == 1 && np.OrphanItems[0].ID == "orphan"
	})

	larger := request("orphan")
	larger.Size *= 2
	_, err = p.Create(ctx, larger)
	refused(t, err, errs.Exists, "node n1")
	if _, err := disk.Get(ctx, "orphan"); err != nil {
		t.Fatalf("the orphan went with an object that it did not fit: %v", err)
	}
	if _, err := p.Create(ctx, orphan); err != nil {
		t.Errorf("adopting the orphan: %v", err)
	}
	b.until("it is no orphan any more", func() bool { np := b.poolOn("p", "n1"); return np.Orphans == 0 && np.Volumes == 1 })

	b.must(disk.Delete(ctx, "orphan")) // somebody's mistake, or a disk
	b.until("it is reported missing", func() bool { return b.answer("p.orphan") == "NotFound" })
	_, err = p.Create(ctx, orphan)
	refused(t, err, errs.NotFound, "not made anew")
	if _, err := disk.Get(ctx, "orphan"); !errs.Is(err, errs.NotFound) {
		t.Fatalf("a lost volume was made anew, blank: %v", err)
	}
	problems, err := p.Check(ctx, "orphan")
	if err != nil || len(problems) != 1 || problems[0].Severity != backend.DataLoss {
		t.Errorf("problems: %+v (%v)", problems, err)
	}
	_, err = disk.Create(ctx, orphan) // its disk is back
	b.must(err)
	b.until("it is well again", func() bool { return b.answer("p.orphan") == "Ready" })
	disk.SetProblems("orphan", backend.Problem{Severity: backend.Degraded, Reason: "Slow", Message: "half of it"})
	b.until("its problem is seen", func() bool {
		problems, err := p.Check(ctx, "orphan")
		return err == nil && len(problems) == 1 && problems[0].Reason == "Slow"
	})
	b.must(p.Delete(ctx, "orphan"))
	b.empty("p", f)
}

// answer is the reason of the Ready condition of a volume.
func (b *bed) answer(name string) string {
	b.t.Helper()
	o := &v1alpha1.NodeVolume{}
	b.must(b.Client.Get(b.t.Context(), client.ObjectKey{Name: name}, o))
	if err := record.Answer(o); err != nil {
		return record.Reason(err)
	}
	return v1alpha1.ReasonReady
}

// TestRefusedDeletionIsNotDoneLater: what was refused while the volume was in use is not done behind
// anybody's back when it no longer is.
func TestRefusedDeletionIsNotDoneLater(t *testing.T) {
	b := newBed(t)
	b.node("n1", "fast")
	b.pool("p", fake.KindName, nil)
	f, dir := newFakes(fake.Options{}), t.TempDir()
	node := b.agent("n1", dir, f.Kind)
	b.ready("p", "n1")
	p, ctx := remote.New("p", b.controller(t).view, backend.FullMask()), t.Context()
	_, err := p.Create(ctx, request("v"))
	b.must(err)
	open, err := f.opened().Open("v")
	b.must(err)
	refused(t, p.Delete(ctx, "v"), errs.InUse, "node n1")
	b.must(open.Close())
	node.kill()
	b.agent("n1", dir, f.Kind)
	time.Sleep(3 * time.Second) // a scan, and the first retries of what is retried
	if _, err := p.Get(ctx, "v"); err != nil {
		t.Errorf("it is gone: %v", err)
	}
	if _, err := p.Create(ctx, request("v")); err != nil {
		t.Errorf("the deletion cannot be taken back: %v", err)
	}
	b.must(p.Delete(ctx, "v"))
	b.empty("p", f)
}

// TestPoolFollowsItsObject: an edited Pool takes effect while all runs, on the nodes that it selects.
func TestPoolFollowsItsObject(t *testing.T) {
	b := newBed(t)
	ctx := t.Context()
	b.twoNodes(64<<20, 64<<20)
	edit := func(change func(*v1alpha1.Pool)) {
		t.Helper()
		p := &v1alpha1.Pool{}
		b.must(b.Client.Get(ctx, client.ObjectKey{Name: "p"}, p))
		change(p)
		b.must(b.Client.Update(ctx, p))
	}
	edit(func(p *v1alpha1.Pool) {
		p.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "fast"}}
	})
	b.until("n2 has it no more", func() bool { return b.poolOn("p", "n2") == nil && b.poolOn("p", "n1") != nil })
	n2 := &corev1.Node{}
	b.must(b.Client.Get(ctx, client.ObjectKey{Name: "n2"}, n2))
	n2.Labels["disk"] = "fast"
	b.must(b.Client.Update(ctx, n2))
	b.ready("p", "n2")
	edit(func(p *v1alpha1.Pool) { p.Spec.Options = map[string]string{"speed": "9000"} })
	b.until("the wrong option is reported, by name", func() bool {
		c := b.poolOn("p", "n1").Conditions[0]
		return c.Reason == "Invalid" && strings.Contains(c.Message, `options["speed"]`)
	})
	edit(func(p *v1alpha1.Pool) { p.Spec.Options = nil })
	b.ready("p", "n1")
	b.must(b.Client.Delete(ctx, &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "p"}}))
	b.until("no node has it", func() bool { return b.poolOn("p", "n1") == nil && b.poolOn("p", "n2") == nil })
}
