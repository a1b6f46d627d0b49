package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/pool"
)

// metrics are what Prometheus can ask of a process.
type metrics struct {
	registry *prometheus.Registry
	took     *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dozo_pool_operation_duration_seconds", Help: "How long operations on a pool took, failed ones included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"pool", "kind", "operation"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dozo_pool_operation_errors_total", Help: "Operations on a pool that failed, by the kind of error.",
		}, []string{"pool", "kind", "operation", "error"}),
	}
	m.registry.MustRegister(m.took, m.failures, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) observe(o pool.Observation) {
	m.took.WithLabelValues(o.Pool, o.Kind, o.Op).Observe(o.Took.Seconds())
	if o.Err != nil {
		m.failures.WithLabelValues(o.Pool, o.Kind, o.Op, errs.KindOf(o.Err).String()).Inc()
	}
}

// serve serves the metrics at an address until stop is called; at the empty address it does nothing.
func (m *metrics) serve(address string, pools *pool.Set, log *slog.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	m.registry.MustRegister(capacities{pools, log})
	return serveRegistry(address, m.registry, log)
}

// serveRegistry serves a registry at an address until stop is called; at the empty address it does nothing.
func serveRegistry(address string, registry *prometheus.Registry, log *slog.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics-address: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	s := httpServer(mux)
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics", "error", err)
		}
	}()
	return func() { s.Close() }, nil
}

// capacities asks each pool for its room when Prometheus asks for it.
type capacities struct {
	pools *pool.Set
	log   *slog.Logger
}

var capacityDesc = prometheus.NewDesc("dozo_pool_capacity_bytes",
	"Room of a pool: total, available for new volumes, and the largest volume that can be made.", []string{"pool", "kind", "type"}, nil)

// Describe is [prometheus.Collector].
func (c capacities) Describe(ch chan<- *prometheus.Desc) { ch <- capacityDesc }

// Collect is [prometheus.Collector]. A pool that cannot be asked has no sample: an old figure would be a lie.
func (c capacities) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c.pools.All() {
		room, err := p.Capacity(context.Background(), "")
		if err != nil {
			c.log.Warn("capacity", "pool", p.Name(), "error", err)
			continue
		}
		for kind, bytes := range map[string]int64{"total": room.Total, "available": room.Available, "max_volume": room.MaxVolume} {
			ch <- prometheus.MustNewConstMetric(capacityDesc, prometheus.GaugeValue, float64(bytes), p.Name(), p.Kind().Name, kind)
		}
	}
}
