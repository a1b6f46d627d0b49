package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/scheduler"
)

// schedulerFlags are the flags of "dozo scheduler".
type schedulerFlags struct {
	listen, certFile, keyFile, clientCA, kubeconfig, metrics, logFormat string
	mode                                                                string
	divisor                                                             float64
	divisors                                                            map[string]string
}

func schedulerCommand() *cobra.Command {
	var f schedulerFlags
	cmd := &cobra.Command{
		Use:   "scheduler",
		Short: "Tell kube-scheduler which nodes have room (a scheduler extender)",
		Long: `Serve a kube-scheduler extender: kube-scheduler asks it which nodes have room for the volumes that a pod
is still to get, and which of them are the better ones. It knows the room from the NodeStorage objects that
Dozo's nodes publish, and counts what it has promised, so that a burst of pods is not sent to the same room.

It is optional. Without it kube-scheduler goes by CSIStorageCapacity, which looks at one volume at a time,
does not know what was promised a moment ago, and by default does not prefer nodes with more room.

Run it beside kube-scheduler, or by the chart (scheduler.enabled), and name it in the KubeSchedulerConfiguration:

  extenders:
  - urlPrefix: http://127.0.0.1:9251
    filterVerb: filter
    prioritizeVerb: prioritize
    nodeCacheCapable: true
    weight: 1
    managedResources:
    - name: dozo.dev/storage
      ignoredByScheduler: true

'dozo webhook' puts that resource on the pods that matter; docs/scheduling.md explains every field.

The score of a node is from 0 to 10: log2(free GiB / divisor), that of the worst of the pod's pools. With
divisor 1, pools of 2 to 1024 GiB are told apart by doublings; with 100, those of 200 GiB to 100 TiB. Choose it
so that a node that you call nearly full scores 0. Packing is the mirror: the fullest node that fits is best.`,
		Example: `  dozo scheduler --divisor ssd=10 --divisor hdd=100
  dozo scheduler --mode pack --listen :9251 --tls-cert-file tls.crt --tls-key-file tls.key --client-ca-file ca.crt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runScheduler(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:9251", "`address` to serve at; beyond this machine only with TLS and --client-ca-file, since whoever can ask can have room promised")
	fl.StringVar(&f.certFile, "tls-cert-file", "", "`file` with the serving certificate, read again when it changes (default: plain HTTP)")
	fl.StringVar(&f.keyFile, "tls-key-file", "", "`file` with its key")
	fl.StringVar(&f.clientCA, "client-ca-file", "", "`file` with the authority whose clients may ask (default: anyone)")
	fl.StringVar(&f.mode, "mode", string(scheduler.Spread), "spread: nodes with more room score higher; pack: with less")
	fl.Float64Var(&f.divisor, "default-divisor", 1, "divisor in `GiB`, above zero, of pools that have none of their own")
	fl.StringToStringVar(&f.divisors, "divisor", nil, "divisor of one pool, as `POOL=GiB`; may be repeated")
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", kubeconfigHelp)
	fl.StringVar(&f.metrics, "metrics-address", "", "serve Prometheus metrics at this address, such as :9100 (default: nowhere)")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	cmd.MarkFlagsRequiredTogether("tls-cert-file", "tls-key-file")
	return cmd
}

// weights reads the flags that make scores. The error names the flag.
func (f schedulerFlags) weights() (scheduler.Weights, error) {
	w := scheduler.Weights{Mode: scheduler.Mode(f.mode), DefaultDivisor: f.divisor, Divisors: map[string]float64{}}
	for pool, text := range f.divisors {
		d, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return w, fmt.Errorf("--divisor %s=%s: not a number of GiB", pool, text)
		}
		w.Divisors[pool] = d
	}
	if err := w.Check(); err != nil {
		return w, fmt.Errorf("--mode, --default-divisor, --divisor: %w", err)
	}
	return w, nil
}

func runScheduler(ctx context.Context, f schedulerFlags) error {
	w, err := f.weights()
	if err != nil {
		return err
	}
	log, err := logger(f.logFormat)
	if err != nil {
		return err
	}
	s, err := scheduler.New(w)
	if err != nil {
		return err
	}
	cfg, err := clusterConfig(f.kubeconfig, log)
	if err != nil {
		return err
	}
	reader, cache, err := claims.NewReader(cfg, nodeBound(), scheduler.Objects())
	if err != nil {
		return err
	}
	feed := &scheduler.Feed{Scheduler: s, Reader: reader, Log: log}
	m := newSchedulerMetrics(s)
	server := &scheduler.Server{Scheduler: s, Volumes: reader.Of, Ready: feed.Ready, Log: log, Observe: m.observe}
	jobs := []job{startCache(cache), func(ctx context.Context) error { return feed.Run(ctx, cache) }}
	t, watch, err := f.tls()
	if err != nil {
		return err
	}
	serve, err := serveHTTP(f.listen, t, server.Handler(), log)
	if err != nil {
		return err
	}
	stopMetrics, err := serveRegistry(f.metrics, m.registry, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	return runAll(ctx, append(jobs, append(watch, serve)...)...)
}

// tls returns nil without a certificate, and else also what watches over its files.
func (f schedulerFlags) tls() (*tls.Config, []job, error) {
	if f.certFile == "" {
		if f.clientCA != "" {
			return nil, nil, fmt.Errorf("--client-ca-file: give --tls-cert-file and --tls-key-file as well")
		}
		return nil, nil, nil
	}
	watcher, err := certwatcher.New(f.certFile, f.keyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-cert-file, --tls-key-file: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: watcher.GetCertificate}
	if f.clientCA != "" {
		if err := clientAuthority(t, f.clientCA); err != nil {
			return nil, nil, err
		}
	}
	return t, []job{watcher.Start}, nil
}

// schedulerMetrics are what Prometheus can ask of a scheduler extender.
type schedulerMetrics struct {
	registry *prometheus.Registry
	took     *prometheus.HistogramVec
}

func newSchedulerMetrics(s *scheduler.Scheduler) *schedulerMetrics {
	m := &schedulerMetrics{
		registry: prometheus.NewRegistry(),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dozo_scheduler_request_duration_seconds", Help: "How long answers to kube-scheduler took, by HTTP status.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 11),
		}, []string{"verb", "status"}),
	}
	promised := func(settled bool) func() float64 {
		return func() float64 {
			n, offered := s.Promised()
			if !settled {
				n = offered
			}
			return float64(n)
		}
	}
	const help = "Volumes that room is promised to: settled, on one node, or offered, on any of several."
	for name, settled := range map[string]bool{"settled": true, "offered": false} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dozo_scheduler_promised_volumes", Help: help, ConstLabels: prometheus.Labels{"state": name},
		}, promised(settled)))
	}
	m.registry.MustRegister(m.took, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *schedulerMetrics) observe(verb string, took time.Duration, status int) {
	m.took.WithLabelValues(verb, strconv.Itoa(status)).Observe(took.Seconds())
}

// health serves ok, or why not.
func health(ready func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}
