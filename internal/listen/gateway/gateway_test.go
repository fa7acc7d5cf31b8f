// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/metrics"
)

// serveFunc is a Server.
type serveFunc func(ctx context.Context, c *macronode.Call, send macronode.Send) error

func (f serveFunc) Serve(ctx context.Context, c *macronode.Call, send macronode.Send) error {
	return f(ctx, c, send)
}

// streamFunc is a Stream.
type streamFunc func(w io.Writer) (int64, error)

func (f streamFunc) WriteTo(w io.Writer) (int64, error) { return f(w) }
func (streamFunc) Close() error                         { return nil }

// rig is a gateway on a free port.
type rig struct {
	t       testing.TB
	svc     *Service
	set     *listen.Set
	addr    string
	stop    context.CancelFunc // ends Serve
	done    chan error
	metrics *metrics.Registry

	mu      sync.Mutex
	rejects []macronode.Kind
}

func (r *rig) rejected() []macronode.Kind {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.rejects)
}

func testLimits() Limits {
	return Limits{ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, RequestTimeout: 20 * time.Second,
		StallTimeout: 5 * time.Second, MaxFrameBytes: macronode.MaxFrameBytes, ChunkBytes: 64 << 10}
}

type options struct {
	limits func(*Limits)
	rules  func(*listen.Rules)
	tls    *listen.TLS
	far    net.Addr // where connections seem to come from; nil: from where they do
}

// farListener accepts as if from another host.
type farListener struct {
	net.Listener
	far net.Addr
}

func (l farListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return farConn{c.(*net.TCPConn), l.far}, nil
}

type farConn struct {
	*net.TCPConn
	far net.Addr
}

func (c farConn) RemoteAddr() net.Addr { return c.far }

// inherit makes a socket of its own where connections are to seem far.
func (o options) inherit(t testing.TB) func(network, addr string) net.Listener {
	if o.far == nil {
		return nil
	}
	return func(network, addr string) net.Listener {
		ln, err := net.Listen(network, addr)
		if err != nil {
			t.Error(err)
			return nil
		}
		return farListener{ln, o.far}
	}
}

func start(t testing.TB, serve serveFunc, o options) *rig {
	t.Helper()
	rules := listen.Rules{MaxConns: 100, MaxConnsPerIP: 100}
	if o.rules != nil {
		o.rules(&rules)
	}
	caps, err := listen.NewCaps(rules)
	if err != nil {
		t.Fatal(err)
	}
	set, err := listen.NewSet(listen.SetConfig{Wire: "http", Caps: caps, Metrics: listen.NewMetrics(metrics.New(false)), Inherit: o.inherit(t)})
	if err != nil {
		t.Fatal(err)
	}
	l := testLimits()
	if o.limits != nil {
		o.limits(&l)
	}
	if err := set.Apply([]listen.Endpoint{{Name: "bind", Network: "tcp", Addr: "127.0.0.1:0", TLS: o.tls,
		HandshakeTimeout: 5 * time.Second, StallTimeout: l.StallTimeout, PlainAnswer: PlainAnswer()}}); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, metrics: metrics.New(false), set: set, addr: set.Addrs()["bind"].String()}
	r.svc, err = New(Config{Set: set, Caps: caps, Server: serve, Limits: l, Metrics: NewMetrics(r.metrics), Reject: func(k macronode.Kind) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.rejects = append(r.rejects, k)
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.serve()
	t.Cleanup(func() {
		r.stop()
		if err := <-r.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		set.Close(gone)
	})
	return r
}

func (r *rig) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.done = cancel, make(chan error, 1)
	done := r.done
	go func() { done <- r.svc.Serve(ctx) }()
}

// raw sends text and returns the connection to read from.
func (r *rig) raw(text string) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func (r *rig) answer(br *bufio.Reader, method string) (*http.Response, string) {
	r.t.Helper()
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		r.t.Fatalf("no answer: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("body: %v", err)
	}
	return resp, string(b)
}

func (r *rig) do(text string) (*http.Response, string) {
	r.t.Helper()
	_, br := r.raw(text)
	method, _, _ := strings.Cut(text, " ")
	return r.answer(br, method)
}

func problem(t testing.TB, body string) macronode.Problem {
	t.Helper()
	var p macronode.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%q is no problem document: %v", body, err)
	}
	return p
}

func hello(_ context.Context, c *macronode.Call, send macronode.Send) error {
	return send(&macronode.Reply{ContentType: "text/plain", Body: []byte("hello")})
}

func certificate(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func serverTLS(t testing.TB) (*listen.TLS, *x509.CertPool) {
	t.Helper()
	cert := certificate(t, "node")
	conf, err := listen.NewTLS(listen.TLSConfig{Certificate: func() *tls.Certificate { return cert }, ClientAuth: "none", PQ: "hybrid",
		NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	return conf, pool
}

// h2client speaks HTTP/2 to r.
func h2client(t testing.TB, pool *x509.CertPool) *http.Client {
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "node"}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func TestCallIsBuilt(t *testing.T) {
	got := make(chan *macronode.Call, 1)
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		b, err := io.ReadAll(c.Body)
		if err != nil || string(b) != "body" {
			t.Errorf("body %q, %v", b, err)
		}
		got <- c
		return send(&macronode.Reply{Status: 201})
	}, options{})
	resp, body := r.do("POST /v1/n/%41%2Fb%20c?x=1&cap=no HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nAuthorization: bearer ron1_abc\r\n" +
		"X-Corr-ID: My.corr-1_\r\nIdempotency-Key: k1\r\nX-Ron-Discharge: d1, d2\r\nX-Ron-Discharge: d3\r\n" +
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\nbody")
	if resp.StatusCode != 201 || body != "" || resp.Header.Get("X-Corr-ID") != "My.corr-1_" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	c := <-got
	if c.Method != "POST" || c.Path != "/v1/n/A/b c" || c.Query != "x=1&cap=no" || c.Length != 4 || string(c.Token) != "ron1_abc" || c.BadAuth ||
		c.IdempotencyKey != "k1" || !slices.Equal(c.Discharges, []string{"d1", "d2", "d3"}) || c.TraceParent == "" || c.CorrID != "My.corr-1_" {
		t.Errorf("%+v", c)
	}
	if c.Header.Get("Authorization") != "" {
		t.Error("the token is still in the header")
	}
	if !c.Peer.Loopback || c.Peer.TLS || c.Peer.Trusted || c.Peer.Addr != netip.MustParseAddr("127.0.0.1") || !c.Deadline.IsZero() {
		t.Errorf("%+v", c.Peer)
	}
}

func TestRefusedBeforeTheWall(t *testing.T) {
	r := start(t, func(_ context.Context, c *macronode.Call, _ macronode.Send) error {
		t.Errorf("%s %s reached the wall", c.Method, c.Path)
		return macronode.Errorf(macronode.Internal, "")
	}, options{limits: func(l *Limits) { l.SeparateAdmin = true }})
	cases := []struct {
		name, request string
		status        int
		code          string // of the problem
	}{
		{"two Authorization", "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400, "malformed"},
		{"two Idempotency-Key", "PUT / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: a\r\nIdempotency-Key: a\r\n\r\n", 400, "malformed"},
		{"empty Idempotency-Key", "PUT / HTTP/1.1\r\nHost: h\r\nIdempotency-Key:\r\n\r\n", 400, "malformed"},
		{"many discharges", "GET / HTTP/1.1\r\nHost: h\r\nX-Ron-Discharge: " + strings.Repeat("a,", 17) + "\r\n\r\n", 400, "malformed"},
		{"token in cap", "GET /o?cap=ron1_x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"token in token", "GET /o?a=b&Token=ron1_x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"hidden token", "GET /o?%63ap=%72on1_x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"dot dot", "GET /o/../x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"encoded dot dot", "GET /o/%2e%2E HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"dot", "GET /./x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"NUL", "GET /o/%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"newline", "GET /o/%0a HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"not UTF-8", "GET /o/%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed"},
		{"admin on bind", "GET /v1/admin/status HTTP/1.1\r\nHost: h\r\n\r\n", 404, "not_found"},
		{"console on bind", "GET /console HTTP/1.1\r\nHost: h\r\n\r\n", 404, "not_found"},
		{"ingress by GET", "GET /ingress HTTP/1.1\r\nHost: h\r\n\r\n", 405, "method_not_allowed"},
		{"ingress", "POST /ingress HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", 400, "malformed"},
		{"ingress chunked", "POST /ingress HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 400, "malformed"},
		{"ingress empty", "POST /ingress HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 400, "malformed"},
		{"ingress with a token beside the frame", "POST /ingress HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\nContent-Length: 1\r\n\r\nx", 400, "malformed"},
		{"ingress with a key beside the frame", "POST /ingress HTTP/1.1\r\nHost: h\r\nIdempotency-Key: x\r\nContent-Length: 1\r\n\r\nx", 400, "malformed"},
		{"ingress bad chunk", "POST /ingress HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed"},
		{"malformed", "GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400, "malformed"},
		{"two lengths", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "malformed"},
		{"header too large", "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 33<<10) + "\r\n\r\n", 431, "header_too_large"},
		{"odd transfer encoding", "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "unimplemented"},
		{"header far too large", "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", 431, "header_too_large"},
		{"many fields", "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("A: b\r\n", 129) + "\r\n", 431, "header_too_large"},
		{"another version", "GET / HTTP/3.1\r\nHost: h\r\n\r\n", 505, "malformed"},
		{"no request", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "malformed"},
		{"unknown expectation", "PUT / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", 417, "malformed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			resp, body := r.do(c.request)
			if resp.StatusCode != c.status {
				t.Fatalf("%d %s, want %d", resp.StatusCode, body, c.status)
			}
			p := problem(t, body)
			if p.Code != c.code || p.Status != c.status || resp.Header.Get("Content-Type") != ProblemType || p.CorrID != resp.Header.Get("X-Corr-ID") {
				t.Errorf("%+v %v", p, resp.Header)
			}
			if c.status == 405 && resp.Header.Get("Allow") != "POST" {
				t.Errorf("Allow: %q", resp.Header.Get("Allow"))
			}
		})
	}
	if n := len(r.rejected()); n != len(cases) {
		t.Errorf("%d refusals were reported", n)
	}
	// A header of almost the limit is still fine.
	c := start(t, hello, options{})
	if resp, _ := c.do("GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 31<<10) + "\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("31 KiB of header: %d", resp.StatusCode)
	}
	if resp, _ := c.do("GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("A: b\r\n", 128) + "\r\n"); resp.StatusCode != 200 {
		t.Errorf("128 fields: %d", resp.StatusCode)
	}
}

func TestProblems(t *testing.T) {
	var next atomic.Pointer[macronode.Error]
	r := start(t, func(context.Context, *macronode.Call, macronode.Send) error { return next.Load() }, options{})
	cases := []struct {
		err    *macronode.Error
		status int
		header map[string]string
	}{
		{macronode.Errorf(macronode.Unauthenticated, "no"), 401, map[string]string{"WWW-Authenticate": `Bearer realm="macronode"`}},
		{macronode.Errorf(macronode.TokenExpired, "old"), 401, map[string]string{"WWW-Authenticate": `Bearer realm="macronode", error="invalid_token"`}},
		{&macronode.Error{Kind: macronode.QuotaRate, RetryAfter: 1200 * time.Millisecond}, 429, map[string]string{"Retry-After": "2"}},
		{macronode.Errorf(macronode.QuotaBytes, "full"), 429, map[string]string{"Retry-After": ""}},
		{macronode.Errorf(macronode.Draining, ""), 503, map[string]string{"Retry-After": "1"}},
		{&macronode.Error{Kind: macronode.MethodNotAllowed, Header: macronode.Header{"Allow": {"GET, HEAD"}}}, 405, map[string]string{"Allow": "GET, HEAD"}},
		{macronode.Wrap(macronode.Internal, "", errors.New("secret cause")), 500, nil},
	}
	for _, c := range cases {
		next.Store(c.err)
		resp, body := r.do("GET /x HTTP/1.1\r\nHost: h\r\nX-Corr-ID: bad id\r\n\r\n")
		p := problem(t, body)
		if resp.StatusCode != c.status || p.Code != c.err.Kind.String() || strings.Contains(body, "secret") {
			t.Errorf("%v: %d %s", c.err, resp.StatusCode, body)
		}
		if len(p.CorrID) != 32 || resp.Header.Get("X-Corr-ID") != p.CorrID || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v: corr_id %q, header %v", c.err, p.CorrID, resp.Header)
		}
		for k, v := range c.header {
			if resp.Header.Get(k) != v {
				t.Errorf("%v: %s: %q, want %q", c.err, k, resp.Header.Get(k), v)
			}
		}
	}
	if resp, body := r.do("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 500 || body != "" || resp.ContentLength <= 0 {
		t.Errorf("HEAD: %d %q %d", resp.StatusCode, body, resp.ContentLength)
	}
}

// finished writes b, from the given place on as its last bytes.
func finished(b []byte, from int) streamFunc {
	return func(w io.Writer) (int64, error) {
		if n, err := w.Write(b[:from]); err != nil {
			return int64(n), err
		}
		n, err := w.(macronode.Finisher).Finish(b[from:])
		return int64(from + n), err
	}
}

func TestReplies(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	var next atomic.Value
	r := start(t, func(_ context.Context, _ *macronode.Call, send macronode.Send) error {
		return send(next.Load().(func() *macronode.Reply)())
	}, options{})
	pieces := func(n int) streamFunc {
		return func(w io.Writer) (int64, error) {
			for p := range slices.Chunk(big, n) {
				if _, err := w.Write(p); err != nil {
					return 0, err
				}
			}
			return int64(len(big)), nil
		}
	}
	cases := []struct {
		name    string
		reply   func() *macronode.Reply
		body    string
		length  int64
		chunked bool
	}{
		{"body", func() *macronode.Reply { return &macronode.Reply{Body: big} }, string(big), int64(len(big)), false},
		{"nothing", func() *macronode.Reply { return &macronode.Reply{} }, "", 0, false},
		{"stream of known length", func() *macronode.Reply { return &macronode.Reply{Stream: pieces(64 << 10), Length: int64(len(big))} }, string(big), int64(len(big)), false},
		{"small pieces", func() *macronode.Reply { return &macronode.Reply{Stream: pieces(100), Length: int64(len(big))} }, string(big), int64(len(big)), false},
		{"one piece", func() *macronode.Reply { return &macronode.Reply{Stream: pieces(len(big)), Length: int64(len(big))} }, string(big), int64(len(big)), false},
		{"unknown length", func() *macronode.Reply { return &macronode.Reply{Stream: pieces(50_000), Length: -1} }, string(big), -1, true},
		{"copied", func() *macronode.Reply {
			return &macronode.Reply{Length: int64(len(big)), Stream: streamFunc(func(w io.Writer) (int64, error) {
				return io.Copy(w, io.MultiReader(bytes.NewReader(big[:70_000]), bytes.NewReader(big[70_000:])))
			})}
		}, string(big), int64(len(big)), false},
		{"copied, a buffer's length", func() *macronode.Reply {
			return &macronode.Reply{Length: bufferBytes, Stream: streamFunc(func(w io.Writer) (int64, error) {
				return io.Copy(w, struct{ io.Reader }{bytes.NewReader(big[:bufferBytes])})
			})}
		}, string(big[:bufferBytes]), bufferBytes, false},
		{"finished in one", func() *macronode.Reply {
			return &macronode.Reply{Stream: finished(big, 0), Length: int64(len(big))}
		}, string(big), int64(len(big)), false},
		{"finished after more than a buffer", func() *macronode.Reply {
			return &macronode.Reply{Stream: finished(big, 70_000), Length: int64(len(big))}
		}, string(big), int64(len(big)), false},
		{"finished after little", func() *macronode.Reply {
			return &macronode.Reply{Stream: finished(big, 10), Length: int64(len(big))}
		}, string(big), int64(len(big)), false},
		{"finished with little", func() *macronode.Reply {
			return &macronode.Reply{Stream: finished(big, len(big)-10), Length: int64(len(big))}
		}, string(big), int64(len(big)), false},
		{"finished, of unknown length", func() *macronode.Reply {
			return &macronode.Reply{Stream: finished(big, 10), Length: -1}
		}, string(big), -1, true},
		{"empty stream", func() *macronode.Reply {
			return &macronode.Reply{Stream: streamFunc(func(io.Writer) (int64, error) { return 0, nil }), Length: 0}
		}, "", 0, false},
	}
	c, br := r.raw("")
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			next.Store(k.reply)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			resp, body := r.answer(br, "GET")
			if body != k.body || resp.ContentLength != k.length || (resp.TransferEncoding != nil) != k.chunked || resp.Close {
				t.Errorf("%d bytes, length %d, %v, close %v", len(body), resp.ContentLength, resp.TransferEncoding, resp.Close)
			}
			io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
			next.Store(func() *macronode.Reply { r := k.reply(); r.Stream = nil; return r })
			resp, body = r.answer(br, "HEAD")
			if body != "" || (k.length >= 0 && resp.ContentLength != k.length) {
				t.Errorf("HEAD: %q, %d", body, resp.ContentLength)
			}
		})
	}
	next.Store(func() *macronode.Reply {
		return &macronode.Reply{Status: 304, Header: macronode.Header{"Etag": {`"x"`}, "Connection": {"upgrade"}, "Content-Length": {"9"}}}
	})
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if resp, _ := r.answer(br, "GET"); resp.StatusCode != 304 || resp.Header.Get("ETag") != `"x"` || resp.Header.Get("Connection") != "" || resp.Header.Get("Content-Length") != "" {
		t.Errorf("304: %v", resp.Header)
	}
}
