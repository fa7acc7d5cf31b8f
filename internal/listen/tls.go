// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// TLSConfig says how a listener speaks TLS. Every field is a decision: an
// empty one is an error, never a default.
type TLSConfig struct {
	// Certificate returns the certificate in use now, with its chain and
	// stapled OCSP response. It is called for each handshake, so that a new
	// certificate serves from the next connection on. nil fails the handshake.
	Certificate func() *tls.Certificate
	// ClientAuth is "none", "optional" (a certificate that is shown must
	// verify) or "require".
	ClientAuth string
	// ClientCAs are what client certificates must chain to. It belongs to
	// "optional" and "require" and to them alone.
	ClientCAs *x509.CertPool
	// PQ is "off", "hybrid" (X25519MLKEM768 before the classical exchanges) or
	// "require" (nothing else).
	PQ string
	// NextProtos are the ALPN protocols, best first; empty: none.
	NextProtos []string
	// Overlay lets peers in by their node keys, beside clients; nil: none.
	Overlay *OverlayTLS
}

// TLS is a checked TLSConfig. It may be shared by listeners.
type TLS struct {
	conf      *tls.Config
	overlay   *tls.Config // nil: no peers
	requirePQ bool
	proven    bool // clients must show a certificate
}

var errNoCertificate = errors.New("listen: there is no certificate")

// NewTLS checks c. TLS 1.3 is the only version.
func NewTLS(c TLSConfig) (*TLS, error) {
	t := &TLS{conf: &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: slices.Clone(c.NextProtos),
	}}
	if c.Certificate == nil {
		return nil, errNoCertificate
	}
	t.conf.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert := c.Certificate()
		if cert == nil {
			return nil, errNoCertificate
		}
		return cert, nil
	}
	if c.Overlay != nil {
		var err error
		if t.overlay, err = c.Overlay.config(); err != nil {
			return nil, err
		}
	}
	t.conf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		var other *tls.Config
		groups, peer := t.conf.CurvePreferences, t.overlay != nil && slices.Contains(h.SupportedProtos, OverlayProto)
		if peer {
			other, groups = t.overlay, t.overlay.CurvePreferences
		}
		if c, ok := h.Conn.(*Conn); ok {
			c.offer = offered(h, groups)
			c.offer.peer = peer
		}
		return other, nil
	}
	classical := []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	switch c.PQ {
	case "off":
		t.conf.CurvePreferences = classical
	case "hybrid":
		t.conf.CurvePreferences = append([]tls.CurveID{tls.X25519MLKEM768}, classical...)
	case "require":
		t.conf.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
		t.requirePQ = true
	default:
		return nil, fmt.Errorf("listen: tls.pq is %q; want off, hybrid or require", c.PQ)
	}
	switch c.ClientAuth {
	case "none":
		if c.ClientCAs != nil {
			return nil, errors.New("listen: tls.client_ca without tls.client_auth would check nobody")
		}
		t.conf.ClientAuth = tls.NoClientCert
		return t, nil
	case "optional":
		t.conf.ClientAuth = tls.VerifyClientCertIfGiven
	case "require":
		t.conf.ClientAuth = tls.RequireAndVerifyClientCert
		t.proven = true
	default:
		return nil, fmt.Errorf("listen: tls.client_auth is %q; want none, optional or require", c.ClientAuth)
	}
	if c.ClientCAs == nil || c.ClientCAs.Equal(x509.NewCertPool()) {
		return nil, fmt.Errorf("listen: tls.client_auth %q needs certificates in tls.client_ca", c.ClientAuth)
	}
	t.conf.ClientCAs = c.ClientCAs
	return t, nil
}
