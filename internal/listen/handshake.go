// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"time"
)

// offer is what a client could have agreed to, to tell refusals apart.
type offer struct {
	seen    bool // a whole ClientHello
	version bool // TLS 1.3
	hybrid  bool // X25519MLKEM768
	group   bool // one of ours
	peer    bool // a session between nodes
}

func offered(h *tls.ClientHelloInfo, ours []tls.CurveID) offer {
	return offer{
		seen: true, version: slices.Contains(h.SupportedVersions, tls.VersionTLS13), hybrid: slices.Contains(h.SupportedCurves, tls.X25519MLKEM768),
		group: slices.ContainsFunc(h.SupportedCurves, func(id tls.CurveID) bool { return slices.Contains(ours, id) }),
	}
}

// handshake makes the TLS connection over c, or says why there is none.
func (s *Set) handshake(c *Conn, e *Endpoint) *tls.Conn {
	defer s.forget(c)
	tc := tls.Server(c, e.TLS.conf)
	c.SetDeadline(time.Now().Add(e.HandshakeTimeout))
	err := tc.Handshake()
	st := tc.ConnectionState()
	if err == nil {
		c.SetDeadline(time.Time{})
		s.conf.Metrics.handshakes.WithLabelValues("1.3", kexName(st.CurveID), "ok").Inc()
		c.peer.TLS = true
		c.peer.Overlay = st.NegotiatedProtocol == OverlayProto
		if len(st.PeerCertificates) > 0 {
			certify(&c.peer, st.PeerCertificates[0])
		}
		return tc
	}
	result := outcome(c, e.TLS, err)
	version, kex := "none", kexName(st.CurveID)
	if kex != "none" {
		version = "1.3"
	}
	s.conf.Metrics.handshakes.WithLabelValues(version, kex, result).Inc()
	s.conf.Metrics.refused.WithLabelValues(s.conf.Wire, refusedTLS).Inc()
	s.conf.Log.Debug(handshakeFailures[result], "event", "tls_handshake", "endpoint", e.Name, "client", RedactAddr(c.addr), "result", result, "error", err)
	if result == "plaintext" {
		c.Write(e.PlainAnswer)
	}
	if result != "timeout" && result != "client_gone" {
		c.Linger() // it may still be sending: a reset would cost it the alert
	}
	c.Close()
	return nil
}

// handshakeFailures are the results of handshakes that failed, each with what the
// log says.
var handshakeFailures = map[string]string{
	"classical":      "the client does not offer the key exchange X25519MLKEM768, which tls.pq = \"require\" or a session between nodes asks for",
	"no_group":       "the client offers no key exchange that is spoken here",
	"version":        "the client does not offer TLS 1.3",
	"plaintext":      "the client speaks plain text to a TLS listener",
	"timeout":        "the client did not finish its handshake in time",
	"client_gone":    "the client went away in its handshake",
	"client_refused": "the client refused the handshake: it does not trust the certificate, or not this name",
	"no_certificate": "the client shows no certificate, which tls.client_auth = \"require\" or a session between nodes asks for",
	"not_peer":       "a node wants a session, and oap.peers does not name it",
	"certificate":    "the client's certificate does not chain to tls.client_ca, or is not good now",
	"failed":         "the handshake failed",
}

// outcome finds why a handshake failed.
func outcome(c *Conn, t *TLS, err error) string {
	var (
		record  tls.RecordHeaderError
		timeout net.Error
		untrue  *tls.CertificateVerificationError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &record) && record.Conn != nil && looksLikeText(record.RecordHeader):
		return "plaintext"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, errNotPeer):
		return "not_peer"
	case errors.As(err, &untrue):
		return "certificate"
	case errors.As(err, &op) && op.Op == "remote error":
		return "client_refused"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return "client_gone"
	case !c.offer.seen:
		return "failed"
	case !c.offer.version:
		return "version"
	case (t.requirePQ || c.offer.peer) && !c.offer.hybrid:
		return "classical"
	case !c.offer.group:
		return "no_group"
	case (t.proven || c.offer.peer) && showedNone(err):
		return "no_certificate"
	}
	return "failed"
}

// showedNone knows the one error that crypto/tls has for a missing certificate; it
// has no type.
func showedNone(err error) bool {
	return err.Error() == "tls: client didn't provide a certificate"
}

// Label values of tls_handshakes_total.
var (
	tlsVersions = []string{"1.3", "none"}
	tlsKex      = []string{"X25519MLKEM768", "X25519", "P-256", "P-384", "none"}
	tlsResults  = []string{"ok", "classical", "no_group", "version", "plaintext", "timeout", "client_gone", "client_refused", "no_certificate", "certificate", "not_peer", "failed"}
)

func kexName(id tls.CurveID) string {
	switch id {
	case tls.X25519MLKEM768:
		return tlsKex[0]
	case tls.X25519:
		return tlsKex[1]
	case tls.CurveP256:
		return tlsKex[2]
	case tls.CurveP384:
		return tlsKex[3]
	default:
		return "none"
	}
}

// looksLikeText reports whether what stood in place of a TLS record is the
// beginning of a request in plain text.
func looksLikeText(h [5]byte) bool {
	for _, c := range h {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
