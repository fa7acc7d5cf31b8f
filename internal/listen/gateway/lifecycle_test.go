// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
)

func TestHTTP2(t *testing.T) {
	conf, pool := serverTLS(t)
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		b, err := io.ReadAll(c.Body)
		if err != nil {
			return err
		}
		if c.Path == "/no" {
			return macronode.Errorf(macronode.Denied, "no")
		}
		if !c.Peer.TLS || !c.Peer.Secure() {
			t.Errorf("%+v", c.Peer)
		}
		return send(&macronode.Reply{Body: b, ContentType: "x/y"})
	}, options{tls: conf})
	client := h2client(t, pool)
	resp, err := client.Post("https://"+r.addr+"/", "", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if resp.Body.Close(); err != nil || resp.ProtoMajor != 2 || string(b) != "body" || resp.ContentLength != 4 || resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("%s %q %v", resp.Proto, b, err)
	}
	resp, err = client.Post("https://"+r.addr+"/no", "", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 403 || resp.Header.Get("Content-Type") != ProblemType {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	// Plain HTTP on the same port is told so.
	if resp, body := r.do("GET / HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 400 || !strings.Contains(problem(t, body).Detail, "TLS") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// A crash of the service loses no connection that had not been taken, and the
// port stays bound throughout.
func TestServeAgain(t *testing.T) {
	r := start(t, hello, options{})
	if resp, _ := r.do("GET / HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	if err := r.svc.Ready(context.Background()); err != nil {
		t.Error(err)
	}
	if err := r.svc.Serve(context.Background()); err == nil {
		t.Error("Serve ran twice at a time")
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	if err := r.svc.Ready(context.Background()); err == nil {
		t.Error("ready while Serve does not run")
	}
	_, br := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n") // nobody accepts now
	r.serve()
	if resp, body := r.answer(br, "GET"); resp.StatusCode != 200 || body != "hello" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

// Ending Serve cuts off what is in flight and waits for it.
func TestServeEndsAll(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	r := start(t, func(ctx context.Context, _ *macronode.Call, _ macronode.Send) error {
		close(entered)
		<-ctx.Done()
		close(left)
		return ctx.Err()
	}, options{})
	c, _ := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	r.raw("GET / HT") // and one in the middle of its header
	<-entered
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	select {
	case <-left:
	default:
		t.Error("Serve returned before the handler")
	}
	closedWithin(t, c, 5*time.Second)
	r.serve()
}

// slowly answers "/slow" once it may.
func slowly(entered, release chan struct{}) serveFunc {
	return func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
		if c.Path == "/slow" {
			close(entered)
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return send(&macronode.Reply{Body: []byte("done")})
	}
}

func TestShutdown(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := start(t, slowly(entered, release), options{})
	_, slow := r.raw("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	idle, br := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	r.answer(br, "GET")
	fresh, _ := r.raw("")
	began := time.Now()
	r.set.Close(context.Background()) // hands out what it has accepted
	ended := make(chan error, 1)
	go func() { ended <- r.svc.Shutdown(context.Background()) }()
	closedWithin(t, idle, 5*time.Second)
	closedWithin(t, fresh, 3*time.Second)
	close(release)
	if resp, body := r.answer(slow, "GET"); resp.StatusCode != 200 || body != "done" {
		t.Errorf("the call in flight: %d %q", resp.StatusCode, body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("it took %v", d)
	}
	if r.svc.Ready(context.Background()) == nil {
		t.Error("ready after Shutdown")
	}
	if err := r.svc.Shutdown(context.Background()); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestShutdownDeadline(t *testing.T) {
	entered := make(chan struct{})
	r := start(t, func(ctx context.Context, _ *macronode.Call, _ macronode.Send) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}, options{})
	c, _ := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.svc.Shutdown(ctx); err == nil {
		t.Error("a cut-off call was not reported")
	}
	closedWithin(t, c, 5*time.Second)
}

func TestLameDuck(t *testing.T) {
	conf, pool := serverTLS(t)
	plain, secure := start(t, hello, options{}), start(t, hello, options{tls: conf})
	client := h2client(t, pool)
	get := func() {
		t.Helper()
		resp, err := client.Get("https://" + secure.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	get()
	for _, svc := range []*Service{plain.svc, secure.svc} {
		svc.SetLameDuck(true)
	}
	if resp, _ := plain.do("GET / HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("%d, close %v", resp.StatusCode, resp.Close)
	}
	get() // GOAWAY, and the next one dials anew
	get()
	plain.svc.SetLameDuck(false)
	if resp, _ := plain.do("GET / HTTP/1.1\r\nHost: h\r\n\r\n"); resp.Close {
		t.Error("still lame after undrain")
	}
}

// New limits hold for new connections; open ones are not dropped.
func TestLimitsChangeLive(t *testing.T) {
	r := start(t, hello, options{})
	old, br := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	r.answer(br, "GET")
	for range 3 {
		l := testLimits()
		l.ReadHeaderTimeout = 200 * time.Millisecond
		l.CORSOrigins = []string{"https://app.example"}
		if err := r.svc.SetLimits(l); err != nil {
			t.Fatal(err)
		}
		if err := r.svc.SetLimits(testLimits()); err != nil {
			t.Fatal(err)
		}
		if err := r.svc.SetLimits(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.svc.SetLimits(Limits{}); err == nil {
		t.Error("empty limits were taken")
	}
	io.WriteString(old, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if resp, _ := r.answer(br, "GET"); resp.StatusCode != 200 || resp.Header.Get("Vary") != "Origin" {
		t.Errorf("on the old connection: %d %v", resp.StatusCode, resp.Header)
	}
	// The server may still be changing hands; in the end the new time holds.
	for {
		c, _ := r.raw("GET / HT")
		began := time.Now()
		if closedWithin(t, c, 10*time.Second); time.Since(began) < 3*time.Second {
			break
		}
	}
}

// Moving to another address leaves open connections and their requests alone.
func TestRebind(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	r := start(t, slowly(entered, release), options{})
	_, slow := r.raw("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	<-entered
	if err := r.set.Apply([]listen.Endpoint{{Name: "bind", Network: "tcp", Addr: "localhost:0", StallTimeout: time.Second}}); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", r.addr); err == nil {
		c.Close()
		t.Error("the old address still answers")
	}
	r.addr = r.set.Addrs()["bind"].String()
	if resp, _ := r.do("GET / HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("the new address: %d", resp.StatusCode)
	}
	close(release)
	if resp, body := r.answer(slow, "GET"); resp.StatusCode != 200 || body != "done" {
		t.Errorf("the call in flight: %d %q", resp.StatusCode, body)
	}
}

func TestPanicInTheWireBreaksOff(t *testing.T) {
	r := start(t, func(context.Context, *macronode.Call, macronode.Send) error { panic("bug") }, options{})
	c, _ := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if b := closedWithin(t, c, 5*time.Second); len(b) != 0 {
		t.Errorf("%q", b)
	}
	if resp, err := http.Get("http://" + r.addr); err == nil {
		resp.Body.Close()
		t.Error("answered")
	}
}

func TestUnix(t *testing.T) {
	got := make(chan macronode.Peer, 1)
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		got <- c.Peer
		return send(&macronode.Reply{})
	}, options{})
	path := t.TempDir() + "/" + strings.Repeat("long-", 20) + "/s"
	if err := mkdir(path); err != nil {
		t.Fatal(err)
	}
	if err := r.set.Apply([]listen.Endpoint{{Name: "admin.sock", Network: "unix", Addr: path, AllowUIDs: []uint32{uid()}, Admin: true, StallTimeout: time.Second}}); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return listen.DialUnix(ctx, path)
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://node/v1/admin/status")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if p := <-got; !p.UDS || p.UID != uid() || !p.Secure() || p.Addr.IsValid() || p.Loopback {
		t.Errorf("%+v", p)
	}
}
