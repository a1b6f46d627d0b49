package fake_test

import (
	"testing"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/backendtest"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
)

// harness is that of fakes; mask is what the law gets to see of one.
func harness(o fake.Options, mask func(*fake.Backend) backend.Backend) backendtest.Harness {
	if o.Total == 0 {
		o.Total = 128 << 20
	}
	real := map[backend.Backend]*fake.Backend{}
	keep := func(f *fake.Backend) backend.Backend {
		b := mask(f)
		real[b] = f
		return b
	}
	return backendtest.Harness{
		Kind:   fake.Kind(o),
		Node:   o.Node,
		Open:   func(testing.TB) backend.Backend { return keep(fake.New(o)) },
		Reopen: func(_ testing.TB, b backend.Backend) backend.Backend { return keep(real[b].Reopen()) },
		Data: func(_ testing.TB, b backend.Backend, id backend.ID) (backendtest.Content, error) {
			return real[b].Open(id)
		},
		Unreachable: func(_ testing.TB, b backend.Backend) func() {
			real[b].Arm(func(x *fake.Errors) { x.Down = errs.E(errs.Unavailable, "fake: down") })
			return func() { real[b].Arm(func(x *fake.Errors) { x.Down = nil }) }
		},
		Strangers: func(_ testing.TB, b backend.Backend) func() error {
			real[b].AddForeign("theirs", 1<<20)
			return func() error { return real[b].RemoveForeign("theirs") }
		},
		Leaks: func(_ testing.TB, b backend.Backend) []string { return real[b].Leftovers() },
	}
}

func all(f *fake.Backend) backend.Backend { return f }

func TestLaw(t *testing.T) {
	backendtest.Run(t, harness(fake.Options{}, all))
}

func TestLawNodeBound(t *testing.T) {
	backendtest.Run(t, harness(fake.Options{Node: "n1", NodeBound: true, Linked: true}, all))
}

func TestLawMasked(t *testing.T) {
	for name, mask := range map[string]func(*fake.Backend) backend.Backend{
		"Basic": fake.Basic, "Shared": fake.Shared, "Plain": fake.Plain,
	} {
		t.Run(name, func(t *testing.T) { backendtest.Run(t, harness(fake.Options{}, mask)) })
	}
}

func TestLawOutside(t *testing.T) {
	for _, protocol := range []string{"iscsi", "nfs"} {
		t.Run(protocol, func(t *testing.T) {
			h := harness(fake.Options{Outside: true}, fake.Outside)
			h.Parameters = map[string]string{"protocol": protocol}
			backendtest.Run(t, h)
		})
	}
}
