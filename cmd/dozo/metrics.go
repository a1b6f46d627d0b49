package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dozo-dev/dozo/internal/errs"
	"github.com/dozo-dev/dozo/internal/host"
	"github.com/dozo-dev/dozo/internal/pool"
)

// metrics are what Prometheus can ask of a process; docs/metrics.md lists them.
type metrics struct {
	registry *prometheus.Registry
	took     *prometheus.HistogramVec
	failures *prometheus.CounterVec
	commands *prometheus.HistogramVec
	exits    *prometheus.CounterVec
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
		commands: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dozo_host_command_duration_seconds", Help: "How long programs run on the node took.",
			Buckets: prometheus.ExponentialBuckets(0.004, 4, 8),
		}, []string{"program", "operation"}),
		exits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dozo_host_command_errors_total", Help: "Programs run on the node that did not end well: by exit status, or the kind of error if they did not end by themselves.",
		}, []string{"program", "operation", "result"}),
	}
	m.registry.MustRegister(m.took, m.failures, m.commands, m.exits, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) observe(o pool.Observation) {
	m.took.WithLabelValues(o.Pool, o.Kind, o.Op).Observe(o.Took.Seconds())
	if o.Err != nil {
		m.failures.WithLabelValues(o.Pool, o.Kind, o.Op, errs.KindOf(o.Err).String()).Inc()
	}
}

// measured is a [host.Runner] whose programs are counted and timed.
type measured struct {
	host.Runner
	metrics *metrics
}

// Run is [host.Runner].
func (r measured) Run(ctx context.Context, c host.Cmd) (host.Output, error) {
	start := time.Now()
	out, err := r.Runner.Run(ctx, c)
	program := filepath.Base(c.Name)
	r.metrics.commands.WithLabelValues(program, c.Op).Observe(time.Since(start).Seconds())
	if err != nil {
		result := errs.KindOf(err).String()
		if code, ended := host.ExitCode(err); ended {
			result = strconv.Itoa(code)
		}
		r.metrics.exits.WithLabelValues(program, c.Op, result).Inc()
	}
	return out, err
}

// serve serves the metrics at an address until stop is called; at the empty address it does nothing.
func (m *metrics) serve(address string, pools *pool.Set, log *slog.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	m.registry.MustRegister(contents{pools, log}, gauges{pools, log})
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
