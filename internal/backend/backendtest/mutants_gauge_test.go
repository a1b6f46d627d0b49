package backendtest

import (
	"context"
	"math"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/fake"
)

func gaugeMutants() []mutant {
	changed := func(change func(all []backend.Gauge) []backend.Gauge) func(bool) hooks {
		return always(hooks{gauges: func(f *fake.Backend, ctx context.Context) ([]backend.Gauge, error) {
			all, err := f.Gauges(ctx)
			return change(all), err
		}})
	}
	one := func(change func(g *backend.Gauge)) func(bool) hooks {
		return changed(func(all []backend.Gauge) []backend.Gauge { change(&all[0]); return all })
	}
	const law = "figures have names and values"
	return []mutant{
		{"there are no figures", law, changed(func([]backend.Gauge) []backend.Gauge { return nil })},
		{"a figure is there twice", law, changed(func(all []backend.Gauge) []backend.Gauge { return append(all, all[0]) })},
		{"a figure has two meanings", law, changed(func(all []backend.Gauge) []backend.Gauge {
			return append(all, backend.Gauge{Name: all[0].Name, Help: "Something else.", Part: "other"})
		})},
		{"a figure's name has a space", law, one(func(g *backend.Gauge) { g.Name = "how full" })},
		{"a figure has no help", law, one(func(g *backend.Gauge) { g.Help = "" })},
		{"a figure is nothing by nothing", law, one(func(g *backend.Gauge) { g.Value = math.NaN() })},
	}
}
