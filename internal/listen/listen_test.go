// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/rustyonions/macronode/internal/metrics"
)

const patience = 10 * time.Second

func newSet(t testing.TB, r Rules) (*Set, *Caps) {
	t.Helper()
	caps, err := NewCaps(r)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSet(SetConfig{Wire: "http", Caps: caps, Metrics: NewMetrics(metrics.New(false))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(s) })
	return s, caps
}

// closeNow closes s and what nobody took.
func closeNow(s *Set) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Close(ctx)
}

func wide() Rules { return Rules{MaxConns: 100, MaxConnsPerIP: 100} }

func tcp(addr string) Endpoint {
	return Endpoint{Name: "bind", Network: "tcp", Addr: addr, HandshakeTimeout: patience, StallTimeout: patience}
}

func apply(t testing.TB, s *Set, e ...Endpoint) string {
	t.Helper()
	if err := s.Apply(e); err != nil {
		t.Fatal(err)
	}
	if a := s.Addrs()[e[0].Name]; a != nil {
		return a.String()
	}
	return ""
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t testing.TB, v *View) net.Conn {
	t.Helper()
	c, err := v.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ended fails unless the other end closed c.
func ended(t testing.TB, c net.Conn) {
	t.Helper()
	var timeout net.Error
	if _, err := io.ReadAll(c); errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the connection was left open")
	}
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	c := a.issue(t, "authority")
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate, signed by itself where a has no key yet.
func (a *authority) issue(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{"node"},
		NotAfter: time.Now().Add(time.Hour), IsCA: a.key == nil, BasicConstraintsValid: true}
	parent, signer := tmpl, key
	if a.key != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func mustTLS(t testing.TB, c TLSConfig) *TLS {
	t.Helper()
	conf, err := NewTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// greet takes each connection, sends its Peer's subject and closes it.
func greet(v *View) {
	for {
		c, err := v.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, "hello")
		c.Close()
	}
}

func TestCertificateChangesLive(t *testing.T) {
	a := newAuthority(t)
	var current atomic.Pointer[tls.Certificate]
	s, _ := newSet(t, wide())
	e := tcp("127.0.0.1:0")
	e.TLS = mustTLS(t, TLSConfig{Certificate: current.Load, ClientAuth: "none", PQ: "hybrid"})
	addr := apply(t, s, e)
	v := s.View()
	defer v.Close()
	go greet(v)
	for _, name := range []string{"first", "second"} {
		current.Store(a.issue(t, name))
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, ServerName: "node"})
		if err != nil {
			t.Fatal(err)
		}
		st := c.ConnectionState()
		if got := st.PeerCertificates[0].Subject.CommonName; got != name || st.Version != tls.VersionTLS13 || st.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s %x %v, want %s", got, st.Version, st.CurveID, name)
		}
		io.Copy(io.Discard, c) // or the other end may not be done yet
		c.Close()
	}
	if _, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, ServerName: "node", MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 was spoken")
	}
	current.Store(nil)
	if _, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, ServerName: "node"}); err == nil {
		t.Error("a handshake without a certificate")
	}
	if n := value(t, s.conf.Metrics.handshakes.WithLabelValues("1.3", "X25519MLKEM768", "ok")); n != 2 {
		t.Errorf("%v handshakes counted", n)
	}
	eventually(t, "failed handshakes", func() bool {
		return value(t, s.conf.Metrics.handshakes.WithLabelValues("none", "none", "version")) == 1 &&
			value(t, s.conf.Metrics.handshakes.WithLabelValues("1.3", "X25519MLKEM768", "failed")) == 1
	})
}

// eventually polls for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: did not come", what)
		}
	}
}

func TestPQ(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(t, "node")
	classical := []tls.CurveID{tls.X25519, tls.CurveP256}
	hybrid := []tls.CurveID{tls.X25519MLKEM768}
	for _, c := range []struct {
		pq     string
		offer  []tls.CurveID
		agreed tls.CurveID // 0: refused
		result string
	}{
		{"off", classical, tls.X25519, "ok"},
		{"off", append(hybrid, classical...), tls.X25519, "ok"},
		{"off", hybrid, 0, "no_group"},
		{"hybrid", classical, tls.X25519, "ok"},
		{"hybrid", []tls.CurveID{tls.CurveP384}, tls.CurveP384, "ok"},
		{"hybrid", append(classical, hybrid...), tls.X25519MLKEM768, "ok"},
		{"require", classical, 0, "classical"},
		{"require", append(classical, hybrid...), tls.X25519MLKEM768, "ok"},
	} {
		s, _ := newSet(t, wide())
		e := tcp("127.0.0.1:0")
		e.TLS = mustTLS(t, TLSConfig{Certificate: func() *tls.Certificate { return cert }, ClientAuth: "none", PQ: c.pq})
		addr := apply(t, s, e)
		v := s.View()
		go greet(v)
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.pool, ServerName: "node", CurvePreferences: c.offer})
		if (err != nil) != (c.agreed == 0) {
			t.Errorf("%s with %v: %v", c.pq, c.offer, err)
		}
		if err == nil {
			if got := conn.ConnectionState().CurveID; got != c.agreed {
				t.Errorf("%s with %v: %v", c.pq, c.offer, got)
			}
			io.Copy(io.Discard, conn)
			conn.Close()
		}
		eventually(t, c.pq+" "+c.result, func() bool {
			n := 0.0
			for _, kex := range tlsKex {
				n += value(t, s.conf.Metrics.handshakes.WithLabelValues("1.3", kex, c.result))
			}
			return n+value(t, s.conf.Metrics.handshakes.WithLabelValues("none", "none", c.result)) == 1
		})
		v.Close()
	}
}

func TestClientCertificates(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	cert := a.issue(t, "node")
	mine := a.issue(t, "client-7")
	for _, c := range []struct {
		auth   string
		show   *tls.Certificate
		served bool
	}{
		{"none", nil, true}, {"none", mine, true},
		{"optional", nil, true}, {"optional", mine, true}, {"optional", stranger.issue(t, "x"), false},
		{"require", nil, false}, {"require", mine, true}, {"require", stranger.issue(t, "x"), false},
	} {
		s, _ := newSet(t, wide())
		conf := TLSConfig{Certificate: func() *tls.Certificate { return cert }, ClientAuth: c.auth, PQ: "off"}
		if c.auth != "none" {
			conf.ClientCAs = a.pool
		}
		e := tcp("127.0.0.1:0")
		e.TLS = mustTLS(t, conf)
		addr := apply(t, s, e)
		client := &tls.Config{RootCAs: a.pool, ServerName: "node", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c.show == nil {
				return &tls.Certificate{}, nil
			}
			return c.show, nil
		}}
		v := s.View()
		peers := make(chan net.Conn, 1)
		go func() {
			if nc, err := v.Accept(); err == nil {
				peers <- nc
				io.WriteString(nc, "hello")
				nc.Close()
			}
		}()
		conn, err := tls.Dial("tcp", addr, client)
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 5))
			conn.Close()
		}
		v.Close()
		if (err == nil) != c.served {
			t.Errorf("%s, showing %v: %v", c.auth, c.show != nil, err)
		}
		if err != nil {
			continue
		}
		p := ConnOf(<-peers).Peer()
		shown := c.show != nil && c.auth != "none"
		if !p.TLS || !p.Loopback || (p.CertHash != [32]byte{}) != shown || (p.NodeID != "") != shown {
			t.Errorf("%s: %+v", c.auth, p)
		}
		if shown && (p.CertHash != sha256.Sum256(mine.Certificate[0]) || p.Subject != "CN=client-7" || !strings.HasPrefix(p.NodeID, "b3:") || len(p.NodeID) != 67) {
			t.Errorf("%s: %+v", c.auth, p)
		}
	}
}

func TestTLSConfigIsChecked(t *testing.T) {
	a := newAuthority(t)
	ok := TLSConfig{Certificate: func() *tls.Certificate { return nil }, ClientAuth: "require", ClientCAs: a.pool, PQ: "hybrid"}
	if _, err := NewTLS(ok); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*TLSConfig){
		"no certificate":       func(c *TLSConfig) { c.Certificate = nil },
		"empty pq":             func(c *TLSConfig) { c.PQ = "" },
		"unknown pq":           func(c *TLSConfig) { c.PQ = "on" },
		"empty client_auth":    func(c *TLSConfig) { c.ClientAuth = "" },
		"unknown client_auth":  func(c *TLSConfig) { c.ClientAuth = "yes" },
		"require without CA":   func(c *TLSConfig) { c.ClientCAs = nil },
		"require with no CA":   func(c *TLSConfig) { c.ClientCAs = x509.NewCertPool() },
		"optional without CA":  func(c *TLSConfig) { c.ClientAuth, c.ClientCAs = "optional", nil },
		"a CA that is ignored": func(c *TLSConfig) { c.ClientAuth = "none" },
	} {
		c := ok
		if change(&c); true {
			if _, err := NewTLS(c); err == nil {
				t.Errorf("%s was taken", name)
			}
		}
	}
}

func TestHandshakeTimeoutAndPlainText(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(t, "node")
	s, _ := newSet(t, wide())
	e := tcp("127.0.0.1:0")
	e.TLS = mustTLS(t, TLSConfig{Certificate: func() *tls.Certificate { return cert }, ClientAuth: "none", PQ: "off"})
	e.HandshakeTimeout = 100 * time.Millisecond
	e.PlainAnswer = []byte("speak TLS")
	addr := apply(t, s, e)
	silent := dial(t, addr)
	ended(t, silent)
	plain := dial(t, addr)
	io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n")
	if b, _ := io.ReadAll(plain); string(b) != "speak TLS" {
		t.Errorf("%q", b)
	}
	for _, result := range []string{"timeout", "plaintext"} {
		if n := value(t, s.conf.Metrics.handshakes.WithLabelValues("none", "none", result)); n != 1 {
			t.Errorf("%s: %v", result, n)
		}
	}
}

func TestConnectionCaps(t *testing.T) {
	s, caps := newSet(t, Rules{MaxConns: 3, MaxConnsPerIP: 2})
	dir := t.TempDir()
	e := tcp("127.0.0.1:0")
	addr := apply(t, s, e, Endpoint{Name: "admin.sock", Network: "unix", Addr: dir + "/s", AllowUIDs: []uint32{uint32(os.Getuid())}, StallTimeout: patience})
	v := s.View()
	defer v.Close()
	dial(t, addr)
	first := accept(t, v)
	dial(t, addr)
	accept(t, v)
	ended(t, dial(t, addr)) // the third of this address
	if n := value(t, s.conf.Metrics.refused.WithLabelValues("http", refusedConnsPerIP)); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
	if err := caps.SetRules(Rules{MaxConns: 2, MaxConnsPerIP: 2}); err != nil {
		t.Fatal(err)
	}
	ended(t, dial(t, addr))
	if n := value(t, s.conf.Metrics.refused.WithLabelValues("http", refusedConns)); n != 1 {
		t.Errorf("%v refusals counted", n)
	}
	// Operators still come in.
	op, err := DialUnix(context.Background(), dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	accept(t, v)
	// One that ends makes room.
	if first.Close(); value(t, s.conf.Metrics.open.WithLabelValues("http")) != 2 {
		t.Error("open_connections is wrong")
	}
	first.Close() // counts once
	dial(t, addr)
	accept(t, v)
	// A trusted proxy carries many clients.
	if err := caps.SetRules(Rules{MaxConns: 10, MaxConnsPerIP: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}); err != nil {
		t.Fatal(err)
	}
	dial(t, addr)
	if c := accept(t, v); !ConnOf(c).Peer().Trusted {
		t.Error("not trusted")
	}
}

func TestCapsCount(t *testing.T) {
	c, err := NewCaps(Rules{MaxConns: 1000, MaxConnsPerIP: 2})
	if err != nil {
		t.Fatal(err)
	}
	take := func(a string) bool {
		_, refused := c.take(netip.MustParseAddr(a), false)
		return refused == ""
	}
	// An IPv6 client has a whole /64 to dial from.
	if !take("2001:db8::1") || !take("2001:db8::2") || take("2001:db8::3") || !take("2001:db8:0:1::1") || !take("10.0.0.1") || !take("10.0.0.2") {
		t.Error("addresses are not counted as they should be")
	}
	release, _ := c.take(netip.MustParseAddr("10.0.0.9"), false)
	if n := len(c.perIP); n != 5 {
		t.Errorf("%d addresses", n)
	}
	if release(); len(c.perIP) != 4 {
		t.Error("an address without connections is kept")
	}
	for _, r := range []Rules{{}, {MaxConns: 1}, {MaxConns: 1, MaxConnsPerIP: 1, TrustedProxies: make([]netip.Prefix, 1)}} {
		if c.SetRules(r) == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

// certificate is an authority's own, as TLSConfig wants it.
func (a *authority) certificate() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
}

// value reads a counter or gauge.
func value(t testing.TB, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}
