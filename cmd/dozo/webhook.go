package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/dozo-dev/dozo/internal/claims"
	"github.com/dozo-dev/dozo/internal/webhook"
)

// webhookFlags are the flags of "dozo webhook".
type webhookFlags struct {
	listen, secret, configuration, host, kubeconfig, metrics, logFormat string
	schedulers                                                          []string
}

func webhookCommand() *cobra.Command {
	var f webhookFlags
	cmd := &cobra.Command{
		Use:   "webhook --secret NAMESPACE/NAME --host SERVICE.NAMESPACE.svc",
		Short: "Mark the pods that 'dozo scheduler' is to be asked about (an admission webhook)",
		Long: `Serve an admission webhook that marks pods which are still to get volumes of Dozo with the extended resource
` + string(webhook.Resource) + `: 1. kube-scheduler asks the scheduler extender about pods with that resource, and about no others.

It refuses no pod. Pods whose claims are all bound, or are not ours, are left as they are; so are those whose
scheduler is not in --scheduler-name, since to other schedulers the resource is one that no node has. A label
` + webhook.IgnoreLabel + `: ignore on a pod or a namespace keeps it away.

It makes its own serving certificate, keeps it in the Secret, renews it 30 days before it ends, and writes the
authority into the MutatingWebhookConfiguration. Both objects must be there, the Secret may be empty.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runWebhook(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", ":9443", "`address` to serve at, with TLS: POST "+webhook.PodsPath+", GET /healthz")
	fl.StringVar(&f.secret, "secret", "", "Secret for certificate and key, as `NAMESPACE/NAME` (required)")
	fl.StringVar(&f.host, "host", "", "`name` under which the API server asks, SERVICE.NAMESPACE.svc (required)")
	fl.StringVar(&f.configuration, "configuration", "dozo-pods", "`name` of the MutatingWebhookConfiguration")
	fl.StringArrayVar(&f.schedulers, "scheduler-name", []string{corev1.DefaultSchedulerName}, "`name` of a scheduler that has the extender; may be repeated")
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", kubeconfigHelp)
	fl.StringVar(&f.metrics, "metrics-address", "", "serve Prometheus metrics at this address, such as :9100 (default: nowhere)")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	for _, name := range []string{"secret", "host"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return cmd
}

func runWebhook(ctx context.Context, f webhookFlags) error {
	log, err := logger(f.logFormat)
	if err != nil {
		return err
	}
	namespace, name, ok := strings.Cut(f.secret, "/")
	if !ok || namespace == "" || name == "" {
		return fmt.Errorf("--secret: %q is not NAMESPACE/NAME", f.secret)
	}
	cfg, err := clusterConfig(f.kubeconfig, log)
	if err != nil {
		return err
	}
	certificate := &webhook.Certificate{
		Secret: client.ObjectKey{Namespace: namespace, Name: name}, Configuration: f.configuration, Host: f.host, Log: log,
	}
	reader, objects, err := claims.NewReader(cfg, nodeBound(), certificate.Objects())
	if err != nil {
		return err
	}
	certificate.Client = reader.Live
	pods := &webhook.Pods{Volumes: reader.Of, Schedulers: f.schedulers, Log: log}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	serve, err := serveHTTP(f.listen, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.Get},
		webhookHandler(pods, certificate.Ready, registry), log)
	if err != nil {
		return err
	}
	stopMetrics, err := serveRegistry(f.metrics, registry, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	return runAll(ctx, startCache(objects), serve, warm(objects),
		func(ctx context.Context) error { return certificate.Keep(ctx, objects) })
}

func webhookHandler(pods *webhook.Pods, ready func() error, registry prometheus.Registerer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+webhook.PodsPath, promhttp.InstrumentHandlerDuration(webhookTook(registry), &admission.Webhook{Handler: pods}))
	mux.HandleFunc("GET /healthz", health(ready))
	return mux
}

func webhookTook(registry prometheus.Registerer) *prometheus.HistogramVec {
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "dozo_webhook_request_duration_seconds", Help: "How long answers to the API server took, by HTTP status.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 11),
	}, []string{"code"})
	registry.MustRegister(took)
	return took
}

// warm has the cache read claims and classes before the first pod comes.
func warm(c cache.Cache) job {
	return func(ctx context.Context) error {
		for _, object := range []client.Object{&corev1.PersistentVolumeClaim{}, &storagev1.StorageClass{}} {
			if _, err := c.GetInformer(ctx, object); err != nil && ctx.Err() == nil {
				return fmt.Errorf("watching %T: %w", object, err)
			}
		}
		<-ctx.Done()
		return nil
	}
}
