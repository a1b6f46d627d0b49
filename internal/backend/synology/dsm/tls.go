package dsm

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/dozo-dev/dozo/internal/errs"
)

// tlsConfig always verifies: against the system's authorities, those given, or one pinned certificate.
func tlsConfig(ca []byte, fingerprint string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case len(ca) > 0 && fingerprint != "":
		return nil, errs.E(errs.Invalid, "ca, fingerprint: give one of them, not both")
	case len(ca) > 0:
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errs.E(errs.Invalid, "ca: has no certificate in PEM format")
		}
	case fingerprint != "":
		want, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(fingerprint), ":", ""))
		if err != nil || len(want) != sha256.Size {
			return nil, errs.E(errs.Invalid, "fingerprint: has to be the SHA-256 of a certificate, 64 hexadecimal digits with or without colons")
		}
		// The pin replaces the chain and the name, which a NAS's own certificate does not have.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			got := sha256.Sum256(s.PeerCertificates[0].Raw)
			if subtle.ConstantTimeCompare(got[:], want) == 0 {
				return &wrongPin{s.PeerCertificates[0]}
			}
			return nil
		}
	}
	return conf, nil
}

// wrongPin is a certificate other than the one that was pinned.
type wrongPin struct{ cert *x509.Certificate }

func (*wrongPin) Error() string { return "not the certificate whose fingerprint is configured" }

// untrusted says in words a person can act on why a certificate was refused, nil if err is no such refusal.
func untrusted(host string, err error) error {
	var pin *wrongPin
	var chain *tls.CertificateVerificationError
	switch {
	case errors.As(err, &pin):
		return fmt.Errorf("the certificate of %s %w: it has the SHA-256 fingerprint %s; correct fingerprint if that is your NAS's, and else somebody is between", host, pin, Fingerprint(pin.cert))
	case errors.As(err, &chain) && len(chain.UnverifiedCertificates) > 0:
		return fmt.Errorf("the certificate of %s is not trusted (%w): set ca to the authority that signed it, or fingerprint to its SHA-256, %s, after comparing it with the NAS's",
			host, chain.Err, Fingerprint(chain.UnverifiedCertificates[0]))
	}
	return nil
}

// Fingerprint returns the SHA-256 of a certificate as browsers show it, for Config.Fingerprint.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum)), " ", ":")
}
