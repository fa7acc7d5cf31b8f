// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"os"
	"testing"
	"time"
)

// nodeKey makes the certificate of a node key, whose dates have long passed: they
// mean nothing between nodes.
func nodeKey(tb testing.TB) (*tls.Certificate, string) {
	tb.Helper()
	return nodeKeyUntil(tb, time.Unix(1, 0))
}

// nodeKeyUntil is nodeKey with a certificate that ends then.
func nodeKeyUntil(tb testing.TB, end time.Time) (*tls.Certificate, string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nodeIDOf(leaf)
}

// Peers are shown the node's own key and known by theirs; clients on the same
// socket see the server's certificate and become no peers.
func TestOverlay(t *testing.T) {
	a := newAuthority(t)
	server := a.issue(t, "node")
	own, ownID := nodeKey(t)
	friend, friendID := nodeKey(t)
	stranger, _ := nodeKey(t)
	s, _ := newSet(t, wide())
	e := tcp("127.0.0.1:0")
	e.HandshakeTimeout = patience
	e.TLS = mustTLS(t, TLSConfig{Certificate: func() *tls.Certificate { return server }, ClientAuth: "none", PQ: "off",
		Overlay: &OverlayTLS{Certificate: func() *tls.Certificate { return own }, Known: func(id string) bool { return id == friendID }}})
	addr := apply(t, s, e)
	v := s.View()
	defer v.Close()
	count := func(kex, result string) float64 {
		version := "1.3"
		if kex == "none" {
			version = "none"
		}
		return value(t, s.conf.Metrics.handshakes.WithLabelValues(version, kex, result))
	}
	dial := func(c *tls.Config) error {
		c.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", addr, c)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(patience / 4))
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	show := func(cert *tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}

	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{OverlayProto}, GetClientCertificate: show(friend)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	nc, err := v.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if p := ConnOf(nc).Peer(); !p.Overlay || p.NodeID != friendID || !p.TLS {
		t.Errorf("%+v", p)
	}
	st := conn.ConnectionState()
	if id := nodeIDOf(st.PeerCertificates[0]); id != ownID || st.CurveID != tls.X25519MLKEM768 || st.NegotiatedProtocol != OverlayProto {
		t.Errorf("a peer is shown %s over %v", id, st.CurveID)
	}

	for _, c := range []struct {
		kex, result string
		conf        *tls.Config
	}{
		{"X25519MLKEM768", "not_peer", &tls.Config{NextProtos: []string{OverlayProto}, GetClientCertificate: show(stranger)}},
		{"X25519MLKEM768", "no_certificate", &tls.Config{NextProtos: []string{OverlayProto}, GetClientCertificate: show(&tls.Certificate{})}},
		{"none", "classical", &tls.Config{NextProtos: []string{OverlayProto}, CurvePreferences: []tls.CurveID{tls.X25519}, GetClientCertificate: show(friend)}},
	} {
		if err := dial(c.conf); err == nil || err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s: no alert came: %v", c.result, err)
		}
		eventually(t, c.result, func() bool { return count(c.kex, c.result) == 1 })
	}

	// A client that has a peer's key is a client all the same.
	plain, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, ServerName: "node", GetClientCertificate: show(friend)})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	nc2, err := v.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc2.Close()
	if p := ConnOf(nc2).Peer(); p.Overlay || p.NodeID != "" {
		t.Errorf("%+v", p)
	}
}

// A session is never resumed: who is a peer no more has none.
func TestOverlayIsNotResumed(t *testing.T) {
	own, _ := nodeKeyUntil(t, time.Now().Add(time.Hour)) // what has ended is not resumed in any case
	friend, _ := nodeKeyUntil(t, time.Now().Add(time.Hour))
	s, _ := newSet(t, wide())
	e := tcp("127.0.0.1:0")
	known := true
	e.TLS = mustTLS(t, TLSConfig{Certificate: func() *tls.Certificate { return own }, ClientAuth: "none", PQ: "hybrid",
		Overlay: &OverlayTLS{Certificate: func() *tls.Certificate { return own }, Known: func(string) bool { return known }}})
	addr := apply(t, s, e)
	v := s.View()
	defer v.Close()
	go greet(v)
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{OverlayProto}, ClientSessionCache: tls.NewLRUClientSessionCache(4),
		Certificates: []tls.Certificate{*friend}}
	for range 2 {
		c, err := tls.Dial("tcp", addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if c.ConnectionState().DidResume {
			t.Error("the session was resumed")
		}
		c.Close()
	}
}

func TestOverlayConfig(t *testing.T) {
	own, _ := nodeKey(t)
	cert := func() *tls.Certificate { return own }
	for _, o := range []*OverlayTLS{{}, {Certificate: cert}, {Known: func(string) bool { return true }}} {
		if _, err := NewTLS(TLSConfig{Certificate: cert, ClientAuth: "none", PQ: "hybrid", Overlay: o}); err == nil {
			t.Error("an overlay without certificate or peers is accepted")
		}
	}
}
