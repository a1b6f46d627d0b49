package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dozo-dev/dozo/internal/errs"
)

// The keys of the Secret.
const (
	secretCert = corev1.TLSCertKey       // the serving certificate, and the authority that signed it
	secretKey  = corev1.TLSPrivateKeyKey // its key; that of the authority is thrown away
	secretCAs  = "ca.crt"                // that authority, and the one before it
)

const (
	certAge   = 90 * 24 * time.Hour
	certRenew = 30 * 24 * time.Hour // before it ends
	askLimit  = 10 * time.Second    // for one question to the API server
)

// Certificate makes the webhook's serving certificate, renews it in time, and tells the API server whom to
// trust. Replicas share it through a Secret; whoever writes first wins. A new one is served only after the
// API server was told, and the old one stays trusted until the next, so that nobody meets a certificate
// that it does not know.
type Certificate struct {
	Client        client.Client
	Secret        client.ObjectKey // there already, perhaps empty, so that the right to write just this one is enough
	Configuration string           // name of the MutatingWebhookConfiguration
	Host          string           // that the API server asks for: SERVICE.NAMESPACE.svc
	Log           *slog.Logger

	age     time.Duration // of what it makes; 0: certAge
	current atomic.Pointer[tls.Certificate]
}

// Get is for [tls.Config.GetCertificate]. errs.Unavailable until there is one.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := c.current.Load(); pair != nil {
		return pair, nil
	}
	return nil, errs.E(errs.Unavailable, "there is no certificate yet")
}

// Ready returns errs.Unavailable until the certificate can be served.
func (c *Certificate) Ready() error {
	_, err := c.Get(nil)
	return err
}

// Ensure brings Secret, webhook configuration and what is served together, and returns when it has to be
// called again at the latest. Call it also when one of the two objects has changed. errs.Aborted if
// somebody else wrote at the same time.
func (c *Certificate) Ensure(ctx context.Context) (again time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var secret corev1.Secret
	if err := c.Client.Get(ctx, c.Secret, &secret); err != nil {
		return time.Time{}, classify(err, "secret %s", c.Secret)
	}
	pair, err := c.parse(&secret)
	if err != nil {
		c.Log.Info("making a certificate", "secret", c.Secret.String(), "why", err)
		if err := c.renew(&secret); err != nil {
			return time.Time{}, err
		}
		if err := c.Client.Update(ctx, &secret); err != nil {
			return time.Time{}, classify(err, "secret %s", c.Secret)
		}
		if pair, err = c.parse(&secret); err != nil {
			return time.Time{}, errs.E(errs.Internal, "the certificate that was just made: %w", err)
		}
	}
	if err := c.trust(ctx, secret.Data[secretCAs]); err != nil {
		return time.Time{}, err
	}
	c.current.Store(pair)
	return pair.Leaf.NotAfter.Add(-certRenew), nil
}

// parse returns the pair in a secret, or why it cannot be served any more. The key is not in the error.
func (c *Certificate) parse(secret *corev1.Secret) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(secret.Data[secretCert], secret.Data[secretKey])
	if err != nil {
		return nil, errs.E(errs.NotFound, "there is no pair of certificate and key in it")
	}
	if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return nil, errs.E(errs.Invalid, "%w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data[secretCAs])
	now := time.Now()
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: c.Host, Roots: roots, CurrentTime: now}); err != nil {
		return nil, errs.E(errs.Invalid, "%w", err)
	}
	if left := pair.Leaf.NotAfter.Sub(now); left <= certRenew {
		return nil, errs.E(errs.Invalid, "it ends in %s", left.Round(time.Hour))
	}
	return &pair, nil
}

// renew puts a new pair into a secret. The authority of the old one stays trusted.
func (c *Certificate) renew(secret *corev1.Secret) error {
	chain, key, err := cert.GenerateSelfSignedCertKeyWithOptions(cert.SelfSignedCertKeyOptions{Host: c.Host, MaxAge: cmp.Or(c.age, certAge)})
	if err != nil {
		return errs.E(errs.Internal, "making a certificate: %w", err)
	}
	leaf, authority := pem.Decode(chain)
	if leaf == nil || len(authority) == 0 {
		return errs.E(errs.Internal, "making a certificate: no authority came with it")
	}
	trusted := bytes.Clone(authority)
	if before, _ := pem.Decode(secret.Data[secretCAs]); before != nil {
		trusted = append(trusted, pem.EncodeToMemory(before)...)
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[secretCert], secret.Data[secretKey], secret.Data[secretCAs] = chain, key, trusted
	return nil
}

// trust has the API server trust authorities for our webhooks.
func (c *Certificate) trust(ctx context.Context, authorities []byte) error {
	var w admissionv1.MutatingWebhookConfiguration
	if err := c.Client.Get(ctx, client.ObjectKey{Name: c.Configuration}, &w); err != nil {
		return classify(err, "webhook configuration %s", c.Configuration)
	}
	before := w.DeepCopy()
	changed := false
	for i := range w.Webhooks {
		if !bytes.Equal(w.Webhooks[i].ClientConfig.CABundle, authorities) {
			w.Webhooks[i].ClientConfig.CABundle, changed = authorities, true
		}
	}
	if !changed {
		return nil
	}
	c.Log.Info("telling the API server whom to trust", "configuration", c.Configuration)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return classify(c.Client.Patch(ctx, &w, patch), "webhook configuration %s", c.Configuration)
}

// classify gives an error of the API server its kind; nil stays nil.
func classify(err error, format string, args ...any) error {
	kind := errs.Unavailable
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err):
		kind = errs.Aborted
	case apierrors.IsNotFound(err):
		kind = errs.NotFound
	}
	return errs.E(kind, format+": %w", append(args, err)...)
}
