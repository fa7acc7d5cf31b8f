// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
)

const benchRequest = "GET /o/b3:00 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ron1_abcdefghijklmnopqrstuvwxyz\r\nX-Corr-ID: bench\r\n\r\n"

// One request after another on one kept-alive loopback connection.
func BenchmarkLoopback(b *testing.B) {
	r := start(b, hello, options{})
	c, br := r.raw("")
	c.SetDeadline(time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		io.WriteString(c, benchRequest)
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := br.Discard(len("hello")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoopbackRefusal(b *testing.B) {
	refused := macronode.Errorf(macronode.Denied, "no")
	r := start(b, func(context.Context, *macronode.Call, macronode.Send) error { return refused }, options{})
	c, br := r.raw("")
	c.SetDeadline(time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		io.WriteString(c, benchRequest)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
}

// A stream in 64 KiB pieces.
func BenchmarkLoopbackStream(b *testing.B) {
	piece := make([]byte, 64<<10)
	r := start(b, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		c.Binding = &macronode.Binding{Streaming: true}
		return send(&macronode.Reply{Length: 64 << 20, Stream: streamFunc(func(w io.Writer) (n int64, err error) {
			for n < 64<<20 && err == nil {
				_, err = w.Write(piece)
				n += int64(len(piece))
			}
			return n, err
		})})
	}, options{})
	c, br := r.raw("")
	c.SetDeadline(time.Time{})
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		io.WriteString(c, benchRequest)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
	}
}

// quietWriter is net/http's response writer without net/http, so that what is
// counted is the gateway's alone.
type quietWriter struct {
	*httptest.ResponseRecorder
	h http.Header
}

func (q *quietWriter) Header() http.Header              { return q.h }
func (q *quietWriter) Write(p []byte) (int, error)      { return len(p), nil }
func (q *quietWriter) WriteHeader(int)                  {}
func (q *quietWriter) SetReadDeadline(time.Time) error  { return nil }
func (q *quietWriter) SetWriteDeadline(time.Time) error { return nil }
func (q *quietWriter) EnableFullDuplex() error          { return nil }
func (q *quietWriter) FlushError() error                { return nil }

func quiet(tb testing.TB) (serve func()) {
	r := start(tb, hello, options{})
	v := r.set.View()
	defer v.Close()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(benchRequest)))
	if err != nil {
		tb.Fatal(err)
	}
	auth := req.Header["Authorization"]
	var ctx context.Context
	caught := make(chan context.Context, 1)
	c := start(tb, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
		caught <- ctx
		return hello(ctx, c, send)
	}, options{})
	c.do("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	ctx = context.WithoutCancel(<-caught)
	req = req.WithContext(ctx)
	w := &quietWriter{h: http.Header{}}
	return func() {
		clear(w.h)
		req.Header["Authorization"] = auth
		r.svc.serveHTTP(w, req)
	}
}

func BenchmarkGatewayAlone(b *testing.B) {
	serve := quiet(b)
	b.ReportAllocs()
	for b.Loop() {
		serve()
	}
}

// The gateway allocates three things for a request: the exchange, the token's
// bytes and the send function. The other three are the test's: the reply, its
// body, and a context's look-up.
func TestAllocationsOfARequest(t *testing.T) {
	serve := quiet(t)
	if n := testing.AllocsPerRun(1000, serve); n > 6 {
		t.Errorf("%v allocations a request", n)
	}
}

// One request after another on HTTP/2 over TLS.
func BenchmarkLoopbackHTTP2(b *testing.B) {
	conf, pool := serverTLS(b)
	r := start(b, hello, options{tls: conf})
	c := h2client(b, pool)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := c.Get("https://" + r.addr + "/o/b3:00")
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
