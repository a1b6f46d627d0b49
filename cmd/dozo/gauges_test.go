package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// figures is a backend with these gauges.
type figures struct {
	backend.Backend
	all []backend.Gauge
	err error
}

func (f figures) Gauges(context.Context) ([]backend.Gauge, error) { return f.all, f.err }

// TestGauges: what one pool says out of form does not take the other figures away.
func TestGauges(t *testing.T) {
	open := func(name string, b backend.Backend) *pool.Pool {
		return pool.New(name, fake.Kind(fake.Options{}), b, pool.Options{Log: slog.New(slog.DiscardHandler)})
	}
	plain := fake.New(fake.Options{})
	set, err := pool.NewSet(
		open("a", figures{plain, []backend.Gauge{
			{Name: "size_bytes", Help: "A size.", Part: "vg0", Value: 3}, {Name: "size_bytes", Help: "A size.", Part: "vg1", Value: 4},
			{Name: "size_bytes", Help: "A size.", Part: "vg1", Value: 5}, {Name: "how full", Help: "No name.", Part: "vg1"},
		}, nil}),
		open("b", figures{plain, []backend.Gauge{{Name: "size_bytes", Help: "Of another version.", Part: "vg0", Value: 6}}, nil}),
		open("c", figures{plain, nil, errs.E(errs.Unavailable, "no answer")}),
		open("d", fake.Basic(plain)),
	)
	if err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(gauges{set, slog.New(slog.DiscardHandler)})
	want := `
# HELP dozo_fake_size_bytes A size.
# TYPE dozo_fake_size_bytes gauge
dozo_fake_size_bytes{part="vg0",pool="a"} 3
dozo_fake_size_bytes{part="vg0",pool="b"} 6
dozo_fake_size_bytes{part="vg1",pool="a"} 4
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
