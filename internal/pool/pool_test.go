package pool_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// bed is a pool over a fake, and what it observed.
type bed struct {
	*pool.Pool
	fake *fake.Backend
	log  *strings.Builder

	mu       sync.Mutex
	observed []pool.Observation
}

func newBed(o fake.Options, kinds ...func(*backend.Kind)) *bed {
	return newMaskedBed(func(f *fake.Backend) backend.Backend { return f }, o, kinds...)
}

func newMaskedBed(mask func(*fake.Backend) backend.Backend, o fake.Options, change ...func(*backend.Kind)) *bed {
	kind := fake.Kind(o)
	for _, c := range change {
		c(&kind)
	}
	b := &bed{fake: fake.New(o), log: &strings.Builder{}}
	b.Pool = pool.New("main", kind, mask(b.fake), pool.Options{
		Node: o.Node,
		Log:  slog.New(slog.NewTextHandler(b.log, nil)),
		Observe: func(o pool.Observation) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.observed = append(b.observed, o)
		},
	})
	return b
}

// observations returns what was observed since the last call.
func (b *bed) observations() []pool.Observation {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.observed
	b.observed = nil
	return all
}

// create makes a volume of 1 MiB.
func (b *bed) create(t *testing.T, name string) backend.Volume {
	t.Helper()
	v, err := b.Create(t.Context(), pool.VolumeRequest{Name: name, Required: mib})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// refused fails the test unless err is of the kind and says all of the words.
func refused(t *testing.T, err error, kind errs.Kind, words ...string) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Fatalf("got %v (%v), want %v", err, errs.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func TestOpen(t *testing.T) {
	broken := errors.New("no such disk")
	kind := fake.Kind(fake.Options{})
	kind.Options = []backend.Parameter{{Name: "dir", Required: true, Help: "a directory"}, {Name: "reserve", Default: "10%"}}
	var got backend.Config
	open := kind.Open
	kind.Open = func(ctx context.Context, c backend.Config) (backend.Backend, error) {
		got = c
		if c.Options["dir"] == "/broken" {
			return nil, errs.E(errs.Unavailable, "dir: %w", broken)
		}
		return open(ctx, c)
	}
	at := func(name, dir string) pool.Spec { return pool.Spec{Name: name, Options: map[string]string{"dir": dir}} }
	for name, c := range map[string]struct {
		spec  pool.Spec
		kind  errs.Kind
		words []string
	}{
		"name":    {at("Not A Name", "/d"), errs.Invalid, []string{"pool name", "Not A Name"}},
		"missing": {pool.Spec{Name: "p"}, errs.Invalid, []string{"pool p", `options["dir"]`, "missing"}},
		"broken":  {at("p", "/broken"), errs.Unavailable, []string{"pool p", "no such disk"}},
	} {
		_, err := pool.Open(t.Context(), kind, c.spec, pool.Options{})
		t.Run(name, func(t *testing.T) { refused(t, err, c.kind, c.words...) })
	}
	p, err := pool.Open(t.Context(), kind, at("p", "/d"), pool.Options{Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	want := backend.Config{Pool: "p", Node: "n1", Options: map[string]string{"dir": "/d", "reserve": "10%"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("opened with %+v, want %+v", got, want)
	}
	if p.Name() != "p" || p.Node() != "n1" || p.Kind().Name != fake.KindName {
		t.Errorf("the pool is %q on %q of %q", p.Name(), p.Node(), p.Kind().Name)
	}
}

// TestCapabilitiesAreComplete compares the fields of Capabilities with the interfaces that package
// backend declares: one that is forgotten is a capability that no backend ever has.
func TestCapabilitiesAreComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../backend/backend.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name != "Backend" {
			if _, ok := spec.Type.(*ast.InterfaceType); ok {
				want = append(want, spec.Name.Name)
			}
		}
		return true
	})
	typ := reflect.TypeFor[pool.Capabilities]()
	var got []string
	for i := range typ.NumField() {
		got = append(got, typ.Field(i).Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("Capabilities has %v, package backend declares %v", got, want)
	}
	whole := reflect.ValueOf(pool.Find(fake.New(fake.Options{})))
	for i := range typ.NumField() {
		if whole.Field(i).IsNil() {
			t.Errorf("Find does not find that the fake is a %s", typ.Field(i).Name)
		}
	}
	if got := pool.Find(fake.Basic(fake.New(fake.Options{}))); got != (pool.Capabilities{}) {
		t.Errorf("a basic backend has %+v", got)
	}
}

// TestUnsupported: what a backend cannot do is said, and is no error where there is nothing to do.
func TestUnsupported(t *testing.T) {
	b, ctx := newMaskedBed(fake.Basic, fake.Options{}), t.Context()
	b.create(t, "v")
	for what, call := range map[string]func() error{
		"expand":          func() error { _, err := b.Expand(ctx, "v", 2*mib, 0); return err },
		"snapshot":        func() error { _, err := b.Snapshot(ctx, "s", "v"); return err },
		"get snapshot":    func() error { _, err := b.GetSnapshot(ctx, "s"); return err },
		"delete snapshot": func() error { return b.DeleteSnapshot(ctx, "s") },
		"group":           func() error { _, err := b.SnapshotGroup(ctx, "g", []backend.ID{"v"}); return err },
		"delete group":    func() error { return b.DeleteGroup(ctx, "g") },
		"activate":        func() error { _, err := b.Activate(ctx, "v"); return err },
		"deactivate":      func() error { return b.Deactivate(ctx, "v") },
		"clone": func() error {
			_, err := b.Create(ctx, pool.VolumeRequest{Name: "c", Source: backend.Source{Volume: "v"}})
			return err
		},
		"restore": func() error {
			_, err := b.Create(ctx, pool.VolumeRequest{Name: "c", Source: backend.Source{Snapshot: "s"}})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) { refused(t, call(), errs.Unsupported, "fake volumes") })
	}
	for range b.ListSnapshots(ctx) {
		t.Error("snapshots of a pool that has none")
	}
	if m, known, err := b.Mark(ctx, "v"); m != (backend.Mark{}) || known || err != nil {
		t.Errorf("mark: %+v %v %v", m, known, err)
	}
	if err := b.SetMark(ctx, "v", backend.Mark{FS: "ext4"}); err != nil {
		t.Error(err)
	}
	if problems, err := b.Check(ctx, "v"); problems != nil || err != nil {
		t.Errorf("check: %v %v", problems, err)
	}
}

func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(fake.Options{})
		b.fake.Arm(func(e *fake.Errors) { e.Create.Hold = pause(time.Minute) })
		go func() { _ = b.mayCreate(t.Context(), "v", backend.Source{}) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		refused(t, b.Close(ctx), errs.Aborted, "pool main", "still running", "create v")
		if b.fake.Calls("Close") != 0 {
			t.Error("the backend was closed under a running operation")
		}
		begin := time.Now()
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 59*time.Second || b.fake.Calls("Close") != 1 {
			t.Errorf("closed %d times after %v, want once after 59s", b.fake.Calls("Close"), took)
		}
		if n := len(b.observations()); n != 1 {
			t.Errorf("%d operations were observed when the pool was closed, want 1", n)
		}
	})
}

// pause holds each call for a while, or until its context ends.
func pause(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
}

// TestInlineLimit: an option of every kind whose pools are on nodes, that no backend sees.
func TestInlineLimit(t *testing.T) {
	open := func(o fake.Options, options map[string]string) (*pool.Pool, error) {
		kind := fake.Kind(o)
		inner := kind.Open
		kind.Open = func(ctx context.Context, c backend.Config) (backend.Backend, error) {
			if _, there := c.Options[pool.OptionInlineLimit]; there {
				t.Error("the backend was given the pool's own option")
			}
			return inner(ctx, c)
		}
		return pool.Open(t.Context(), kind, pool.Spec{Name: "main", Options: options}, pool.Options{Node: "node-1"})
	}
	bound := fake.Options{NodeBound: true}
	for value, want := range map[string]int64{"0": 0, "10Gi": 10 * gib} {
		if p, err := open(bound, map[string]string{"inlineLimit": value}); err != nil || p.InlineLimit() != want {
			t.Errorf("%s: %v, %v", value, p, err)
		}
	}
	if p, err := open(bound, nil); err != nil || p.InlineLimit() != 0 {
		t.Errorf("a pool that does not say: %v, %v", p, err)
	}
	if _, err := open(bound, map[string]string{"inlineLimit": "much"}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "inlineLimit") {
		t.Errorf("a wrong limit: %v", err)
	}
	if _, err := open(fake.Options{}, map[string]string{"inlineLimit": "1Gi"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a pool that is on no node: %v", err)
	}
}
