// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/h2guard"
)

// trips is how often a guard has ended something.
func (r *rig) trips(guard string) float64 {
	r.t.Helper()
	var m dto.Metric
	if err := r.svc.conf.Metrics.trips.WithLabelValues(guard).Write(&m); err != nil {
		r.t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: did not come", what)
		}
	}
}

// h2conn is HTTP/2 spoken by hand.
type h2conn struct {
	t *testing.T
	c *tls.Conn
	w *bufio.Writer
}

// Frames and flags that the attacks are made of.
const (
	fData, fHeaders, fPriority, fReset, fSettings, fPing, fGoAway, fWindow, fContinuation = 0, 1, 2, 3, 4, 6, 7, 8, 9
	endStream, endHeaders                                                                 = 1, 4
)

// get is the header block of GET https://node/.
const get = "\x82\x84\x87\x41\x04node"

func (r *rig) h2raw(t *testing.T, pool *x509.CertPool) *h2conn {
	t.Helper()
	h := r.h2from(t, pool, nil)
	if h == nil {
		t.Fatal("no connection")
	}
	return h
}

// h2from connects from an address of this machine; nil: the other end cut it.
func (r *rig) h2from(t *testing.T, pool *x509.CertPool, from net.IP) *h2conn {
	t.Helper()
	raw, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	c := tls.Client(raw, &tls.Config{RootCAs: pool, ServerName: "node", NextProtos: []string{"h2"}})
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if c.Handshake() != nil {
		return nil
	}
	h := &h2conn{t: t, c: c, w: bufio.NewWriterSize(c, 8<<10)}
	h.w.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	h.send(fSettings, 0, 0, "")
	return h
}

// send writes one frame; false: the other end is gone.
func (h *h2conn) send(kind, flags byte, stream uint32, payload string) bool {
	n := len(payload)
	head := binary.BigEndian.AppendUint32([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}, stream)
	h.w.Write(head)
	_, err := h.w.WriteString(payload)
	return err == nil
}

// next reads a frame.
func (h *h2conn) next() (kind, flags byte, stream uint32, payload []byte, err error) {
	var head [9]byte
	if _, err = io.ReadFull(h.c, head[:]); err != nil {
		return
	}
	payload = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	_, err = io.ReadFull(h.c, payload)
	return head[3], head[4], binary.BigEndian.Uint32(head[5:]), payload, err
}

// ended reads on to the connection's end, and returns what GOAWAY said.
func (h *h2conn) ended() (code uint32, why string) {
	h.t.Helper()
	code = 1 << 31
	for {
		kind, _, _, payload, err := h.next()
		var timeout net.Error
		if err != nil {
			if ok := asTimeout(err, &timeout); ok {
				h.t.Fatal("the connection is still open")
			}
			return code, why
		}
		if kind == fGoAway && len(payload) >= 8 {
			code, why = binary.BigEndian.Uint32(payload[4:]), string(payload[8:])
		}
	}
}

func asTimeout(err error, out *net.Error) bool {
	e, ok := err.(net.Error)
	*out = e
	return ok && e.Timeout()
}

// reset reads until the stream is reset and returns the code.
func (h *h2conn) reset(stream uint32) uint32 {
	h.t.Helper()
	for {
		kind, _, on, payload, err := h.next()
		if err != nil {
			h.t.Fatalf("stream %d: %v", stream, err)
		}
		if kind == fReset && on == stream {
			return binary.BigEndian.Uint32(payload)
		}
	}
}

// flood sends until the other end is gone, or the attack is over.
func (h *h2conn) flood(n int, one func(i int) bool) {
	for i := range n {
		if !one(i) {
			return
		}
	}
	h.w.Flush()
}

// TestHTTP2Floods: each attacker is told to calm down and cut off, others are
// served meanwhile, and nothing of the attack is left.
func TestHTTP2Floods(t *testing.T) {
	conf, pool := serverTLS(t)
	for _, c := range []struct {
		guard  h2guard.Flood
		attack func(h *h2conn)
	}{
		{h2guard.Resets, func(h *h2conn) {
			h.flood(20_000, func(i int) bool {
				id := uint32(2*i + 1)
				return h.send(fHeaders, endStream|endHeaders, id, get+"") && h.send(fReset, 0, id, "\x00\x00\x00\x08")
			})
		}},
		{h2guard.Pings, func(h *h2conn) {
			h.flood(100_000, func(int) bool { return h.send(fPing, 0, 0, "12345678") })
		}},
		{h2guard.Settings, func(h *h2conn) {
			h.flood(100_000, func(int) bool { return h.send(fSettings, 0, 0, "\x00\x04\x00\x00\xff\xff") })
		}},
		{h2guard.Priorities, func(h *h2conn) {
			h.flood(100_000, func(i int) bool { return h.send(fPriority, 0, uint32(2*i+1), "\x00\x00\x00\x00\x10") })
		}},
		{h2guard.Windows, func(h *h2conn) {
			h.flood(100_000, func(int) bool { return h.send(fWindow, 0, 0, "\x00\x00\x00\x01") })
		}},
		{h2guard.Empty, func(h *h2conn) {
			h.send(fHeaders, endHeaders, 1, "\x83"+get[1:])
			h.flood(100_000, func(int) bool { return h.send(fData, 0, 1, "") })
		}},
		{h2guard.Unknown, func(h *h2conn) {
			h.flood(100_000, func(int) bool { return h.send(77, 0, 0, "noise") })
		}},
		{h2guard.Continuation, func(h *h2conn) {
			h.send(fHeaders, 0, 1, get)
			h.flood(100_000, func(int) bool { return h.send(fContinuation, 0, 1, "") })
		}},
	} {
		t.Run(string(c.guard), func(t *testing.T) {
			// What a reset leaves of a request is a handler that waits for nobody.
			r := start(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
				if c.Path == "/" && c.Method == "GET" {
					<-ctx.Done()
					return macronode.Wrap(macronode.ClientGone, "", ctx.Err())
				}
				if c.Body != nil {
					io.Copy(io.Discard, c.Body)
				}
				return hello(ctx, c, send)
			}, options{tls: conf})
			before := settled(t, r)
			stop, served := r.bystander(t, pool)
			<-served // one at least
			h := r.h2raw(t, pool)
			done := make(chan struct{})
			go func() { defer close(done); c.attack(h) }()
			code, why := h.ended()
			h.c.Close()
			<-done
			// net/http has a limit of its own for resets that overtake their
			// handlers; it may be the first to speak.
			if code != 0xb || (why != string(c.guard) && c.guard != h2guard.Resets) {
				t.Errorf("ended with %#x %q", code, why)
			}
			eventually(t, "counted", func() bool { return r.trips(string(c.guard)) >= 1 })
			<-served
			stop()
			after := settled(t, r)
			if after.goroutines > before.goroutines+2 || after.heap > before.heap+8<<20 {
				t.Errorf("before %+v, after %+v", before, after)
			}
		})
	}
}

// level is what a gateway uses while it has nothing to do.
type level struct {
	goroutines int
	heap       uint64
}

// settled waits until nothing is in flight.
func settled(t *testing.T, r *rig) level {
	t.Helper()
	eventually(t, "quiet", func() bool {
		r.svc.flight.mu.Lock()
		defer r.svc.flight.mu.Unlock()
		return r.svc.flight.Len() == 0 && r.svc.flight.conns == 0
	})
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return level{runtime.NumGoroutine(), m.HeapAlloc}
}

// bystander asks for something all the while on connections of its own, HTTP/2
// and HTTP/1 in turn; served gets a value for each answer.
func (r *rig) bystander(t *testing.T, pool *x509.CertPool) (stop func(), served <-chan struct{}) {
	ctx, cancel := context.WithCancel(t.Context())
	answers, over := make(chan struct{}), make(chan struct{})
	h1 := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "node"}}}
	clients := []*http.Client{h2client(t, pool), h1}
	go func() {
		defer close(over)
		defer close(answers)
		for i := 0; ctx.Err() == nil; i++ {
			resp, err := clients[i%2].Get("https://" + r.addr + "/other")
			if err != nil {
				t.Errorf("a bystander: %v", err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			if resp.Body.Close(); resp.StatusCode != 200 {
				t.Errorf("a bystander: %s", resp.Status)
			}
			select {
			case answers <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}()
	return func() {
		cancel()
		<-over
		for _, c := range clients {
			c.CloseIdleConnections()
		}
	}, answers
}

// What never becomes whole is cut off on HTTP/2 too.
func TestHTTP2SlowFrames(t *testing.T) {
	conf, pool := serverTLS(t)
	r := start(t, hello, options{tls: conf, limits: func(l *Limits) { l.ReadHeaderTimeout, l.StallTimeout = 150*time.Millisecond, 150*time.Millisecond }})
	for i, attack := range []func(h *h2conn){
		func(h *h2conn) { h.send(fHeaders, 0, 1, get) },
		func(h *h2conn) { h.send(fHeaders, 0, 1, get); h.send(fContinuation, 0, 1, "") },
		func(h *h2conn) { h.w.WriteString("\x00\x00\x08\x06") },
		func(h *h2conn) { h.w.WriteString("\x00\x40\x00\x00\x00\x00\x00\x00\x01abc") },
	} {
		h := r.h2raw(t, pool)
		attack(h)
		h.w.Flush()
		if code, why := h.ended(); code != 0xb || why != string(h2guard.SlowFrame) {
			t.Errorf("%d: %#x %q", i, code, why)
		}
		if n := r.trips(string(h2guard.SlowFrame)); n != float64(i+1) {
			t.Errorf("%v counted", n)
		}
	}
}

// A client that agreed on HTTP/2 is not answered in HTTP/1.
func TestHTTP2Preface(t *testing.T) {
	conf, pool := serverTLS(t)
	r := start(t, hello, options{tls: conf})
	c, err := tls.Dial("tcp", r.addr, &tls.Config{RootCAs: pool, ServerName: "node", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if b := closedWithin(t, c, 10*time.Second); bytes.Contains(b, []byte("HTTP/1")) || r.trips(string(h2guard.Preface)) != 1 {
		t.Errorf("%q", b)
	}
}

// Streams beyond the limit are refused, and those within it are served.
func TestHTTP2StreamLimit(t *testing.T) {
	conf, pool := serverTLS(t)
	release := make(chan struct{})
	entered := make(chan struct{}, 300)
	r := start(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
		entered <- struct{}{}
		<-release
		return hello(ctx, c, send)
	}, options{tls: conf})
	h := r.h2raw(t, pool)
	for i := range 257 {
		h.send(fHeaders, endStream|endHeaders, uint32(2*i+1), get)
	}
	h.w.Flush()
	if code := h.reset(513); code != 7 && code != 1 {
		t.Errorf("stream 257 was reset with %d", code)
	}
	for range 256 {
		<-entered
	}
	if len(entered) > 0 || r.trips(guardH2Streams) != 1 {
		t.Errorf("%d more were let in, %v counted", len(entered), r.trips(guardH2Streams))
	}
	close(release)
	ended := 0
	for ended < 256 {
		_, flags, _, _, err := h.next()
		if err != nil {
			t.Fatal(err)
		}
		if flags&endStream != 0 {
			ended++
		}
	}
}

// A header of many small fields, or of a few that stand for much: HPACK makes
// megabytes of a few bytes, and none of them are kept.
func TestHTTP2HeaderLimits(t *testing.T) {
	conf, pool := serverTLS(t)
	r := start(t, func(context.Context, *macronode.Call, macronode.Send) error {
		t.Error("the call came through")
		return nil
	}, options{tls: conf})
	literal := func(name, value string) string { // not indexed
		return "\x00" + string(rune(len(name))) + name + string(rune(len(value))) + value
	}
	get431 := func(h *h2conn, block string) {
		t.Helper()
		h.send(fHeaders, endStream|endHeaders, 1, block)
		h.w.Flush()
		for {
			kind, _, _, payload, err := h.next()
			if err != nil {
				t.Fatal(err)
			}
			if kind == fHeaders {
				if payload[0] == 0x88 {
					t.Error("the reply is 200")
				}
				return
			}
		}
	}
	get431(r.h2raw(t, pool), get+strings.Repeat(literal("a", "b"), 129))
	if r.trips(guardHeaderFields) != 1 {
		t.Error("too many fields were not counted")
	}
	// One field of 4000 bytes goes into the table (0x40: with indexing), and is
	// named again and again (0xbe: entry 62).
	big := "\x40\x01a\x7f\xa1\x1e" + strings.Repeat("x", 4000)
	get431(r.h2raw(t, pool), get+big+strings.Repeat("\xbe", 9))
	if r.trips(guardHeaderBytes) != 1 {
		t.Error("too large a header was not counted")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	get431(r.h2raw(t, pool), get+big+strings.Repeat("\xbe", 12_000)) // 48 MB
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d bytes were allocated for a header of 48 MB", grown)
	}
	// A table larger than allowed ends the connection.
	h := r.h2raw(t, pool)
	h.send(fHeaders, endStream|endHeaders, 1, "\x3f\xe1\xff\xff\x03"+get)
	h.w.Flush()
	if code, _ := h.ended(); code != 9 {
		t.Errorf("an HPACK table of megabytes: %#x", code)
	}
	if len(r.rejected()) != 2 || r.rejected()[0] != macronode.HeaderTooLarge {
		t.Errorf("reported: %v", r.rejected())
	}
}

// A client may allow a large HPACK table; we do not fill it.
func TestHTTP2ClientTable(t *testing.T) {
	conf, pool := serverTLS(t)
	r := start(t, hello, options{tls: conf})
	h := r.h2raw(t, pool)
	h.send(fSettings, 0, 0, "\x00\x01\xff\xff\xff\xff")
	h.send(fHeaders, endStream|endHeaders, 1, get)
	h.w.Flush()
	for {
		kind, _, _, payload, err := h.next()
		if err != nil {
			t.Fatal(err)
		}
		if kind == fHeaders {
			// A size update, if there is one, stays at 4096: 3f e1 1f.
			if len(payload) > 2 && payload[0]&0xe0 == 0x20 && !bytes.HasPrefix(payload, []byte{0x3f, 0xe1, 0x1f}) {
				t.Errorf("the table was made larger: %x", payload[:4])
			}
			return
		}
	}
}

// Trailers of a request change nothing, whatever they are called, and are bounded.
func TestTrailers(t *testing.T) {
	conf, pool := serverTLS(t)
	got := make(chan *macronode.Call, 1)
	serve := func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
		if _, err := io.Copy(io.Discard, c.Body); err != nil {
			return err
		}
		got <- c
		return send(&macronode.Reply{Status: 200})
	}
	check := func(name string) {
		t.Helper()
		c := <-got
		if c.Header["Idempotency-Key"] != nil || c.IdempotencyKey != "" || len(c.Token) != 0 || c.Header["X-Late"] != nil {
			t.Errorf("%s: a trailer had an effect: %v", name, c.Header)
		}
	}
	r := start(t, serve, options{})
	chunked := "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: Idempotency-Key, X-Late\r\n\r\n1\r\nx\r\n0\r\n"
	resp, _ := r.do(chunked + "Idempotency-Key: late\r\nAuthorization: Bearer ron1_late\r\nX-Late: 1\r\n\r\n")
	if resp.StatusCode != 200 {
		t.Errorf("trailers: %s", resp.Status)
	}
	check("h1")
	for _, trailer := range []string{"X-Late: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", strings.Repeat("X-Late: y\r\n", 10_000) + "\r\n"} {
		resp, body := r.do(chunked + trailer)
		if resp.StatusCode != 400 || problem(t, body).Code != "malformed" || !resp.Close {
			t.Errorf("%d bytes of trailer: %s %s", len(trailer), resp.Status, body)
		}
	}
	r = start(t, serve, options{tls: conf})
	pr, pw := io.Pipe()
	req, err := http.NewRequest("PUT", "https://"+r.addr+"/", pr)
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"Idempotency-Key": nil, "X-Late": nil}
	go func() {
		pw.Write([]byte("x"))
		req.Trailer["Idempotency-Key"], req.Trailer["X-Late"] = []string{"late"}, []string{"1"}
		pw.Close()
	}()
	resp, err = h2client(t, pool).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	check("h2")
}

// Slow clients are counted by what was slow.
func TestSlowIsCounted(t *testing.T) {
	short := func(l *Limits) {
		l.ReadHeaderTimeout, l.StallTimeout, l.IdleTimeout = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	}
	seen := make(chan error, 1)
	r := start(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
		c.Binding = &macronode.Binding{Streaming: true}
		if c.Method == "PUT" {
			_, err := io.Copy(io.Discard, c.Body)
			return err
		}
		if c.Path == "/endless" {
			return send(&macronode.Reply{Stream: endlessStream(seen), Length: -1})
		}
		return hello(ctx, c, send)
	}, options{limits: short})
	c, _ := r.raw("GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ")
	closedWithin(t, c, 10*time.Second)
	eventually(t, "a slow header", func() bool { return r.trips(guardSlowHeader) == 1 })
	c, br := r.raw("GET / HTTP/1.1\r\nHost: h\r\n\r\n") // idle, not slow
	r.answer(br, "GET")
	closedWithin(t, c, 10*time.Second)
	c, _ = r.raw("GET / HTTP/1.1\r\nHo") // gone, not slow
	c.Close()
	eventually(t, "gone", func() bool { r.svc.flight.mu.Lock(); defer r.svc.flight.mu.Unlock(); return r.svc.flight.conns == 0 })
	if n := r.trips(guardSlowHeader); n != 1 {
		t.Errorf("%v slow headers", n)
	}
	c, _ = r.raw("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
	closedWithin(t, c, 10*time.Second)
	if n := r.trips(guardSlowBody); n != 1 {
		t.Errorf("%v slow bodies", n)
	}
	r.raw("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
	<-seen
	if n := r.trips(guardSlowReader); n != 1 {
		t.Errorf("%v slow readers", n)
	}
	conf, pool := serverTLS(t)
	h2 := start(t, r.svc.conf.Server.(serveFunc), options{tls: conf, limits: short})
	resp, err := h2client(t, pool).Get("https://" + h2.addr + "/endless")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-seen
	if n := h2.trips(guardSlowReader); n != 1 {
		t.Errorf("%v slow readers on HTTP/2", n)
	}
}

// An object whose bytes look like net/http's own answer is served as it is.
func TestBodyLooksLikeOwnAnswer(t *testing.T) {
	trap := "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	body := trap + strings.Repeat("x", 64<<10)
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		return send(&macronode.Reply{Length: int64(len(body)), Stream: streamFunc(func(w io.Writer) (int64, error) {
			n, err := io.WriteString(w, body)
			return int64(n), err
		})})
	}, options{})
	_, br := r.raw(strings.Repeat("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 2))
	for range 2 {
		if resp, got := r.answer(br, "GET"); resp.StatusCode != 200 || got != body {
			t.Errorf("%s, %d bytes", resp.Status, len(got))
		}
	}
	if r.trips(guardMalformed) != 0 {
		t.Error("a reply was taken for net/http's own")
	}
}
