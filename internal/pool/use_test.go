package pool_test

import (
	"context"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// flaky is a fake kind with an option, whose pools open once down is false.
func flaky() (kind backend.Kind, down *atomic.Bool, opened func() []*fake.Backend) {
	kind, down = fake.Kind(fake.Options{}), &atomic.Bool{}
	var all []*fake.Backend
	base := fake.New(fake.Options{})
	kind.Options = []backend.Parameter{{Name: "place", Default: "here"}}
	kind.Open = func(context.Context, backend.Config) (backend.Backend, error) {
		if down.Load() {
			return nil, errs.E(errs.Unavailable, "its disk is not there")
		}
		all = append(all, base.Reopen())
		return all[len(all)-1], nil
	}
	return kind, down, func() []*fake.Backend { return all }
}

// TestPoolThatDoesNotOpen is a state, not the end of the others, and is tried again.
func TestPoolThatDoesNotOpen(t *testing.T) {
	kind, down, _ := flaky()
	healthy, _ := counting()
	healthy.Name = "healthy"
	down.Store(true)
	s, err := pool.OpenSet(t.Context(), []backend.Kind{kind, healthy}, []pool.Spec{{Name: "bad", Kind: "fake"}, {Name: "good", Kind: "healthy"}}, pool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("good"); err != nil {
		t.Error(err)
	}
	_, err = s.Get("bad")
	refused(t, err, errs.Unavailable, "bad", "not open", "its disk is not there")
	if st := s.States(); len(st) != 2 || st[0].Spec.Name != "bad" || st[0].Pool != nil || st[0].Err == nil || len(s.All()) != 1 {
		t.Errorf("states: %+v", st)
	}
	changes := make(chan string, 10)
	s.OnChange(func(name string) { changes <- name })
	down.Store(false)
	for deadline := time.After(10 * time.Second); ; {
		select {
		case <-changes:
		case <-deadline:
			t.Fatal("it was not opened when its disk was there")
		}
		if _, err := s.Get("bad"); err == nil {
			break
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPoolChanges: an operation under way ends on the pool that it began on.
func TestPoolChanges(t *testing.T) {
	kind, down, opened := flaky()
	s := pool.EmptySet([]backend.Kind{kind}, pool.Options{})
	first := pool.Spec{Name: "p", Kind: "fake"}
	if err := s.Use(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := s.Use(t.Context(), first); err != nil || len(opened()) != 1 {
		t.Fatalf("used as it is: %v, opened %d times", err, len(opened()))
	}
	old, err := s.Get("p")
	if err != nil {
		t.Fatal(err)
	}
	began, goOn := make(chan struct{}), make(chan struct{})
	opened()[0].Arm(func(e *fake.Errors) {
		e.Create.Hold = func(context.Context) error { close(began); <-goOn; return nil }
	})
	made := make(chan error, 1)
	go func() {
		_, err := old.Create(context.Background(), pool.VolumeRequest{Name: "v"})
		made <- err
	}()
	<-began
	second := first
	second.Options = map[string]string{"place": "there"}
	if err := s.Use(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Get("p"); err != nil || now == old {
		t.Errorf("the pool is still the old one (%v)", err)
	}
	if opened()[0].Calls("Close") != 0 {
		t.Error("the old pool was closed under an operation")
	}
	close(goOn)
	if err := <-made; err != nil {
		t.Errorf("the operation: %v", err)
	}
	waitFor(t, "the old pool to be closed", func() bool { return opened()[0].Calls("Close") == 1 })

	down.Store(true) // a change that cannot be made leaves the pool as it was
	third := first
	third.Options = map[string]string{"place": "nowhere"}
	refused(t, s.Use(t.Context(), third), errs.Unavailable, "its disk")
	if _, err := s.Get("p"); err != nil {
		t.Errorf("the pool as it was: %v", err)
	}
	if st := s.States()[0]; st.Err == nil || st.Pool == nil {
		t.Errorf("state: %+v", st)
	}
	s.Drop("p")
	if len(s.States()) != 0 {
		t.Error("it is still there")
	}
	waitFor(t, "the dropped pool to be closed", func() bool { return opened()[1].Calls("Close") == 1 })
}

// TestChangedUnderAnOperation: a backend is promised one call at a time for an ID, also by pools that come one after the other; what others
// do holds up neither the next pool nor the end of the one before.
func TestChangedUnderAnOperation(t *testing.T) {
	kind, _, opened := flaky()
	s := pool.EmptySet([]backend.Kind{kind}, pool.Options{})
	use := func(place string) (*pool.Pool, *fake.Backend) {
		t.Helper()
		if err := s.Use(t.Context(), pool.Spec{Name: "p", Kind: "fake", Options: map[string]string{"place": place}}); err != nil {
			t.Fatal(err)
		}
		p, err := s.Get("p")
		if err != nil {
			t.Fatal(err)
		}
		return p, opened()[len(opened())-1]
	}
	ended := make(chan error, 2)
	held := func(p *pool.Pool, b *fake.Backend, name string) (goOn func()) {
		begun, wait := make(chan struct{}), make(chan struct{})
		b.Arm(func(e *fake.Errors) {
			e.Create.Hold = func(context.Context) error { close(begun); <-wait; return nil }
		})
		go func() {
			_, err := p.Create(context.Background(), pool.VolumeRequest{Name: name})
			ended <- err
		}()
		<-begun
		return func() { close(wait) }
	}
	old, first := use("here")
	oldEnds := held(old, first, "v")
	s.Drop("p") // and back again
	now, second := use("there")
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	refused(t, now.Delete(soon, backend.IDFor("v")), errs.Aborted, "waiting for create v")
	if err := now.Delete(t.Context(), "other"); err != nil {
		t.Errorf("another volume: %v", err)
	}
	nowEnds := held(now, second, "w")
	oldEnds()
	waitFor(t, "the old pool to be closed", func() bool { return first.Calls("Close") == 1 })
	if err := now.Delete(t.Context(), backend.IDFor("v")); err != nil {
		t.Errorf("when the old pool is done with it: %v", err)
	}
	nowEnds()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestMask: every optional interface has its field, and is taken away by it alone.
func TestMask(t *testing.T) {
	all := pool.Find(fake.New(fake.Options{}))
	caps, mask := reflect.TypeFor[pool.Capabilities](), reflect.TypeFor[backend.Mask]()
	if caps.NumField() != mask.NumField() || all.Mask() != backend.FullMask() {
		t.Fatalf("%d capabilities and %d fields; the fake has %+v", caps.NumField(), mask.NumField(), all.Mask())
	}
	for i := range mask.NumField() {
		f := backend.FullMask()
		reflect.ValueOf(&f).Elem().Field(i).SetBool(false)
		masked := all.Masked(f)
		for j := range caps.NumField() {
			if absent := reflect.ValueOf(masked).Field(j).IsNil(); absent != (caps.Field(j).Name == mask.Field(i).Name) {
				t.Errorf("without %s, %s is nil: %v", mask.Field(i).Name, caps.Field(j).Name, absent)
			}
		}
		if masked.Mask() != f {
			t.Errorf("mask %+v became %+v", f, masked.Mask())
		}
	}
	want := backend.Mask{Expander: true}
	if got := pool.Find(proxy{fake.New(fake.Options{}), want}).Mask(); got != want {
		t.Errorf("a proxy with the mask %+v can do %+v", want, got)
	}
}

// proxy has the methods of every optional interface.
type proxy struct {
	*fake.Backend
	mask backend.Mask
}

func (p proxy) Mask() backend.Mask { return p.mask }
