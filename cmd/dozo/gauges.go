package main

import (
	"context"
	"log/slog"
	"regexp"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/pool"
)

// gauges asks each pool for the figures of its kind when Prometheus asks. See [backend.Gauger].
type gauges struct {
	pools *pool.Set
	log   *slog.Logger
}

// Describe is [prometheus.Collector]: what there will be, the kinds know.
func (g gauges) Describe(chan<- *prometheus.Desc) {}

// Collect is [prometheus.Collector]. A pool may be in another process, of another version: one figure that
// is out of form, twice there or has help of its own would have Prometheus get nothing at all.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	descs, seen := map[string]*prometheus.Desc{}, map[[3]string]bool{}
	for _, p := range g.pools.All() {
		for _, f := range g.ask(p) {
			name, id := "dozo_"+p.Kind().Name+"_"+f.Name, [3]string{p.Name(), f.Name, f.Part}
			if !nameForm.MatchString(name) || seen[id] {
				g.log.Warn("gauges", "pool", p.Name(), "error", "a figure that is out of form or twice there", "name", f.Name, "part", f.Part)
				continue
			}
			seen[id] = true
			if descs[name] == nil {
				descs[name] = prometheus.NewDesc(name, f.Help, []string{"pool", "part"}, nil)
			}
			ch <- prometheus.MustNewConstMetric(descs[name], prometheus.GaugeValue, f.Value, p.Name(), f.Part)
		}
	}
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func (g gauges) ask(p *pool.Pool) []backend.Gauge {
	ctx, cancel := context.WithTimeout(context.Background(), contentsTimeout)
	defer cancel()
	all, err := p.Gauges(ctx)
	if err != nil {
		g.log.Warn("gauges", "pool", p.Name(), "error", err)
	}
	return all
}
