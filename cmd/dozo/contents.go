package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dozo-dev/dozo/internal/pool"
)

// contents asks each pool for its room and its volumes when Prometheus asks. What cannot be asked has no
// sample: an old figure would be a lie.
type contents struct {
	pools *pool.Set
	log   *slog.Logger
}

// contentsTimeout bounds what a scrape waits for one pool.
const contentsTimeout = 5 * time.Second

var (
	capacityDesc = prometheus.NewDesc("dozo_pool_capacity_bytes",
		"Room of a pool: total, available for new volumes, and the largest volume that can be made.", []string{"pool", "kind", "type"}, nil)
	volumesDesc = prometheus.NewDesc("dozo_pool_volumes", "Volumes in a pool.", []string{"pool", "kind"}, nil)
	sizeDesc    = prometheus.NewDesc("dozo_volume_size_bytes",
		"Size of a volume. The name is what it was asked for as: in Kubernetes that of the PersistentVolume.", []string{"pool", "kind", "volume", "name"}, nil)
)

// Describe is [prometheus.Collector].
func (c contents) Describe(ch chan<- *prometheus.Desc) {
	ch <- capacityDesc
	ch <- volumesDesc
	ch <- sizeDesc
}

// Collect is [prometheus.Collector].
func (c contents) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c.pools.All() {
		ctx, cancel := context.WithTimeout(context.Background(), contentsTimeout)
		c.room(ctx, p, ch)
		c.volumes(ctx, p, ch)
		cancel()
	}
}

func (c contents) room(ctx context.Context, p *pool.Pool, ch chan<- prometheus.Metric) {
	room, err := p.Capacity(ctx, "")
	if err != nil {
		c.log.Warn("capacity", "pool", p.Name(), "error", err)
		return
	}
	for kind, bytes := range map[string]int64{"total": room.Total, "available": room.Available, "max_volume": room.MaxVolume} {
		ch <- prometheus.MustNewConstMetric(capacityDesc, prometheus.GaugeValue, float64(bytes), p.Name(), p.Kind().Name, kind)
	}
}

func (c contents) volumes(ctx context.Context, p *pool.Pool, ch chan<- prometheus.Metric) {
	number := 0
	for v, err := range p.List(ctx) {
		if err != nil {
			c.log.Warn("volumes", "pool", p.Name(), "error", err)
			return // half a number is none
		}
		number++
		ch <- prometheus.MustNewConstMetric(sizeDesc, prometheus.GaugeValue, float64(v.Size), p.Name(), p.Kind().Name, string(v.ID), v.Name)
	}
	ch <- prometheus.MustNewConstMetric(volumesDesc, prometheus.GaugeValue, float64(number), p.Name(), p.Kind().Name)
}
