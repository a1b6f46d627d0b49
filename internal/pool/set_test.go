package pool_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// counting is a fake kind that keeps the backends it opened.
func counting() (kind backend.Kind, opened map[string]*fake.Backend) {
	kind, opened = fake.Kind(fake.Options{}), map[string]*fake.Backend{}
	kind.Open = func(_ context.Context, c backend.Config) (backend.Backend, error) {
		opened[c.Pool] = fake.New(fake.Options{Pool: c.Pool})
		return opened[c.Pool], nil
	}
	return kind, opened
}

func TestSet(t *testing.T) {
	kind, opened := counting()
	kinds := []backend.Kind{{Name: "paper"}, kind}
	s, err := pool.OpenSet(t.Context(), kinds, []pool.Spec{{Name: "slow", Kind: "fake"}, {Name: "fast", Kind: "fake"}}, pool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if all := s.All(); len(all) != 2 || all[0].Name() != "fast" || all[1].Name() != "slow" {
		t.Errorf("all: %v", all)
	}
	if p, err := s.Get("slow"); err != nil || p.Name() != "slow" {
		t.Errorf("get: %v", err)
	}
	_, err = s.Get("slwo")
	refused(t, err, errs.Invalid, `"slwo"`, "unknown", "fast, slow")
	_, err = s.Get("")
	refused(t, err, errs.Invalid, `parameters["pool"]`, "missing", "fast, slow")
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for name, f := range opened {
		if f.Calls("Close") != 1 {
			t.Errorf("%s was closed %d times", name, f.Calls("Close"))
		}
	}
}

func TestSetOfOne(t *testing.T) {
	s, err := pool.NewSet(newBed(fake.Options{}).Pool)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := s.Get(""); err != nil || p.Name() != "main" {
		t.Errorf("the only pool need not be named: %v", err)
	}
	empty, err := pool.NewSet()
	if err != nil || len(empty.All()) != 0 {
		t.Fatal(err)
	}
	_, err = empty.Get("")
	refused(t, err, errs.Invalid, "missing")
}

// TestSetOpensAllOrNone: what was opened before the one that fails is closed.
func TestSetOpensAllOrNone(t *testing.T) {
	for what, c := range map[string]struct {
		last pool.Spec
		word string
	}{
		"unknown kind": {pool.Spec{Name: "p", Kind: "tape"}, `"tape" is unknown; known are: fake`},
		"bad option":   {pool.Spec{Name: "p", Kind: "fake", Options: map[string]string{"x": "y"}}, `options["x"]`},
		"bad name":     {pool.Spec{Name: "p p", Kind: "fake"}, "pool name"},
		"same name":    {pool.Spec{Name: "first", Kind: "fake"}, "twice"},
	} {
		t.Run(what, func(t *testing.T) {
			kind, opened := counting()
			first := pool.Spec{Name: "first", Kind: "fake"}
			s, err := pool.OpenSet(t.Context(), []backend.Kind{kind}, []pool.Spec{first, c.last}, pool.Options{})
			refused(t, err, errs.Invalid, c.word)
			if s != nil || opened["first"].Calls("Close") != 1 {
				t.Errorf("set %v, closed %d times", s, opened["first"].Calls("Close"))
			}
		})
	}
}

func TestSetClosesTheRest(t *testing.T) {
	a, b := newBed(fake.Options{}), fake.New(fake.Options{})
	a.fake.Arm(func(e *fake.Errors) { e.Close.Before = errs.E(errs.Internal, "stuck") })
	s, err := pool.NewSet(a.Pool, pool.New("other", fake.Kind(fake.Options{}), b, pool.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err == nil || b.Calls("Close") != 1 {
		t.Errorf("%v, the other was closed %d times", err, b.Calls("Close"))
	}
}

// TestServedPoolIsTriedAgain: what another process does not serve today it may serve tomorrow.
func TestServedPoolIsTriedAgain(t *testing.T) {
	var asked atomic.Int32
	s := pool.EmptySet(nil, pool.Options{Remote: func(context.Context, pool.Spec) (backend.Kind, error) {
		if asked.Add(1) < 3 {
			return backend.Kind{}, errs.E(errs.Invalid, "not served here")
		}
		return fake.Kind(fake.Options{}), nil
	}})
	err := s.Use(t.Context(), pool.Spec{Name: "main", Kind: fake.KindName, Socket: "/run/s"})
	refused(t, err, errs.Invalid, "not served here")
	for end := time.Now().Add(time.Minute); len(s.All()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it was asked for %d times and is not open", asked.Load())
		}
	}
	if err := s.Use(t.Context(), pool.Spec{Name: "main", Kind: fake.KindName}); !errs.Is(err, errs.Invalid) {
		t.Errorf("without the socket it is another pool, of a kind that is not known here: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestInlineLimitOfServedPool: the limit is this process's to say, also of a pool that another one opened.
func TestInlineLimitOfServedPool(t *testing.T) {
	open := func(options map[string]string) (*pool.Set, error) {
		o := pool.Options{Node: "node-1", Remote: func(context.Context, pool.Spec) (backend.Kind, error) {
			return fake.Kind(fake.Options{NodeBound: true}), nil
		}}
		return pool.OpenSet(t.Context(), nil, []pool.Spec{{Name: "main", Kind: fake.KindName, Socket: "/run/s", Options: options}}, o)
	}
	set, err := open(map[string]string{"inlineLimit": "1Gi"})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := set.Get("main"); err != nil || p.InlineLimit() != gib {
		t.Errorf("%v, %v", p.InlineLimit(), err)
	}
	if _, err := open(map[string]string{"inlineLimit": "1Gi", "path": "/x"}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "inlineLimit") {
		t.Errorf("an option of the backend: %v", err)
	}
}
