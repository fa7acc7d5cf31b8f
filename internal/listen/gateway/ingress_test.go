// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
)

// callFrame is one whole call.
func callFrame(t testing.TB, flags oap.Flags, h oap.RequestHead, body []byte) []byte {
	t.Helper()
	payload, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload = append(payload, body...)
	if flags&oap.COMP != 0 {
		z, err := oap.NewCompressor(1)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		var ok bool
		if payload, ok = z.Compress(nil, payload); !ok {
			t.Fatal("not worth compressing")
		}
	}
	f := oap.Open(&oap.Header{App: 1, Tenant: macronode.TenantID{7}, Corr: 5}, oap.END|flags, []byte("capability"), payload)
	b, err := oap.Append(nil, &f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func getHead() oap.RequestHead {
	return oap.RequestHead{Op: "object.get", Args: []macronode.Arg{{Name: "addr", Value: "x"}}, Length: oap.UnknownLength}
}

// framed is what came back over ingress.
type framed struct {
	frames []oap.Frame
	head   oap.AnswerHead
	body   []byte
}

func (f *framed) last() *oap.Frame { return &f.frames[len(f.frames)-1] }

// post sends b and reads the frames of the answer, whose status must be 200.
func (r *rig) post(b []byte) framed {
	r.t.Helper()
	resp, text := r.do(fmt.Sprintf("POST /ingress HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(b), b))
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != IngressType || resp.Header.Get("Cache-Control") != "no-store" {
		r.t.Fatalf("%d %v %.200s", resp.StatusCode, resp.Header, text)
	}
	return cutFrames(r.t, []byte(text))
}

func cutFrames(t testing.TB, b []byte) framed {
	t.Helper()
	var got framed
	for len(b) > 0 {
		f, n, err := oap.Cut(b, 0)
		if err != nil || n == 0 {
			t.Fatalf("frame %d: %v", len(got.frames), err)
		}
		if f.Flags&^oap.END != oap.RESP || f.Corr != 5 || f.App != 1 || f.Tenant != (macronode.TenantID{7}) {
			t.Fatalf("frame %d: %+v", len(got.frames), f.Header)
		}
		if (f.Flags&oap.END != 0) != (n == len(b)) {
			t.Fatalf("frame %d of %d more bytes: %v", len(got.frames), len(b)-n, f.Flags)
		}
		got.frames = append(got.frames, f)
		b = b[n:]
		payload := f.Payload
		if f.IsRefusal() {
			continue
		}
		if len(got.frames) == 1 {
			var err error
			var head int
			if got.head, head, err = oap.ParseAnswerHead(payload); err != nil {
				t.Fatal(err)
			}
			payload = payload[head:]
		}
		if f.Code != got.head.Code || len(payload) > 64<<10 {
			t.Fatalf("frame %d: code %d, %d bytes", len(got.frames)-1, f.Code, len(payload))
		}
		got.body = append(got.body, payload...)
	}
	if len(got.frames) == 0 {
		t.Fatal("no frame")
	}
	return got
}

func TestIngressMakesTheCall(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	body := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		got, err := io.ReadAll(c.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if c.Wire != macronode.WireOAP || c.Op != "object.put" || c.AppID != 1 || c.Arg("addr") != "x" || string(c.Token) != "capability" ||
			c.ClaimedTenant != (macronode.TenantID{7}) || c.IdempotencyKey != "k" || c.TraceParent != trace || c.CorrID != "mine" ||
			c.Header.Get("Content-Type") != "a/b" || c.Length != int64(len(body)) || c.Deadline.Sub(c.Received) != time.Minute ||
			!c.Peer.Loopback || c.Method != "" || c.Path != "" {
			t.Errorf("%+v", c)
		}
		return send(&macronode.Reply{Status: 201, ContentType: "application/json", Header: macronode.Header{"Location": {"/o/x"}}, Body: []byte("{}")})
	}, options{})
	h := oap.RequestHead{Op: "object.put", Args: []macronode.Arg{{Name: "addr", Value: "x"}}, Length: int64(len(body)), IdempotencyKey: "k",
		DeadlineMS: 60_000, TraceParent: trace, Headers: macronode.Header{"Content-Type": {"a/b"}, "X-Corr-Id": {"mine"}}}
	for _, flags := range []oap.Flags{0, oap.ACKREQ, oap.APPE2E} {
		got := r.post(callFrame(t, flags, h, body))
		if len(got.frames) != 1 || got.head.Code != 201 || got.head.Length != 2 || string(got.body) != "{}" ||
			got.head.Headers.Get("Location") != "/o/x" || got.head.Headers.Get("Content-Type") != "application/json" || got.head.Headers.Get("X-Corr-Id") != "mine" {
			t.Errorf("%+v %q", got.head, got.body)
		}
	}
	// The same in chunks of HTTP, and without a length in the head.
	h.Length = oap.UnknownLength
	b := callFrame(t, 0, h, body)
	resp, text := r.do(fmt.Sprintf("POST /ingress HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", 50, b[:50], len(b)-50, b[50:]))
	if got := cutFrames(t, []byte(text)); resp.StatusCode != 200 || got.head.Code != 201 || resp.Header.Get("X-Corr-Id") != "mine" {
		t.Errorf("%d %+v", resp.StatusCode, got.head)
	}
}

// Compressed frames are calls like others; what expands too far is not.
func TestIngressCompressed(t *testing.T) {
	var words strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&words, "line %d of many\n", i*7919)
	}
	body := []byte(words.String())
	enter, leave := make(chan struct{}, maxExpanded), make(chan struct{})
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		if got, err := io.ReadAll(c.Body); err != nil || !bytes.Equal(got, body) || c.Length != int64(len(body)) {
			t.Errorf("%d bytes of %d, %v", len(got), c.Length, err)
		}
		enter <- struct{}{}
		<-leave
		return send(&macronode.Reply{Status: 204})
	}, options{})
	h := oap.RequestHead{Op: "object.post", Length: int64(len(body))}
	b := callFrame(t, oap.COMP, h, body)
	if len(b) >= len(body) {
		t.Fatalf("%d bytes in a frame of %d", len(body), len(b))
	}
	answers := make(chan framed, maxExpanded)
	for range maxExpanded {
		go func() { answers <- r.post(b) }()
	}
	for range maxExpanded {
		<-enter
	}
	// Each holds what it expanded to: there is a bound on their number.
	if got := r.post(b); got.last().Code != 503 || problem(t, string(got.last().Payload)).Code != "overload" {
		t.Errorf("one too many: %+v", got.last().Header)
	}
	close(leave)
	for range maxExpanded {
		if got := <-answers; got.head.Code != 204 || len(got.body) != 0 || got.head.Length != oap.UnknownLength {
			t.Errorf("%+v", got.head)
		}
	}
	if got := r.post(b); got.head.Code != 204 {
		t.Errorf("places are not given back: %+v", got.last().Header)
	}
	bomb := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}
	f := oap.Open(&oap.Header{App: 1, Corr: 5}, oap.END|oap.COMP, nil, bomb)
	raw, err := oap.Append(nil, &f)
	if err != nil {
		t.Fatal(err)
	}
	resp, text := r.do(fmt.Sprintf("POST /ingress HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(raw), raw))
	if resp.StatusCode != 413 || problem(t, text).Code != "decompress" {
		t.Errorf("a bomb: %d %s", resp.StatusCode, text)
	}
	if len(r.svc.expanded) != 0 {
		t.Errorf("%d places are held", len(r.svc.expanded))
	}
}

// An answer that is a stream comes in several frames; one that fails says so,
// before its head with its own code, behind it with 502.
func TestIngressStreams(t *testing.T) {
	data := bytes.Repeat([]byte("stream of bytes "), 20_000) // 320 000
	boom := macronode.Wrap(macronode.Integrity, "damaged", errors.New("secret"))
	var reply func() *macronode.Reply
	r := start(t, func(_ context.Context, _ *macronode.Call, send macronode.Send) error { return send(reply()) }, options{})
	whole := func(n int, size int, err error) func() *macronode.Reply {
		return func() *macronode.Reply {
			return &macronode.Reply{Length: int64(len(data)), Stream: streamFunc(func(w io.Writer) (int64, error) {
				for rest := data[:n]; len(rest) > 0; rest = rest[min(size, len(rest)):] {
					if _, err := w.Write(rest[:min(size, len(rest))]); err != nil {
						return 0, err
					}
				}
				return int64(n), err
			})}
		}
	}
	b := callFrame(t, 0, getHead(), nil)
	for _, size := range []int{1000, 40_000, len(data)} {
		reply = whole(len(data), size, nil)
		got := r.post(b)
		if got.head.Code != 200 || got.head.Length != int64(len(data)) || !bytes.Equal(got.body, data) || len(got.frames) < 5 {
			t.Errorf("in steps of %d: %+v, %d bytes in %d frames", size, got.head, len(got.body), len(got.frames))
		}
	}
	reply = whole(0, 1, boom)
	if got := r.post(b); len(got.frames) != 1 || got.last().Code != 502 || problem(t, string(got.last().Payload)).Code != "integrity" {
		t.Errorf("before the head: %+v", got.last().Header)
	}
	reply = whole(0, 1, macronode.Errorf(macronode.NotFound, ""))
	if got := r.post(b); len(got.frames) != 1 || got.last().Code != 404 {
		t.Errorf("before the head: %+v", got.last().Header)
	}
	for _, fail := range []error{boom, macronode.Errorf(macronode.NotFound, ""), nil} { // nil: shorter than announced
		reply = whole(200_000, 40_000, fail)
		got := r.post(b)
		if len(got.frames) < 3 || got.head.Code != 200 || got.last().Code != 502 || !bytes.Equal(got.body, data[:len(got.body)]) ||
			problem(t, string(got.last().Payload)).Status != 502 || bytes.Contains(got.last().Payload, []byte("secret")) {
			t.Errorf("behind the head, %v: %+v in %d frames", fail, got.last().Header, len(got.frames))
		}
	}
}

// Events leave as they happen.
func TestIngressFlushes(t *testing.T) {
	seen := make(chan struct{})
	r := start(t, func(_ context.Context, _ *macronode.Call, send macronode.Send) error {
		return send(&macronode.Reply{Length: -1, Stream: streamFunc(func(w io.Writer) (int64, error) {
			for _, s := range []string{"", "event"} {
				if _, err := io.WriteString(w, s); err != nil {
					return 0, err
				}
				if err := w.(macronode.Flusher).Flush(); err != nil {
					return 0, err
				}
				<-seen
			}
			return 5, nil
		})})
	}, options{})
	b := callFrame(t, 0, getHead(), nil)
	_, br := r.raw(fmt.Sprintf("POST /ingress HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(b), b))
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	frames := oap.NewReader(resp.Body, 0)
	f, err := frames.Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, n, err := oap.ParseAnswerHead(f.Payload); err != nil || n != len(f.Payload) || f.Flags&oap.END != 0 {
		t.Errorf("the head: %+v, %v", f.Header, err)
	}
	seen <- struct{}{}
	if f, err = frames.Next(); err != nil || string(f.Payload) != "event" || f.Flags&oap.END != 0 {
		t.Errorf("the event: %+v, %v", f.Header, err)
	}
	seen <- struct{}{}
	if f, err = frames.Next(); err != nil || len(f.Payload) != 0 || f.Flags&oap.END == 0 {
		t.Errorf("the end: %+v, %v", f.Header, err)
	}
}

// Faults of the frame are faults of the request; faults of the call are frames.
func TestIngressRefusals(t *testing.T) {
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		if c.Body != nil {
			if _, err := io.Copy(io.Discard, c.Body); err != nil {
				return err
			}
		}
		return send(&macronode.Reply{Body: []byte("served")})
	}, options{limits: func(l *Limits) { l.MaxFrameBytes = 100_000 }})
	good := callFrame(t, 0, getHead(), []byte("abc"))
	edit := func(f func(b []byte) []byte) string { return string(f(bytes.Clone(good))) }
	length := func(s string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(s), s) }
	chunked := func(s string) string {
		return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(s), s)
	}
	h := oap.RequestHead{Op: "object.put", Length: 100_001}
	for _, c := range []struct {
		name, request string
		status        int // of HTTP
		code          uint16
		problem       string
	}{
		{"good", length(string(good)), 200, 200, ""},
		{"good, chunked", chunked(string(good)), 200, 200, ""},
		{"good, long, chunked", chunked(string(callFrame(t, 0, getHead(), make([]byte, 60_000)))), 200, 200, ""},
		{"a frame over the limit", length(string(callFrame(t, 0, h, make([]byte, 100_001)))), 413, 0, "too_large"},
		{"the same, chunked", chunked(string(callFrame(t, 0, h, make([]byte, 100_001)))), 413, 0, "too_large"},
		{"len over the limit", length(edit(func(b []byte) []byte { b[1] = 0xff; return b })), 413, 0, "too_large"},
		{"len shorter than the body", length(edit(func(b []byte) []byte { b[3]--; return b })), 400, 0, "malformed"},
		{"len shorter than the body, chunked", chunked(edit(func(b []byte) []byte { b[3]--; return b })), 400, 0, "malformed"},
		{"len longer than the body", length(edit(func(b []byte) []byte { b[3]++; return b })), 400, 0, "malformed"},
		{"len longer than the body, chunked", chunked(edit(func(b []byte) []byte { b[3]++; return b })), 400, 0, "malformed"},
		{"len 0", length(edit(func(b []byte) []byte { clear(b[:4]); return b })), 400, 0, "malformed"},
		{"two frames", length(string(good) + string(good)), 400, 0, "malformed"},
		{"two frames, chunked", chunked(string(good) + string(good)), 400, 0, "malformed"},
		{"version 2", length(edit(func(b []byte) []byte { b[5] = 2; return b })), 400, 0, "malformed"},
		{"a reserved flag", length(edit(func(b []byte) []byte { b[6] = 1; return b })), 400, 0, "malformed"},
		{"no END", length(edit(func(b []byte) []byte { b[7] &^= byte(oap.END); return b })), 400, 0, "malformed"},
		{"an answer", length(edit(func(b []byte) []byte { b[7] ^= byte(oap.REQ | oap.RESP); return b })), 400, 0, "malformed"},
		{"a code", length(edit(func(b []byte) []byte { b[9] = 1; return b })), 400, 0, "malformed"},
		{"no stream", length(edit(func(b []byte) []byte { clear(b[30:38]); return b })), 400, 0, "malformed"},
		{"cap beyond the frame", length(edit(func(b []byte) []byte { b[28] = 0xff; return b })), 400, 0, "malformed"},
		{"COMP that is no zstd", length(edit(func(b []byte) []byte { b[7] |= byte(oap.COMP); return b })), 400, 0, "malformed"},
		{"no head", length(edit(func(b []byte) []byte { b[48] = 0x01; return b })), 200, 400, "malformed"},
		{"a head that breaks off", length(edit(func(b []byte) []byte { b[3] = 50; return b[:50] })), 200, 400, "malformed"},
		{"Authorization in the head", length(string(callFrame(t, 0, oap.RequestHead{Op: "x", Headers: macronode.Header{"Authorization": {"x"}}}, nil))), 200, 400, "malformed"},
		{"another length in the head", length(string(callFrame(t, 0, oap.RequestHead{Op: "x", Length: 2}, []byte("abc")))), 200, 400, "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, text := r.do("POST /ingress HTTP/1.1\r\nHost: h\r\n" + c.request)
			if resp.StatusCode != c.status {
				t.Fatalf("%d %.300s, want %d", resp.StatusCode, text, c.status)
			}
			if c.status != 200 {
				if got := problem(t, text).Code; got != c.problem {
					t.Errorf("%s, want %s", got, c.problem)
				}
				return
			}
			f, n, err := oap.Cut([]byte(text), 0)
			if err != nil || n != len(text) || f.Code != c.code || f.Corr != 5 {
				t.Fatalf("%+v, %d of %d bytes, %v", f.Header, n, len(text), err)
			}
			if c.problem != "" {
				if p := problem(t, string(f.Payload)); !f.IsRefusal() || p.Code != c.problem || p.CorrID != resp.Header.Get("X-Corr-Id") {
					t.Errorf("%+v, want %s", p, c.problem)
				}
			}
		})
	}
	// What follows a long frame shows only when its end is read.
	long := string(callFrame(t, 0, getHead(), make([]byte, 50_000)))
	resp, text := r.do("POST /ingress HTTP/1.1\r\nHost: h\r\n" + chunked(long+"x"))
	if f, _, err := oap.Cut([]byte(text), 0); resp.StatusCode != 200 || err != nil || f.Code != 400 {
		t.Errorf("a byte behind a long frame: %d, %+v", resp.StatusCode, f.Header)
	}
	resp, text = r.do("POST /ingress HTTP/1.1\r\nHost: h\r\n" + chunked(long[:40_000]))
	if f, _, err := oap.Cut([]byte(text), 0); resp.StatusCode != 200 || err != nil || f.Code != 400 {
		t.Errorf("a long frame that breaks off: %d, %+v", resp.StatusCode, f.Header)
	}
}

// Operators' operations stay where operators' routes are.
func TestIngressHidesAdmin(t *testing.T) {
	served := func(_ context.Context, _ *macronode.Call, send macronode.Send) error { return send(&macronode.Reply{}) }
	r := start(t, served, options{limits: func(l *Limits) { l.SeparateAdmin = true }})
	r.svc.conf.Admin = func(op macronode.Op) bool { return op == "admin.status" }
	for op, code := range map[macronode.Op]uint16{"admin.status": 404, "object.get": 200} {
		if got := r.post(callFrame(t, 0, oap.RequestHead{Op: op}, nil)); got.last().Code != code {
			t.Errorf("%s: %d, want %d", op, got.last().Code, code)
		}
	}
}

func TestIngressOverHTTP2(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 30_000)
	conf, pool := serverTLS(t)
	r := start(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
		got, err := io.ReadAll(c.Body)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		return send(&macronode.Reply{Length: int64(len(data)), Stream: streamFunc(func(w io.Writer) (int64, error) {
			n, err := w.Write(data)
			return int64(n), err
		})})
	}, options{tls: conf})
	hc := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "node"}}}
	defer hc.CloseIdleConnections()
	resp, err := hc.Post("https://"+r.addr+"/ingress", IngressType, bytes.NewReader(callFrame(t, 0, getHead(), data)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if got := cutFrames(t, text); err != nil || resp.ProtoMajor != 2 || !bytes.Equal(got.body, data) {
		t.Errorf("%s, %d bytes, %v", resp.Proto, len(got.body), err)
	}
}
