package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/synology"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/host/hosttest"
	"github.com/dozo-dev/dozo/internal/node"
	"github.com/dozo-dev/dozo/internal/pool"
	"github.com/dozo-dev/dozo/test/dsmsim"
	"github.com/dozo-dev/dozo/test/dsmsim/naslab"
	"github.com/dozo-dev/dozo/test/lab"
	nas "github.com/dozo-dev/dozo/test/synology"
)

// nasOptions has the options of a pool on the test's NAS, for the processes of its runs.
const nasOptions = "DOZO_CRASH_NAS"

const (
	copySize = 1 << 30 // of copies, larger than what they are of will ever be
	growth   = 16 * mib
)

// TestSynology kills the whole driver of a NAS, what its controller does at the NAS and what its node does with the volumes: at some of
// the points, since there are many.
func TestSynology(t *testing.T) {
	synologyLives(t, false, func(n int, _, _ string) bool { return n%12 == 0 })
}

// TestSynologyEverywhere does so at every point.
func TestSynologyEverywhere(t *testing.T) {
	lab.Long(t, "6 to 20 minutes")
	synologyLives(t, false, nil)
}

// TestSynologyInFlight kills the driver while a call is on its way to a NAS that takes its time: what was asked for is done
// when the next driver is at work already.
func TestSynologyInFlight(t *testing.T) {
	lab.Long(t, "5 to 15 minutes")
	synologyLives(t, true, func(_ int, op, phase string) bool { return phase == "during" && strings.HasPrefix(op, nasOp) })
}

// slowness is how long a slow NAS thinks before it does anything.
const slowness = 300 * time.Millisecond

func synologyLives(t *testing.T, slow bool, pick func(int, string, string) bool) {
	var bed *nas.Bed
	if os.Getenv(orderVariable) == "" { // a process of a run is in the guest already
		if !lab.Run(t, nas.Guest()) {
			return
		}
		bed = nas.Start(t, nas.Options{NAS: dsmsim.Config{
			CSRF: true, CreateLock: 100 * time.Millisecond, CloneLock: 100 * time.Millisecond, DeleteLag: 100 * time.Millisecond}})
		if slow {
			lag := newLag(t, bed.Spec.Options["url"], bed.Spec.Options["ca"], slowness)
			bed.Spec.Options["url"], bed.Spec.Options["ca"] = lag.URL, lag.ca()
		}
		text, err := json.Marshal(bed.Spec.Options)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(nasOptions, string(text))
		t.Cleanup(bed.ExpireSessions) // those of who was killed would end when they had been idle
	}
	for name, p := range map[string]struct {
		protocol string
		turns    []Turn
	}{"lun": {"iscsi", lunTurns()}, "share": {"nfs", shareTurns()}, "share by SMB": {"smb", shareTurns()}} {
		t.Run(name, func(t *testing.T) { tryNAS(t, bed, p.protocol, slow, Turns{Turns: p.turns, Pick: pick}) })
	}
}

// tryNAS tries turns with the pool of a bed, which processes of runs have not.
func tryNAS(t *testing.T, bed *nas.Bed, protocol string, slow bool, p Turns) {
	options := map[string]string{}
	if err := json.Unmarshal([]byte(os.Getenv(nasOptions)), &options); err != nil {
		t.Fatal(err)
	}
	f := newFront(t, options["url"], options["ca"])
	f.slow = slow
	options["url"], options["ca"] = f.URL, f.ca()
	maps.Copy(options, nas.Protocol(protocol))
	p.Open = func(ctx context.Context, h *host.Host, dir string) (Driver, error) {
		f.host.Store(h)
		return openNAS(ctx, h, dir, options)
	}
	p.Exact, p.Left = true, func(dir string) []string { return leftOnNAS(t, bed, dir) }
	p.Show = func() string { return strings.Join(bed.Things(), "\n") }
	for n := range p.Turns {
		// What arrives after it was undone, no driver can see to.
		p.Turns[n].GivenUp = p.Turns[n].GivenUp && !slow
	}
	TryTurns(t, p)
}

// openNAS starts a controller and a node with a pool on a NAS.
func openNAS(ctx context.Context, h *host.Host, dir string, options map[string]string) (Driver, error) {
	for _, d := range []string{filepath.Join(dir, "staging"), filepath.Join(dir, "pod")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return Driver{}, err
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	set, err := pool.OpenSet(ctx, []backend.Kind{synology.Kind()}, []pool.Spec{{Name: "p", Kind: synology.KindName, Options: options, Secrets: nas.Secret()}},
		pool.Options{Log: quiet})
	if err != nil {
		return Driver{}, err
	}
	n, err := node.New(h, set, node.Options{Name: nas.Node1, StateDir: filepath.Join(dir, "state"), TargetRoot: dir, Log: quiet})
	return Driver{Host: h, Pool: set.All()[0], Node: n, Dir: dir}, err
}

// What is another one each time: identities, and the kernel's numbers of devices.
var (
	random  = regexp.MustCompile(`\.W[0-9]+|[0-9a-f-]{8,}`)
	numbers = regexp.MustCompile(`[0-9]+`)
)

// leftOnNAS lists what the NAS and the node have, but for what is random, what its NFS server happens to remember, what is
// there between runs, and the halves of stage records, which go with the record.
func leftOnNAS(t *testing.T, bed *nas.Bed, dir string) (all []string) {
	here := hosttest.Left(t, dir)
	usual := []string{"file state/lock", "file " + goalFile, "empty directory staging", "empty directory pod"}
	for _, what := range slices.Concat(naslab.Left(t), here) {
		whole, half := strings.CutSuffix(what, ".json.tmp")
		if strings.HasPrefix(what, "nfsd.") || slices.Contains(usual, what) || half && slices.Contains(here, whole+".json") {
			continue
		}
		all = append(all, numbers.ReplaceAllString(random.ReplaceAllString(what, ""), ""))
	}
	for _, what := range bed.Things() {
		all = append(all, random.ReplaceAllString(what, ""))
	}
	slices.Sort(all)
	return all
}

// netUse is a volume on a NAS as a pod uses it.
type netUse struct{ use }

func (u netUse) accessFile(d Driver) string { return filepath.Join(d.Dir, "access-"+u.name) }

// attach admits the node, and keeps what it is told as Kubernetes does, in a VolumeAttachment.
func (u netUse) attach(ctx context.Context, d Driver) error {
	addresses, err := nas.Nodes(ctx, nas.Node1)
	if err != nil {
		return err
	}
	a, err := d.Pool.Attach(ctx, backend.ID(u.name), backend.AttachRequest{Node: nas.Node1, Addresses: addresses, Shared: u.isShare()})
	if err != nil {
		return err
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return os.WriteFile(u.accessFile(d), text, 0o600)
}

func (u netUse) isShare() bool { return u.fs == "" }

func (u netUse) detach(ctx context.Context, d Driver) error {
	if err := d.Pool.Detach(ctx, backend.ID(u.name), nas.Node1); err != nil {
		return err
	}
	if err := os.Remove(u.accessFile(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (u netUse) stage(ctx context.Context, d Driver) error {
	text, err := os.ReadFile(u.accessFile(d))
	if err != nil {
		return err
	}
	r := node.StageRequest{Volume: u.handle(), Staging: u.staging(d), FSType: u.fs, Secrets: nas.NodeSecret()}
	if err := json.Unmarshal(text, &r.Access); err != nil {
		return err
	}
	if err := os.Mkdir(u.staging(d), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.Node.Stage(ctx, r)
}

// unstage undoes a stage, of which there is nothing then, not even what was begun.
func (u netUse) unstage(ctx context.Context, d Driver) error {
	if err := u.use.unstage().Do(ctx, d); err != nil {
		return err
	}
	return d.Node.Sweep(ctx) // as nodes do from time to time
}

// goalFile is where it is kept how large a volume is to be, as in a claim.
const goalFile = "goal"

func (u netUse) goal(d Driver) int64 {
	text, _ := os.ReadFile(filepath.Join(d.Dir, goalFile))
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return u.size + growth
	}
	return n
}

// grow makes a volume that is in use as large as it is to be.
func (u netUse) grow(ctx context.Context, d Driver) error {
	goal := u.goal(d)
	v, err := d.Pool.Expand(ctx, backend.ID(u.name), goal, 0)
	if err != nil || v.Size != goal {
		return errors.Join(err, fmt.Errorf("%s has %d bytes and is to have %d", u.name, v.Size, goal))
	}
	if u.isShare() {
		return nil // its size is a quota, which the node does not see
	}
	return u.use.expand(goal).Do(ctx, d)
}

// want is what undoes grow: more is wanted than there is.
func (u netUse) want(_ context.Context, d Driver) error {
	return os.WriteFile(filepath.Join(d.Dir, goalFile), []byte(strconv.FormatInt(u.goal(d)+growth, 10)), 0o600)
}

// inOrder makes calls one after the other.
func inOrder(all ...do) do {
	return func(ctx context.Context, d Driver) error {
		for _, f := range all {
			if err := f(ctx, d); err != nil {
				return err
			}
		}
		return nil
	}
}

// use attaches and mounts it, and undoes that.
func (u netUse) begin() do { return inOrder(u.attach, u.stage, u.publish().Do) }
func (u netUse) end() do   { return inOrder(u.unpublish().Do, u.use.unstage().Do, u.detach) }

// holds is that it has the data, seen from a pod.
func (u netUse) holds() do { return inOrder(u.begin(), u.verify().Do, u.end()) }

func made(name string, f do) Turn { return Turn{Step: step(name, f), Made: true} }

// reversible is a call that undo undoes, and the other way round.
func reversible(name string, f, undo do) Turn { return Turn{Step: step(name, f), Undo: undo} }

// revocable is one that may be undone when it was cut short, and not repeated.
func revocable(name string, f, undo do) Turn {
	r := reversible(name, f, undo)
	r.GivenUp = true
	return r
}

// inUse are the calls from an attached volume with nothing on it to one that is mounted, and has data and its final size.
func (u netUse) inUse() []Turn {
	grown := reversible("expand", u.grow, u.want)
	grown.Check = u.verify().Do
	blank := inOrder(u.unstage, u.detach, u.delete().Do, u.create(backend.Source{}).Do, u.attach)
	return []Turn{
		revocable("stage", u.stage, blank),
		made("unstage it", u.unstage),
		revocable("stage what is formatted", u.stage, u.unstage),
		revocable("publish", u.publish().Do, u.unpublish().Do),
		made("write", u.write().Do),
		grown,
	}
}

// outOfUse are the calls from there to no volume.
func (u netUse) outOfUse() []Turn {
	return []Turn{
		made("verify", u.verify().Do),
		reversible("unpublish", u.unpublish().Do, u.publish().Do),
		reversible("unstage", u.use.unstage().Do, u.stage),
		reversible("detach", u.detach, u.attach),
		made("look at the data", u.holds()),
		reversible("delete", u.delete().Do, u.create(backend.Source{}).Do),
	}
}

// copies are the calls that make a copy and delete it.
func (u netUse) copies(name string, s backend.Source) []Turn {
	create := u.create(s).Do
	whole := reversible(name, create, u.delete().Do)
	whole.Check = u.holds()
	return []Turn{whole, reversible("delete what was made by "+name, u.delete().Do, create)}
}

// lunTurns are those of a LUN and its copies.
func lunTurns() []Turn {
	v, other := netUse{use{"v", "ext4", 64 * mib}}, netUse{use{"other", "ext4", 64 * mib}}
	copied := netUse{use{"copied", "ext4", copySize}}
	return slices.Concat(
		[]Turn{
			reversible("create", v.create(backend.Source{}).Do, v.delete().Do),
			revocable("attach", v.attach, v.detach),
			made("create another", other.create(backend.Source{}).Do),
			// The target is worn, since nobody is logged in and another process made it.
			revocable("attach the other", other.attach, inOrder(other.detach, v.detach, v.attach)),
			made("attach both to one target", inOrder(other.detach, v.detach, other.attach, v.attach)),
			// The target is worn, since one of its LUNs stays.
			reversible("detach the other", other.detach, inOrder(v.detach, other.attach, v.attach)),
			made("delete the other", other.delete().Do),
		},
		v.inUse(),
		[]Turn{reversible("snapshot", snapshot("s", "v"), deleteSnapshot("s"))},
		copied.copies("restore", backend.Source{Snapshot: "s"}),
		copied.copies("clone", backend.Source{Volume: "v"}),
		[]Turn{reversible("delete the snapshot", deleteSnapshot("s"), snapshot("s", "v"))},
		v.outOfUse(),
	)
}

// shareTurns are those of a share and its clone; of shares there are no snapshots.
func shareTurns() []Turn {
	v, copied := netUse{use{"v", "", 64 * mib}}, netUse{use{"copied", "", copySize}}
	return slices.Concat(
		[]Turn{
			reversible("create", v.create(backend.Source{}).Do, v.delete().Do),
			revocable("attach", v.attach, v.detach),
		},
		v.inUse(),
		copied.copies("clone", backend.Source{Volume: "v"}),
		v.outOfUse(),
	)
}
