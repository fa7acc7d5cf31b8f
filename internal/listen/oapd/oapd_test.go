// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

func TestHelloVector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newService(t, echo, nil)
		k := pipe(t, s, loopback)
		defer k.end()
		raw, err := hex.DecodeString("000000360001000100000000000000000000000000000000000000aa0000000000000000002a7b227561223a2273646b2f302e31227d")
		if err != nil {
			t.Fatal(err)
		}
		k.raw(raw)
		f := k.next()
		if f.Flags != oap.RESP || f.Code != 200 || f.Corr != 42 || f.App != 0 || f.Tenant[15] != 0xaa {
			t.Errorf("%+v", f.Header)
		}
		var got map[string]any
		if err := json.Unmarshal(f.Payload, &got); err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{"max_frame", "max_inflight", "max_streams", "flags_supported", "versions", "transports"} {
			if got[m] == nil {
				t.Errorf("%s is missing: %s", m, f.Payload)
			}
		}
		r, err := oap.ParseHelloReply(f.Payload)
		if err != nil || r.MaxFrame != 1<<20 || r.MaxInflight != 64 || r.MaxStreams != 256 || !slices.Equal(r.Versions, []int{1}) ||
			!slices.Equal(r.Transports, []string{"tcp"}) || !slices.Contains(r.FlagsSupported, "COMP") {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// A stream becomes a call with all that its head and its connection say.
func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen macronode.Call
		s, _, _ := newService(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
			seen = *c
			return echo(ctx, c, send)
		}, nil)
		peer := loopback
		peer.TLS, peer.Subject, peer.CertHash = true, "CN=someone", [32]byte{7}
		m := session(t, s, peer, nil)
		r := call(t, m, oap.RequestHead{
			Op: "object.put", Args: []macronode.Arg{{Name: "addr", Value: "b3:00"}}, Length: 5, IdempotencyKey: "once", DeadlineMS: 1500,
			Headers: macronode.Header{"X-Corr-Id": {"mine"}, "X-Ron-Discharge": {"d1, d2"}, "Range": {"bytes=0-1"}}}, []byte("hello"))
		if r.err != nil || r.code != 200 || string(r.body) != "hello" || r.head.Length != 5 || r.head.Headers.Get("Content-Type") != "text/plain" ||
			r.head.Headers.Get("X-Corr-Id") != "mine" {
			t.Errorf("%+v", r)
		}
		if seen.Wire != macronode.WireOAP || seen.Op != "object.put" || seen.AppID != 1 || seen.Arg("addr") != "b3:00" || seen.Length != 5 ||
			string(seen.Token) != "cap" || seen.ClaimedTenant != (macronode.TenantID{15: 9}) || seen.IdempotencyKey != "once" || seen.CorrID != "mine" ||
			!slices.Equal(seen.Discharges, []string{"d1", "d2"}) || seen.Header.Get("Range") != "bytes=0-1" || seen.Peer != peer ||
			seen.Deadline.Sub(seen.Received) != 1500*time.Millisecond {
			t.Errorf("%+v", seen)
		}
		// Without END in the first frame nobody knows how long the body is.
		st := open(t, m, oap.RequestHead{Length: oap.UnknownLength}, []byte("first "), false)
		if _, err := io.WriteString(st, strings.Repeat("second ", 30_000)); err != nil {
			t.Fatal(err)
		}
		if err := st.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if r := answerOf(st); r.err != nil || len(r.body) != 6+7*30_000 || seen.Length != -1 || seen.CorrID == "" {
			t.Errorf("%d bytes, %v", len(r.body), r.err)
		}
		// With it, that is all there is.
		if r := call(t, m, oap.RequestHead{Length: oap.UnknownLength}, nil); r.err != nil || seen.Length != 0 || seen.Body != nil {
			t.Errorf("%+v, %d", r, seen.Length)
		}
		if in, out := count(t, s.in), count(t, s.out); in != 5+6+7*30_000 || out != in {
			t.Errorf("%v bytes in, %v out", in, out)
		}
	})
}

// However a reply is made, it arrives whole, and one that breaks off never looks so.
func TestReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reply macronode.Reply
		s, _, _ := newService(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
			if m := c.Header.Get("Method"); m != "" {
				c.Binding.Method = m
			}
			r := reply
			return send(&r)
		}, nil)
		m := session(t, s, loopback, nil)
		get := oap.RequestHead{}
		for _, n := range []int{0, 1, 1000, 64 << 10, 64<<10 + 1, 200_000} {
			reply = macronode.Reply{Body: make([]byte, n)}
			if r := call(t, m, get, nil); r.err != nil || len(r.body) != n || r.head.Length != int64(n) {
				t.Errorf("body of %d: %d, %d, %v", n, len(r.body), r.head.Length, r.err)
			}
			for _, step := range []int{100, 20_000, 128 << 10} {
				for _, p := range []pour{{n, step, nil, false}, {n, step, nil, true}} {
					for _, length := range []int64{int64(n), -1} {
						reply = macronode.Reply{Status: 206, Stream: &p, Length: length}
						if r := call(t, m, get, nil); r.err != nil || len(r.body) != n || r.code != 206 || r.head.Length != length {
							t.Errorf("stream of %d by %d, %d announced: %d, %d, %v", n, step, length, len(r.body), r.head.Length, r.err)
						}
					}
				}
			}
		}
		// No body, whatever its length would be.
		for _, c := range []struct {
			reply  macronode.Reply
			method string
			length int64
		}{{macronode.Reply{Status: 204}, "", -1}, {macronode.Reply{Status: 304, Length: -1}, "", -1}, {macronode.Reply{Length: 77}, "HEAD", 77}} {
			reply = c.reply
			h := get
			if c.method != "" {
				h.Headers = macronode.Header{"Method": {c.method}}
			}
			if r := call(t, m, h, nil); r.err != nil || len(r.body) != 0 || r.head.Length != c.length {
				t.Errorf("%+v: %d, %d, %v", c.reply, r.code, r.head.Length, r.err)
			}
		}
		// A reply that is no success is an error frame with its body.
		reply = macronode.Reply{Status: 503, Body: []byte(`{"ready":false}`)}
		if r := call(t, m, get, nil); r.code != 503 || r.problem.Status != 0 || len(r.body) != 0 {
			t.Errorf("%+v", r)
		}
		// What fails before the first byte is a refusal, later it is 502.
		boom := macronode.Errorf(macronode.Integrity, "damaged")
		reply = macronode.Reply{Stream: &pour{0, 1, boom, false}, Length: 9}
		if r := call(t, m, get, nil); r.code != 502 || r.problem.Code != "integrity" || r.head.Code != 0 {
			t.Errorf("%+v", r)
		}
		reply = macronode.Reply{Stream: &pour{1, 1, macronode.Errorf(macronode.DiskFull, ""), false}, Length: 9}
		if r := call(t, m, get, nil); r.code != 507 || r.head.Code != 0 {
			t.Errorf("nothing left yet: %+v", r)
		}
		for name, c := range map[string]macronode.Reply{
			"fails": {Stream: &pour{100_000, 50_000, errors.New("boom"), false}, Length: -1},
			"short": {Stream: &pour{100_000, 50_000, nil, false}, Length: 100_001},
			"long":  {Stream: &pour{100_000, 50_000, nil, false}, Length: 60_000},
		} {
			reply = c
			if r := call(t, m, get, nil); r.code != 502 || r.problem.Code != "internal" || r.problem.Status != 502 {
				t.Errorf("%s: %d %+v", name, r.code, r.problem)
			}
		}
	})
}

// A call that the wire itself refuses is counted, and says why.
func TestRefusedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := false
		s, _, rej := newService(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
			ran = true
			return echo(ctx, c, send)
		}, func(c *Config) {
			c.Limits.SeparateAdmin = true
			c.Admin = func(op macronode.Op) bool { return op == "admin.drain" }
		})
		k := pipe(t, s, loopback)
		defer k.end()
		k.hello()
		twice := macronode.Header{"Authorization": {"Bearer x"}}
		for i, c := range []struct {
			name    string
			payload []byte
			code    int
			kind    string
		}{
			{"no head", nil, 400, "malformed"},
			{"no CBOR", []byte("GET / HTTP/1.1"), 400, "malformed"},
			{"half a head", head(t, oap.RequestHead{})[:5], 400, "malformed"},
			{"too much of it", bytes.Repeat([]byte{0xa3}, 9<<10), 431, "header_too_large"},
			{"a capability in a header", head(t, oap.RequestHead{Headers: twice}), 400, "malformed"},
			{"longer than announced", append(head(t, oap.RequestHead{Length: 3}), "four"...), 400, "malformed"},
			{"shorter than announced", append(head(t, oap.RequestHead{Length: 5}), "four"...), 400, "malformed"},
			{"operators' elsewhere", head(t, oap.RequestHead{Op: "admin.drain"}), 404, "not_found"},
		} {
			corr := uint64(2*i + 1)
			k.send(start(corr, oap.END, c.payload))
			p := k.refused(k.answer(), corr, c.code, c.kind)
			if p.CorrID == "" {
				t.Errorf("%s: no correlation id", c.name)
			}
			if len(rej.kinds) != i+1 || rej.kinds[i].String() != c.kind {
				t.Errorf("%s: counted %v", c.name, rej.kinds)
			}
		}
		if ran {
			t.Error("a call came through")
		}
		if n := s.rejected(t, oap.ReasonHead) + s.rejected(t, oap.ReasonHeadSize); n != 4 {
			t.Errorf("%v heads counted", n)
		}
		// The connection lives.
		k.send(start(99, oap.END, append(head(t, oap.RequestHead{Length: 2}), "ok"...)))
		if f := k.answer(); f.Code != 200 || !bytes.HasSuffix(f.Payload, []byte("ok")) {
			t.Errorf("%+v %q", f.Header, f.Payload)
		}
	})
}

// Bodies that stand still, break off, or are not what was announced.
func TestBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got error
		s, _, _ := newService(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
			c.Binding.Streaming = c.Header.Get("Quick") == ""
			got = echo(ctx, c, send)
			return got
		}, nil)
		k := pipe(t, s, loopback)
		defer k.end()
		k.hello()
		// Nothing comes any more.
		began := time.Now()
		k.send(start(1, 0, head(t, oap.RequestHead{Length: 100})), data(1, 0, []byte("some")))
		k.refused(k.answer(), 1, 408, "timeout")
		if d := time.Since(began); d < 10*time.Second || d > 11*time.Second || s.rejected(t, reasonSlow) != 1 {
			t.Errorf("after %v, counted %v", d, s.rejected(t, reasonSlow))
		}
		// A little comes for ever, on a route that has a request timeout.
		began = time.Now()
		k.send(start(3, 0, head(t, oap.RequestHead{Length: 100, Headers: macronode.Header{"Quick": {"1"}}})))
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range 29 {
				k.send(data(3, 0, []byte("x")))
				<-time.After(time.Second)
			}
		}()
		k.refused(k.answer(), 3, 408, "timeout")
		if d := time.Since(began); d != 30*time.Second {
			t.Errorf("after %v", d)
		}
		<-stop
		// More, and less, than was announced.
		k.send(start(5, 0, head(t, oap.RequestHead{Length: 3})), data(5, oap.END, []byte("four")))
		k.refused(k.answer(), 5, 400, "malformed")
		k.send(start(7, 0, head(t, oap.RequestHead{Length: 5})), data(7, oap.END, []byte("four")))
		k.refused(k.answer(), 7, 400, "malformed")
		// A cancel ends the handler, and nothing answers it.
		k.send(start(9, 0, head(t, oap.RequestHead{Length: 5})), data(9, 0, []byte("f")))
		synctest.Wait()
		got = nil
		k.send(oap.Frame{Header: oap.Header{Flags: oap.REQ | oap.END, Code: 499, Corr: 9, App: 1}})
		synctest.Wait()
		if macronode.KindOf(got) != macronode.ClientGone {
			t.Errorf("a cancel: %v", got)
		}
		k.send(start(11, oap.END, head(t, oap.RequestHead{})))
		if f := k.answer(); f.Corr != 11 || f.Code != 200 {
			t.Errorf("%+v", f.Header)
		}
	})
}

// A cancel, and the end of the connection, end the context of the handler.
func TestCancelEndsTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s, _, _ := newService(t, func(ctx context.Context, _ *macronode.Call, _ macronode.Send) error {
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}, nil)
		m := session(t, s, loopback, nil)
		st := open(t, m, oap.RequestHead{}, nil, true)
		synctest.Wait()
		if n := count(t, s.conf.Metrics.streams); n != 1 {
			t.Errorf("%v streams counted", n)
		}
		if err := st.Cancel(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		open(t, m, oap.RequestHead{}, nil, true)
		synctest.Wait()
		m.Close()
		<-ended
		synctest.Wait()
		if n := count(t, s.conf.Metrics.streams); n != 0 {
			t.Errorf("%v streams are left", n)
		}
	})
}

// An answer that comes before the request's end: the rest of it is dropped, its
// place in the window given back, and the next call finds the connection as ever.
func TestEarlyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newService(t, func(_ context.Context, c *macronode.Call, send macronode.Send) error {
			switch c.Op {
			case "refuse":
				return macronode.Errorf(macronode.TooLarge, "no")
			case "early":
				return send(&macronode.Reply{Body: []byte("done")})
			}
			return echo(context.Background(), c, send)
		}, nil)
		m := session(t, s, loopback, nil)
		chunk := make([]byte, 64<<10)
		for _, op := range []macronode.Op{"refuse", "early", "refuse", "early"} {
			st := open(t, m, oap.RequestHead{Op: op, Length: oap.UnknownLength}, nil, false)
			var err error
			for i := 0; i < 300 && err == nil; i++ {
				_, err = st.Write(chunk)
			}
			if err == nil {
				t.Errorf("%s: 300 chunks went out on a stream that was answered", op)
			}
			if r := answerOf(st); (op == "refuse" && r.code != 413) || (op == "early" && string(r.body) != "done") {
				t.Errorf("%s: %+v", op, r)
			}
		}
		synctest.Wait()
		if n := m.Streams(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
		if r := call(t, m, oap.RequestHead{Length: 3}, []byte("end")); string(r.body) != "end" {
			t.Errorf("%+v", r)
		}
	})
}

// A handler's bug of the wire ends its stream and nothing else.
func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := newService(t, func(ctx context.Context, c *macronode.Call, send macronode.Send) error {
			if c.Op == "bug" {
				panic("bug")
			}
			if c.Op == "silent" {
				return nil
			}
			return echo(ctx, c, send)
		}, nil)
		m := session(t, s, loopback, nil)
		for _, op := range []macronode.Op{"bug", "silent"} {
			if r := call(t, m, oap.RequestHead{Op: op}, nil); r.code != 500 || r.problem.Code != "internal" {
				t.Errorf("%s: %+v", op, r)
			}
		}
		if r := call(t, m, oap.RequestHead{}, nil); r.code != 200 {
			t.Errorf("%+v", r)
		}
	})
}

func TestPlaintextFromAfar(t *testing.T) {
	for _, p := range []macronode.Peer{{}, {Trusted: true}} {
		synctest.Test(t, func(t *testing.T) {
			s, _, rej := newService(t, echo, nil)
			p.Addr = netip.MustParseAddr("203.0.113.9")
			k := pipe(t, s, p)
			k.refused(k.next(), 0, 403, "tls_required")
			if _, err := k.in.Next(); err != io.EOF {
				t.Errorf("after it: %v", err)
			}
			if <-k.done; s.rejected(t, reasonTLS) != 1 || len(rej.kinds) != 1 {
				t.Error("not counted")
			}
		})
	}
}

// Sessions of nodes open streams both ways, and are handed over once.
func TestAdopt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		adopted := make(chan *mux.Session, 1)
		var from macronode.Peer
		s, _, _ := newService(t, echo, func(c *Config) {
			c.Adopt = func(p macronode.Peer, m *mux.Session) { from = p; adopted <- m }
		})
		peer := macronode.Peer{Addr: netip.MustParseAddr("203.0.113.9"), TLS: true, Overlay: true, NodeID: "b3:node"}
		asked := 0
		m := session(t, s, peer, func(c *mux.Config) {
			c.Both, c.SetAside = true, false
			c.Reply = oap.HelloReply{MaxFrame: 1 << 20, MaxInflight: 64, MaxStreams: 16}
			c.Handle = func(st *mux.Stream) {
				asked++
				h := oap.AnswerHead{Code: 200}
				b, err := h.Append(nil)
				if err != nil {
					t.Error(err)
				}
				st.WriteHead(200, b, []byte("from the other side"), true)
			}
		})
		theirs := <-adopted
		if from != peer {
			t.Errorf("%+v", from)
		}
		if r := call(t, theirs, oap.RequestHead{}, nil); string(r.body) != "from the other side" || asked != 1 {
			t.Errorf("%+v", r)
		}
		if r := call(t, m, oap.RequestHead{Length: 4}, []byte("echo")); string(r.body) != "echo" {
			t.Errorf("%+v", r)
		}
		// A client's session is nobody's but its own.
		session(t, s, loopback, nil)
		synctest.Wait()
		if len(adopted) != 0 {
			t.Error("a client's session was handed over")
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty config was taken")
	}
	for _, change := range []func(*Limits){
		func(l *Limits) { l.MaxFrameBytes = 0 }, func(l *Limits) { l.MaxFrameBytes++ }, func(l *Limits) { l.MaxInflight = 0 },
		func(l *Limits) { l.MaxStreams = 0 }, func(l *Limits) { l.IdleTimeout = 0 }, func(l *Limits) { l.StallTimeout = 0 },
		func(l *Limits) { l.ChunkBytes = 0 }, func(l *Limits) { l.ChunkBytes = 1<<20 + 1 }, func(l *Limits) { l.RequestTimeout = 0 },
	} {
		l := testLimits()
		if change(&l); l.validate() == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}
