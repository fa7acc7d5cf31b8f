// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
)

// closedWithin fails unless the server ends the connection by itself.
func closedWithin(t *testing.T, c net.Conn, d time.Duration) []byte {
	t.Helper()
	c.SetDeadline(time.Now().Add(d))
	b, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("still open after %v", d)
	}
	return b
}

func TestSlowHeader(t *testing.T) {
	r := start(t, hello, options{limits: func(l *Limits) { l.ReadHeaderTimeout = 150 * time.Millisecond }})
	c, _ := r.raw("GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ")
	closedWithin(t, c, 5*time.Second)
}

func TestIdleConnection(t *testing.T) {
	r := start(t, hello, options{limits: func(l *Limits) { l.IdleTimeout = 100 * time.Millisecond }})
	c, br := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if resp, _ := r.answer(br, "GET"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	closedWithin(t, c, 5*time.Second)
}

// reads gives the error that a handler sees that reads the whole body.
func reads(b *macronode.Binding, seen chan<- error) serveFunc {
	return func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		c.Binding = b
		_, err := io.Copy(io.Discard, c.Body)
		seen <- err
		if err != nil {
			return err
		}
		return send(&macronode.Reply{})
	}
}

func TestSlowBody(t *testing.T) {
	conf, pool := serverTLS(t)
	for _, c := range []struct {
		name    string
		binding *macronode.Binding
		limits  func(*Limits)
	}{
		{"stall", &macronode.Binding{Streaming: true}, func(l *Limits) { l.StallTimeout = 150 * time.Millisecond }},
		{"request timeout", &macronode.Binding{}, func(l *Limits) { l.RequestTimeout = 150 * time.Millisecond }},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := make(chan error, 1)
			r := start(t, reads(c.binding, seen), options{limits: c.limits})
			conn, br := r.raw("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
			resp, body := r.answer(br, "PUT")
			if err := <-seen; macronode.KindOf(err) != macronode.Timeout || resp.StatusCode != 408 || !resp.Close || problem(t, body).Code != "timeout" {
				t.Errorf("%v: %d %s", err, resp.StatusCode, body)
			}
			closedWithin(t, conn, 5*time.Second)
		})
		t.Run(c.name+"/h2", func(t *testing.T) {
			seen := make(chan error, 1)
			r := start(t, reads(c.binding, seen), options{limits: c.limits, tls: conf})
			pr, pw := io.Pipe()
			defer pw.Close()
			go pw.Write([]byte("abc"))
			resp, err := h2client(t, pool).Post("https://"+r.addr+"/", "", pr)
			if err := <-seen; macronode.KindOf(err) != macronode.Timeout {
				t.Errorf("the handler saw %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if resp.Body.Close(); resp.StatusCode != 408 {
				t.Errorf("%d", resp.StatusCode)
			}
		})
	}
}

// A body that trickles, but never stalls, arrives whole on a streaming route.
func TestTricklingBodyIsNotStalled(t *testing.T) {
	seen := make(chan error, 1)
	got := make(chan int, 100)
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		c.Binding = &macronode.Binding{Streaming: true}
		b := make([]byte, 1)
		for {
			n, err := c.Body.Read(b)
			if got <- n; err != nil {
				seen <- err
				return send(&macronode.Reply{})
			}
		}
	}, options{limits: func(l *Limits) { l.StallTimeout, l.RequestTimeout = time.Second, time.Millisecond }})
	c, _ := r.raw("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n")
	for range 20 {
		c.Write([]byte("x"))
		<-got
	}
	if err := <-seen; err != io.EOF {
		t.Error(err)
	}
}

func TestTruncatedUpload(t *testing.T) {
	for _, request := range []string{
		"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
		"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	} {
		seen := make(chan error, 1)
		r := start(t, reads(&macronode.Binding{Streaming: true}, seen), options{})
		c, _ := r.raw(request)
		c.Close()
		if err := <-seen; macronode.KindOf(err) != macronode.ClientGone {
			t.Errorf("%.40q: the handler saw %v", request, err)
		}
	}
	seen := make(chan error, 1)
	conf, pool := serverTLS(t)
	r := start(t, reads(&macronode.Binding{Streaming: true}, seen), options{tls: conf})
	pr, pw := io.Pipe()
	go func() {
		pw.Write([]byte("abc"))
		pw.CloseWithError(errors.New("changed my mind"))
	}()
	if resp, err := h2client(t, pool).Post("https://"+r.addr+"/", "", pr); err == nil {
		resp.Body.Close()
	}
	if err := <-seen; macronode.KindOf(err) != macronode.ClientGone {
		t.Errorf("h2: the handler saw %v", err)
	}
}

// endlessStream writes until it cannot, and says why.
func endlessStream(seen chan<- error) macronode.Stream {
	return streamFunc(func(w io.Writer) (n int64, err error) {
		b := make([]byte, 64<<10)
		for err == nil {
			var m int
			m, err = w.Write(b)
			n += int64(m)
		}
		seen <- err
		return n, err
	})
}

func TestSlowReader(t *testing.T) {
	conf, pool := serverTLS(t)
	short := func(l *Limits) { l.StallTimeout = 200 * time.Millisecond }
	seen := make(chan error, 1)
	serve := func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		c.Binding = &macronode.Binding{Streaming: true}
		return send(&macronode.Reply{Stream: endlessStream(seen), Length: -1})
	}
	t.Run("h1", func(t *testing.T) {
		r := start(t, serve, options{limits: short})
		r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if err := <-seen; macronode.KindOf(err) != macronode.ClientGone {
			t.Error(err)
		}
	})
	t.Run("h2", func(t *testing.T) {
		r := start(t, serve, options{limits: short, tls: conf})
		resp, err := h2client(t, pool).Get("https://" + r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := <-seen; macronode.KindOf(err) != macronode.ClientGone {
			t.Error(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("a clean end")
		}
	})
	t.Run("moving, but beyond the request timeout", func(t *testing.T) {
		r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
			c.Binding = &macronode.Binding{}
			return send(&macronode.Reply{Stream: endlessStream(seen), Length: -1})
		}, options{limits: func(l *Limits) { l.StallTimeout, l.RequestTimeout = 300*time.Millisecond, 10*time.Millisecond }})
		c, _ := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		go io.Copy(io.Discard, c)
		if err := <-seen; macronode.KindOf(err) != macronode.ClientGone {
			t.Error(err)
		}
	})
}

// A stream that is silent for longer than the stall timeout goes on, on both
// versions: only an operation in progress can stall.
func TestSilentStreamGoesOn(t *testing.T) {
	conf, pool := serverTLS(t)
	for name, o := range map[string]options{"h1": {}, "h2": {tls: conf}} {
		t.Run(name, func(t *testing.T) {
			const stall = 50 * time.Millisecond
			o.limits = func(l *Limits) { l.StallTimeout = stall }
			r := start(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
				c.Binding = &macronode.Binding{LongRunning: true}
				return send(&macronode.Reply{ContentType: "text/event-stream", Length: -1, Stream: streamFunc(func(w io.Writer) (int64, error) {
					for range 3 {
						if _, err := io.WriteString(w, "data: x\n\n"); err != nil {
							return 0, err
						}
						if err := w.(macronode.Flusher).Flush(); err != nil {
							return 0, err
						}
						select {
						case <-time.After(3 * stall):
						case <-ctx.Done():
							return 0, ctx.Err()
						}
					}
					return 0, nil
				})})
			}, o)
			client, url := http.DefaultClient, "http://"+r.addr
			if o.tls != nil {
				client, url = h2client(t, pool), "https://"+r.addr
			}
			resp, err := client.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			one := make([]byte, 9)
			if _, err := io.ReadFull(resp.Body, one); err != nil || string(one) != "data: x\n\n" {
				t.Fatalf("the first event was not flushed: %q, %v", one, err)
			}
			if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 18 {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

func TestExpectContinue(t *testing.T) {
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		if c.Path == "/refuse" {
			return macronode.Errorf(macronode.Denied, "no")
		}
		b, err := io.ReadAll(c.Body)
		if err != nil {
			return err
		}
		return send(&macronode.Reply{Body: b})
	}, options{})
	c, br := r.raw("PUT /refuse HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
	if line, err := br.Peek(12); err != nil || string(line) != "HTTP/1.1 403" {
		t.Errorf("the refusal waits for the body: %q, %v", line, err)
	}
	r.answer(br, "PUT")
	closedWithin(t, c, 5*time.Second)

	c, br = r.raw("PUT /take HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	line, err := br.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q, %v", line, err)
	}
	br.ReadString('\n')
	c.Write([]byte("body"))
	if resp, body := r.answer(br, "PUT"); resp.StatusCode != 200 || body != "body" || resp.Close {
		t.Errorf("%d %q, close %v", resp.StatusCode, body, resp.Close)
	}
	if resp, _ := r.do("PUT / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\nContent-Length: 4\r\n\r\nbody"); resp.StatusCode != 417 {
		t.Errorf("an unknown expectation: %d", resp.StatusCode)
	}
}

// A refusal does not wait for the body. Where the rest is small the connection
// goes on, and the rest is never taken for a request; where it is large or does
// not come, the connection ends.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	r := start(t, func(_ context.Context, c *macronode.Call, _ macronode.Send) error {
		return macronode.Errorf(macronode.Denied, "%s", c.Path)
	}, options{})
	refused := func(t *testing.T, resp *http.Response, body, path string, ends bool) {
		t.Helper()
		if resp.StatusCode != 403 || problem(t, body).Detail != path || resp.Close != ends {
			t.Errorf("%d %s, close %v", resp.StatusCode, body, resp.Close)
		}
	}
	t.Run("small", func(t *testing.T) {
		c, br := r.raw("PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 31\r\n\r\n")
		resp, body := r.answer(br, "PUT") // before any of the body was sent
		refused(t, resp, body, "/1", false)
		io.WriteString(c, "GET /evil HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
		resp, body = r.answer(br, "GET")
		refused(t, resp, body, "/2", false)
	})
	t.Run("small, and never sent", func(t *testing.T) {
		c, br := r.raw("PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 31\r\n\r\nGET /evil HTTP/1.1\r\n")
		resp, body := r.answer(br, "PUT")
		refused(t, resp, body, "/1", false)
		if b := closedWithin(t, c, 10*time.Second); len(b) != 0 {
			t.Errorf("the rest was taken for a request: %q", b)
		}
	})
	t.Run("large", func(t *testing.T) {
		n := 3 << 20
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n))
		if b := closedWithin(t, c, 10*time.Second); !bytes.HasPrefix(b, []byte("HTTP/1.1 403")) || !bytes.Contains(b, []byte("Connection: close")) {
			t.Errorf("%q", b)
		}
	})
	t.Run("chunked", func(t *testing.T) {
		resp, body := r.do("PUT /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
		refused(t, resp, body, "/1", true)
	})
}

func TestClientGoneCancels(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	r := start(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
		close(entered)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}, options{})
	c, _ := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	c.Close()
	<-ended
}

func TestTrustedProxies(t *testing.T) {
	got := make(chan macronode.Peer, 1)
	serve := func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		got <- c.Peer
		return send(&macronode.Reply{})
	}
	trusting := start(t, serve, options{rules: func(r *listen.Rules) {
		r.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	}})
	wary := start(t, serve, options{})
	for _, c := range []struct{ header, want string }{
		{"", "127.0.0.1"},
		{"X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.1.1", "203.0.113.9"},
		{"Forwarded: for=6.6.6.6, for=\"[2001:db8::1]:99\";proto=https", "2001:db8::1"},
	} {
		request := "GET / HTTP/1.1\r\nHost: h\r\n" + c.header + "\r\n\r\n"
		if c.header == "" {
			request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
		}
		trusting.do(request)
		if p := <-got; p.Addr.String() != c.want || !p.Trusted || !p.Loopback || !p.Secure() {
			t.Errorf("%s: %+v", c.header, p)
		}
		wary.do(request)
		if p := <-got; p.Addr.String() != "127.0.0.1" || p.Trusted {
			t.Errorf("%s from a stranger was believed: %+v", c.header, p)
		}
	}
	resp, _ := trusting.do("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=2.2.2.2\r\n\r\n")
	if resp.StatusCode != 400 {
		t.Errorf("headers that contradict each other: %d", resp.StatusCode)
	}
}

func TestCORS(t *testing.T) {
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		if c.Method == "OPTIONS" {
			return macronode.Errorf(macronode.MethodNotAllowed, "")
		}
		return send(&macronode.Reply{Header: macronode.Header{"Vary": {"Accept"}}})
	}, options{limits: func(l *Limits) { l.CORSOrigins = []string{"https://app.example"} }})
	preflight := "OPTIONS /o HTTP/1.1\r\nHost: h\r\nAccess-Control-Request-Method: PUT\r\nOrigin: "
	resp, _ := r.do(preflight + "https://app.example\r\n\r\n")
	if resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example" ||
		!strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	for _, origin := range []string{"https://evil.example", "null", "https://app.example.evil.example", "http://app.example"} {
		resp, _ := r.do(preflight + origin + "\r\n\r\n")
		if resp.StatusCode != 405 || resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("Vary") != "Origin" {
			t.Errorf("%s: %d %v", origin, resp.StatusCode, resp.Header)
		}
	}
	resp, _ = r.do("GET /o HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example\r\n\r\n")
	if resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example" || len(resp.Header.Values("Vary")) != 2 ||
		resp.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v", resp.Header)
	}
}

func TestLimitsAreChecked(t *testing.T) {
	if err := new(Limits).validate(); err == nil {
		t.Error("empty limits were taken")
	}
	for _, change := range []func(*Limits){
		func(l *Limits) { l.MaxFrameBytes = macronode.MaxFrameBytes + 1 },
		func(l *Limits) { l.StallTimeout = 0 },
		func(l *Limits) { l.CORSOrigins = []string{"*"} },
		func(l *Limits) { l.CORSOrigins = []string{"null"} },
		func(l *Limits) { l.CORSOrigins = []string{"https://a.example/"} },
		func(l *Limits) { l.CORSOrigins = []string{""} },
	} {
		l := testLimits()
		if change(&l); l.validate() == nil {
			t.Errorf("%+v was taken", l)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty config was taken")
	}
}

func TestErrorLogIsRedacted(t *testing.T) {
	var out bytes.Buffer
	l := newErrorLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	l.Print("http: TLS handshake error from 203.0.113.77:55555: EOF")
	l.Print("http: panic serving [2001:db8:1:2:3:4:5:6]:80: x")
	l.Print("read tcp 127.0.0.1:8080->198.51.100.9:1: read: connection reset by peer")
	for _, leak := range []string{"113.77", "3:4:5:6", "100.9"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%s stands in the log: %s", leak, out.String())
		}
	}
	for _, kept := range []string{"203.0.113.0/24", "2001:db8:1:2::/64", "connection reset", "level=DEBUG"} {
		if !strings.Contains(out.String(), kept) {
			t.Errorf("%s is missing: %s", kept, out.String())
		}
	}
}
