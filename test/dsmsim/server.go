package dsmsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
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

// Serve listens on an address, as "127.0.0.1:0".
func Serve(addr string, h http.Handler) (*Server, error) {
	s := &Server{handler: h, addr: addr}
	if err := s.certify(); err != nil {
		return nil, err
	}
	return s, s.Start()
}

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

// certify makes a certificate that is its own authority, for the address and no name.
func (s *Server) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "synology"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	s.pair = tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
	s.Certificate, err = x509.ParseCertificate(raw)
	return err
}
