// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestHandshakesAreCounted: each way in which a handshake can end has a result of
// its own, and no other is counted with it.
func TestHandshakesAreCounted(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	cert := a.issue(t, "node")
	trusting := func() *tls.Config { return &tls.Config{RootCAs: a.pool, ServerName: "node"} }
	with := func(change func(*tls.Config)) func(string) {
		return func(addr string) {
			c := trusting()
			change(c)
			if conn, err := tls.Dial("tcp", addr, c); err == nil {
				io.Copy(io.Discard, conn)
				conn.Close()
			}
		}
	}
	show := func(cert *tls.Certificate) func(string) {
		return with(func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		})
	}
	raw := func(text string, wait bool) func(string) {
		return func(addr string) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, text)
			if wait {
				c.SetDeadline(time.Now().Add(patience))
				io.Copy(io.Discard, c)
			}
		}
	}
	for _, c := range []struct {
		result, version, kex string
		auth, pq             string
		client               func(addr string)
	}{
		{"ok", "1.3", "X25519MLKEM768", "none", "hybrid", with(func(*tls.Config) {})},
		{"ok", "1.3", "P-384", "none", "hybrid", with(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} })},
		{"ok", "1.3", "X25519", "require", "off", show(a.issue(t, "client"))},
		{"classical", "none", "none", "none", "require", with(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} })},
		{"no_group", "none", "none", "none", "off", with(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} })},
		{"version", "none", "none", "none", "hybrid", with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })},
		{"version", "none", "none", "none", "require", with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })},
		{"plaintext", "none", "none", "none", "hybrid", raw("GET / HTTP/1.1\r\n\r\n", true)},
		{"timeout", "none", "none", "none", "hybrid", raw("\x16\x03\x01\x02", true)},
		{"client_gone", "none", "none", "none", "hybrid", raw("\x16\x03\x01\x02", false)},
		{"client_gone", "none", "none", "none", "require", raw("", false)},
		{"failed", "none", "none", "none", "hybrid", raw("\x16\x03\x01\x00\x04\xff\x00\x00\x00", true)},
		{"client_refused", "1.3", "X25519MLKEM768", "none", "hybrid", with(func(c *tls.Config) { c.RootCAs = stranger.pool })},
		{"client_refused", "1.3", "X25519MLKEM768", "none", "require", with(func(c *tls.Config) { c.ServerName = "another" })},
		{"no_certificate", "1.3", "X25519MLKEM768", "require", "hybrid", show(&tls.Certificate{})},
		{"certificate", "1.3", "X25519MLKEM768", "require", "hybrid", show(stranger.issue(t, "client"))},
		{"certificate", "1.3", "X25519MLKEM768", "optional", "require", show(stranger.issue(t, "client"))},
	} {
		s, _ := newSet(t, wide())
		conf := TLSConfig{Certificate: func() *tls.Certificate { return cert }, ClientAuth: c.auth, PQ: c.pq}
		if c.auth != "none" {
			conf.ClientCAs = a.pool
		}
		e := tcp("127.0.0.1:0")
		e.TLS, e.HandshakeTimeout = mustTLS(t, conf), 300*time.Millisecond
		if c.result != "timeout" {
			e.HandshakeTimeout = patience
		}
		addr := apply(t, s, e)
		v := s.View()
		go greet(v)
		c.client(addr)
		eventually(t, c.result, func() bool {
			return value(t, s.conf.Metrics.handshakes.WithLabelValues(c.version, c.kex, c.result)) == 1
		})
		for _, version := range tlsVersions {
			for _, kex := range tlsKex {
				for _, result := range tlsResults {
					if n := value(t, s.conf.Metrics.handshakes.WithLabelValues(version, kex, result)); n != 0 && (result != c.result || version != c.version || kex != c.kex) {
						t.Errorf("%s: counted as %s %s %s", c.result, version, kex, result)
					}
				}
			}
		}
		v.Close()
	}
}

// A classical client of another make sees an alert, not a broken connection.
func TestRequireAnswersClassicalWithAlert(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(t, "node")
	s, _ := newSet(t, wide())
	e := tcp("127.0.0.1:0")
	e.TLS = mustTLS(t, TLSConfig{Certificate: func() *tls.Certificate { return cert }, ClientAuth: "none", PQ: "require"})
	addr := apply(t, s, e)
	cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", addr, "-groups", "X25519", "-tls1_3")
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("alert handshake failure")) {
		t.Errorf("%v: %.400s", err, out)
	}
	var alert *net.OpError
	_, err = tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, ServerName: "node", CurvePreferences: []tls.CurveID{tls.X25519}})
	if !errors.As(err, &alert) || alert.Op != "remote error" || !strings.Contains(err.Error(), "handshake failure") {
		t.Errorf("%v", err)
	}
	eventually(t, "classical", func() bool {
		return value(t, s.conf.Metrics.handshakes.WithLabelValues("none", "none", "classical")) == 2
	})
}

// What the results say in the log is there for each.
func TestEveryFailureHasItsWords(t *testing.T) {
	for _, r := range tlsResults[1:] {
		if handshakeFailures[r] == "" {
			t.Errorf("no words for %s", r)
		}
	}
	if len(handshakeFailures) != len(tlsResults)-1 {
		t.Error("words for a result that does not exist")
	}
}
