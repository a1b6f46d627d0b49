package dsmsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Server is a NAS's port, with the certificate that a NAS makes for itself. It can go and come back.
type Server struct {
	URL         string // https://127.0.0.1:PORT
	Certificate *x509.Certificate
	handler     http.Handler
	pair        tls.Certificate
	addr        string
	http        *http.Server
}

// Serve listens on an address, as "127.0.0.1:0", with a new certificate.
func Serve(addr string, h http.Handler) (*Server, error) { return ServeFrom("", addr, h) }

// ServeFrom is Serve with the certificate that is kept in a directory: whoever pinned it still knows the NAS when it has
// restarted.
func ServeFrom(dir, addr string, h http.Handler) (*Server, error) {
	s := &Server{handler: h, addr: addr}
	if err := s.certify(dir); err != nil {
		return nil, err
	}
	return s, s.Start()
}

// Addr is where it listens, "127.0.0.1:PORT".
func (s *Server) Addr() string { return s.addr }

// CA is the certificate in PEM format, as for a client's bundle.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Raw})
}

// Start listens, on the same port as before.
func (s *Server) Start() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()
	s.URL = "https://" + s.addr
	s.http = &http.Server{Handler: s.handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.pair}, MinVersion: tls.VersionTLS12}}
	go func(server *http.Server) { _ = server.ServeTLS(l, "", "") }(s.http)
	return nil
}

// Stop closes the port and all connections.
func (s *Server) Stop() error { return s.http.Close() }

// certify makes a certificate that is its own authority, for the address and no name, or takes the one that is kept.
func (s *Server) certify(dir string) error {
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if pair, err := tls.LoadX509KeyPair(certFile, keyFile); dir != "" && err == nil {
		s.pair, s.Certificate = pair, pair.Leaf
		return nil
	}
	host, _, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	cert, key, err := selfSigned(net.ParseIP(host))
	if err != nil {
		return err
	}
	if s.pair, err = tls.X509KeyPair(cert, key); err != nil {
		return err
	}
	s.Certificate = s.pair.Leaf
	if dir == "" {
		return nil
	}
	return errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(keyFile, key, 0o600), os.WriteFile(certFile, cert, 0o600))
}

// selfSigned returns a certificate for an address besides 127.0.0.1, and its key, in PEM format.
func selfSigned(ip net.IP) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "synology"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	if ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() {
		template.IPAddresses = append(template.IPAddresses, ip)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), err
}
