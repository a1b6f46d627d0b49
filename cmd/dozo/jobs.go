package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/dozo-dev/dozo/internal/backend"
	"github.com/dozo-dev/dozo/internal/backend/all"
	"github.com/dozo-dev/dozo/internal/host"
)

// nodeBound returns the kinds whose volumes live on one node.
func nodeBound() []backend.Kind {
	var kinds []backend.Kind
	for _, k := range all.Kinds(host.New()) {
		if k.NodeBound {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// job is a part of a process that runs until its context is done.
type job func(context.Context) error

// runAll runs jobs until ctx is done or one of them fails, and then ends them all.
func runAll(ctx context.Context, jobs ...job) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(jobs))
	for _, j := range jobs {
		go func() { ended <- j(ctx) }()
	}
	var failed error
	for range jobs {
		err := <-ended
		cancel() // none is of use without the others
		failed = errors.Join(failed, err)
	}
	return failed
}

// startCache is the job of a cache.
func startCache(c cache.Cache) job { return c.Start }

// The bounds of an HTTP request: whoever asks is an API server or a scheduler, which wait some seconds.
const (
	requestTimeout = 30 * time.Second
	drainTimeout   = 5 * time.Second
)

// serveHTTP is the job of a server: with TLS if t is not nil.
func serveHTTP(address string, t *tls.Config, handler http.Handler, log *slog.Logger) (job, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	log.Info("serving", "address", l.Addr().String(), "tls", t != nil, "version", version())
	s := &http.Server{
		Handler: handler, TLSConfig: t, ReadHeaderTimeout: httpTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: requestTimeout, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelInfo),
	}
	return func(ctx context.Context) error {
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			<-ctx.Done()
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
			defer cancel()
			_ = s.Shutdown(drain)
		}()
		serve := s.Serve
		if t != nil {
			serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		<-stopped
		return nil
	}, nil
}

// clientAuthority makes a server accept only clients with a certificate of the authority in a file.
func clientAuthority(t *tls.Config, file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--client-ca-file: %w", err)
	}
	t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("--client-ca-file: %s has no certificate", file)
	}
	return nil
}
