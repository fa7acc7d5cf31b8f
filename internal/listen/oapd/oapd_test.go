// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/oap"
)

func testLimits() Limits {
	return Limits{MaxFrameBytes: macronode.MaxFrameBytes, MaxInflight: 64, MaxStreams: 256, IdleTimeout: time.Minute, StallTimeout: 10 * time.Second}
}

func newService(t testing.TB, l Limits) (*Service, *listen.Set) {
	t.Helper()
	caps, err := listen.NewCaps(listen.Rules{MaxConns: 100, MaxConnsPerIP: 100})
	if err != nil {
		t.Fatal(err)
	}
	reg := metrics.New(false)
	set, err := listen.NewSet(listen.SetConfig{Wire: "oap", Caps: caps, Metrics: listen.NewMetrics(reg)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Set: set, Limits: l, Metrics: NewMetrics(reg)})
	if err != nil {
		t.Fatal(err)
	}
	return s, set
}

// client is the other end of a connection served in this bubble.
type client struct {
	t    testing.TB
	s    *Service
	c    net.Conn
	in   *oap.Reader
	done chan struct{}
}

var loopback = macronode.Peer{Addr: netip.MustParseAddr("127.0.0.1"), Loopback: true}

// pipe serves a connection without a socket.
func pipe(t testing.TB, s *Service, p macronode.Peer) *client {
	t.Helper()
	here, there := net.Pipe()
	k := &client{t: t, s: s, c: here, in: oap.NewReader(here, 0), done: make(chan struct{})}
	c := newConn(s, there, nil, p)
	if !s.add(context.Background(), c) {
		t.Fatal("not added")
	}
	go func() {
		defer close(k.done)
		defer s.remove(c)
		c.serve()
	}()
	return k
}

func (k *client) end() {
	k.c.Close()
	<-k.done
}

func (k *client) send(frames ...oap.Frame) {
	k.t.Helper()
	var b []byte
	for i := range frames {
		var err error
		if b, err = oap.Append(b, &frames[i]); err != nil {
			k.t.Fatal(err)
		}
	}
	k.raw(b)
}

func (k *client) raw(b []byte) {
	k.t.Helper()
	if _, err := k.c.Write(b); err != nil {
		k.t.Fatalf("sending: %v", err)
	}
}

func (k *client) next() oap.Frame {
	k.t.Helper()
	f, err := k.in.Next()
	if err != nil {
		k.t.Fatalf("no frame: %v", err)
	}
	f.Payload = slices.Clone(f.Payload)
	return f
}

func (k *client) hello() {
	k.t.Helper()
	f, err := oap.NewHello(42, oap.Hello{UA: "test"})
	if err != nil {
		k.t.Fatal(err)
	}
	k.send(f)
	if f := k.next(); f.Code != 200 {
		k.t.Fatalf("HELLO: %d %s", f.Code, f.Payload)
	}
}

// refused fails unless the connection ends with one error frame.
func (k *client) refused(code int, kind string) oap.Frame {
	k.t.Helper()
	f := k.next()
	var p macronode.Problem
	if err := json.Unmarshal(f.Payload, &p); err != nil || int(f.Code) != code || p.Status != code || p.Code != kind ||
		f.Flags != oap.RESP|oap.END {
		k.t.Fatalf("%v %d %s, want %d %s", f.Flags, f.Code, f.Payload, code, kind)
	}
	if _, err := k.in.Next(); err != io.EOF {
		k.t.Fatalf("after the error frame: %v", err)
	}
	<-k.done
	return f
}

func start(corr uint64, payload string) oap.Frame {
	return oap.Frame{Header: oap.Header{Flags: oap.REQ | oap.START, Corr: corr, App: 1, Tenant: macronode.TenantID{15: 9}}, Payload: []byte(payload)}
}

func data(corr uint64, payload string) oap.Frame {
	return oap.Frame{Header: oap.Header{Flags: oap.REQ, Corr: corr, App: 1}, Payload: []byte(payload)}
}

func (s *Service) count(t testing.TB, reason string) float64 {
	t.Helper()
	var d dto.Metric
	if err := s.conf.Metrics.rejects.WithLabelValues(reason).Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue()
}

func TestHelloVector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, testLimits())
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
		if err != nil || r.MaxFrame != 1<<20 || r.MaxInflight != 64 || r.MaxStreams != 256 || !slices.Equal(r.Versions, []int{1}) || !slices.Equal(r.Transports, []string{"tcp"}) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, testLimits())
		k := pipe(t, s, loopback)
		defer k.end()
		k.hello()
		k.send(oap.Ping())
		f := k.next()
		if n, err := oap.Count(f.Payload); f.Flags != oap.EVENT || f.Corr != 0 || f.Code != 0 || n != 0 || err != nil {
			t.Errorf("%+v %d %v", f.Header, n, err)
		}
		// Pings keep a connection from being idle.
		for range 5 {
			<-time.After(50 * time.Second)
			k.send(oap.Ping())
			k.next()
		}
	})
}

func TestStreamsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, testLimits())
		k := pipe(t, s, loopback)
		defer k.end()
		k.hello()
		go k.send(start(1, "head"), data(1, "more"), oap.Ack(1, 0), start(7, ""), oap.Frame{Header: oap.Header{Flags: oap.REQ | oap.END, Code: 499, Corr: 7}})
		for _, corr := range []uint64{1, 7} {
			f := k.next()
			var p macronode.Problem
			if err := json.Unmarshal(f.Payload, &p); err != nil || f.Code != 501 || p.Code != "unimplemented" || f.Corr != corr ||
				f.Flags != oap.RESP|oap.END || f.App != 1 || f.Tenant[15] != 9 {
				t.Errorf("%+v %s", f.Header, f.Payload)
			}
		}
		// The two frames that counted are acknowledged for the connection.
		if f := k.next(); f.Corr != 0 || f.Flags != oap.EVENT || binary.BigEndian.Uint64(f.Payload) != 2 {
			t.Errorf("%+v %x", f.Header, f.Payload)
		}
		k.send(oap.Ping()) // the connection lives
		k.next()
		if n := s.count(t, reasonUnknown); n != 2 {
			t.Errorf("%v refusals counted", n)
		}
	})
}

// However much a client sends on a refused stream, its window opens again.
func TestDroppedFramesAreAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, testLimits())
		k := pipe(t, s, loopback)
		defer k.end()
		k.hello()
		const frames = 1000
		go func() {
			k.send(start(1, "head"))
			for range frames {
				k.send(data(1, "x"))
			}
		}()
		k.next() // 501
		seen := uint64(0)
		for seen < frames+1 {
			f := k.next()
			n, err := oap.Count(f.Payload)
			if err != nil || n <= seen || n-seen > connWindow/2 {
				t.Fatalf("after %d: %d, %v", seen, n, err)
			}
			seen = n
		}
	})
}

func TestRefusals(t *testing.T) {
	frame := func(h oap.Header, payload string) func(*client) {
		return func(k *client) { k.send(oap.Frame{Header: h, Payload: []byte(payload)}) }
	}
	raw := func(change func(b []byte)) func(*client) {
		return func(k *client) {
			b, err := oap.Append(nil, &oap.Frame{Header: oap.Header{Flags: oap.REQ, Corr: 5, App: 7}})
			if err != nil {
				k.t.Fatal(err)
			}
			change(b)
			k.raw(b)
		}
	}
	remote := macronode.Peer{Addr: netip.MustParseAddr("203.0.113.9")}
	for _, c := range []struct {
		name   string
		peer   macronode.Peer
		greet  bool
		do     func(*client)
		code   int
		kind   string
		reason string
	}{
		{"plaintext from afar", remote, false, nil, 403, "tls_required", reasonTLS},
		{"a proxy is no exception", macronode.Peer{Addr: remote.Addr, Trusted: true}, false, nil, 403, "tls_required", reasonTLS},
		{"no HELLO", loopback, false, frame(oap.Header{Flags: oap.REQ | oap.START, Corr: 1, App: 1}, ""), 400, "malformed", reasonHello},
		{"PING before HELLO", loopback, false, frame(oap.Header{Flags: oap.EVENT | oap.ACKREQ}, ""), 400, "malformed", reasonHello},
		{"HELLO that is no JSON", loopback, false, frame(oap.Header{Flags: oap.REQ}, "hi"), 400, "malformed", oap.ReasonPayload},
		{"silence", loopback, false, nil, 408, "timeout", reasonHello},
		{"half a frame", loopback, false, func(k *client) { k.raw(make([]byte, 3)) }, 408, "timeout", reasonHello},
		{"HTTP", loopback, false, func(k *client) { k.raw([]byte("GET / HTTP/1.1\r\nHost: node.example\r\n\r\n")) }, 413, "too_large", oap.ReasonOversize},
		{"second HELLO", loopback, true, frame(oap.Header{Flags: oap.REQ, Corr: 9}, "{}"), 400, "malformed", reasonHello},
		{"oversize", loopback, true, raw(func(b []byte) { copy(b, []byte{0, 0x10, 0, 1}) }), 413, "too_large", oap.ReasonOversize},
		{"short", loopback, true, raw(func(b []byte) { b[3] = 1 }), 400, "malformed", oap.ReasonLength},
		{"version", loopback, true, raw(func(b []byte) { b[5] = 2 }), 400, "malformed", oap.ReasonVersion},
		{"unknown flag", loopback, true, raw(func(b []byte) { b[6] = 0x40 }), 400, "malformed", oap.ReasonFlags},
		{"two kinds", loopback, true, raw(func(b []byte) { b[7] = 3 }), 400, "malformed", oap.ReasonFlags},
		{"cap without START", loopback, true, raw(func(b []byte) { b[29] = 1 }), 400, "malformed", oap.ReasonCap},
		{"even stream", loopback, true, frame(oap.Header{Flags: oap.REQ | oap.START, Corr: 2}, ""), 400, "malformed", reasonStream},
		{"stream 0", loopback, true, frame(oap.Header{Flags: oap.REQ | oap.START}, ""), 400, "malformed", reasonStream},
		{"data out of nowhere", loopback, true, frame(oap.Header{Flags: oap.REQ, Corr: 3, App: 1}, "x"), 400, "malformed", reasonStream},
		{"answer", loopback, true, frame(oap.Header{Flags: oap.RESP, Corr: 2, Code: 200}, "x"), 400, "malformed", reasonStream},
		{"ACK of nothing", loopback, true, frame(oap.Header{Flags: oap.EVENT}, "\x00\x00\x00\x00\x00\x00\x00\x01"), 400, "malformed", reasonWindow},
		{"ACK of a stranger", loopback, true, frame(oap.Header{Flags: oap.EVENT, Corr: 3}, "\x00\x00\x00\x00\x00\x00\x00\x00"), 400, "malformed", reasonStream},
		{"short ACK", loopback, true, frame(oap.Header{Flags: oap.EVENT}, "\x00"), 400, "malformed", oap.ReasonPayload},
		{"odd control", loopback, true, frame(oap.Header{Flags: oap.EVENT, Code: 200}, "\x00\x00\x00\x00\x00\x00\x00\x00"), 400, "malformed", reasonControl},
		{"event with END", loopback, true, frame(oap.Header{Flags: oap.EVENT | oap.END}, ""), 400, "malformed", reasonControl},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := newService(t, testLimits())
				k := pipe(t, s, c.peer)
				began := time.Now()
				if c.greet {
					k.hello()
				}
				if c.do != nil {
					c.do(k)
				}
				f := k.refused(c.code, c.kind)
				if d := time.Since(began); (c.kind == "timeout") != (d == HelloTimeout) {
					t.Errorf("after %v", d)
				}
				if n := s.count(t, c.reason); n != 1 {
					t.Errorf("%s was counted %v times", c.reason, n)
				}
				if c.name == "oversize" && (f.Corr != 5 || f.App != 7) {
					t.Errorf("the answer names %+v", f.Header)
				}
			})
		})
	}
}

// A stream number is never used twice.
func TestStreamNumbersGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, testLimits())
		k := pipe(t, s, loopback)
		k.hello()
		k.send(start(5, ""))
		k.next()
		k.send(start(3, ""))
		k.refused(400, "malformed")
	})
}

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name string
		send int // bytes of a PING
		d    time.Duration
	}{{"idle", 0, time.Minute}, {"stall", 10, 10 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := newService(t, testLimits())
				k := pipe(t, s, loopback)
				k.hello()
				ping := oap.Ping()
				b, err := oap.Append(nil, &ping)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				k.raw(b[:c.send])
				if _, err := k.in.Next(); err != io.EOF {
					t.Error(err)
				}
				if <-k.done; time.Since(began) != c.d {
					t.Errorf("after %v", time.Since(began))
				}
			})
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty config was taken")
	}
	for _, change := range []func(*Limits){
		func(l *Limits) { l.MaxFrameBytes = 0 }, func(l *Limits) { l.MaxFrameBytes++ }, func(l *Limits) { l.MaxInflight = 0 },
		func(l *Limits) { l.MaxStreams = 0 }, func(l *Limits) { l.IdleTimeout = 0 }, func(l *Limits) { l.StallTimeout = 0 },
	} {
		l := testLimits()
		if change(&l); l.validate() == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

// FuzzConn: whatever comes, the connection ends, and nothing hangs or panics.
func FuzzConn(f *testing.F) {
	h, err := oap.NewHello(1, oap.Hello{UA: "f"})
	if err != nil {
		f.Fatal(err)
	}
	var seed []byte
	for _, fr := range []oap.Frame{h, start(1, "x"), data(1, "y"), oap.Ping(), oap.Ack(0, 0), oap.GoAway(1)} {
		if seed, err = oap.Append(seed, &fr); err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	s, _ := newService(f, testLimits())
	f.Fuzz(func(t *testing.T, b []byte) {
		k := pipe(t, s, loopback)
		go io.Copy(io.Discard, k.c)
		k.c.Write(b)
		k.end()
	})
}
