// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

func testLimits() Limits {
	return Limits{MaxFrameBytes: macronode.MaxFrameBytes, ChunkBytes: 64 << 10, MaxInflight: 64, MaxStreams: 256,
		IdleTimeout: time.Minute, StallTimeout: 10 * time.Second, RequestTimeout: 30 * time.Second}
}

// wall is a Server that does what a test says.
type wall func(ctx context.Context, c *macronode.Call, send macronode.Send) error

func (w wall) Serve(ctx context.Context, c *macronode.Call, send macronode.Send) error {
	if c.Binding == nil {
		c.Binding = &macronode.Binding{Op: c.Op, Method: "POST", Streaming: true}
	}
	return w(ctx, c, send)
}

// echo answers with the body of the call.
func echo(_ context.Context, c *macronode.Call, send macronode.Send) error {
	var b []byte
	if c.Body != nil {
		var err error
		if b, err = io.ReadAll(c.Body); err != nil {
			return err
		}
	}
	return send(&macronode.Reply{ContentType: "text/plain", Body: b})
}

// pour is a reply of as many bytes as it is told, written in steps.
type pour struct {
	total, step int
	err         error // after the bytes
	finish      bool
}

func (p *pour) WriteTo(w io.Writer) (n int64, err error) {
	b := make([]byte, p.step)
	for i := range b {
		b[i] = byte(i)
	}
	for left := p.total; left > 0; {
		b = b[:min(left, p.step)]
		write := w.Write
		if f, ok := w.(macronode.Finisher); ok && p.finish && left <= p.step {
			write = f.Finish
		}
		m, err := write(b)
		n += int64(m)
		if left -= m; err != nil {
			return n, err
		}
	}
	return n, p.err
}
func (p *pour) Close() error { return nil }

// rejects counts the refusals made before the wall.
type rejects struct {
	mu    sync.Mutex
	kinds []macronode.Kind
}

func (r *rejects) note(k macronode.Kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kinds = append(r.kinds, k)
}

func newService(t testing.TB, w wall, edit func(*Config)) (*Service, *listen.Set, *rejects) {
	t.Helper()
	caps, err := listen.NewCaps(listen.Rules{MaxConns: 1000, MaxConnsPerIP: 1000})
	if err != nil {
		t.Fatal(err)
	}
	reg := metrics.New(false)
	set, err := listen.NewSet(listen.SetConfig{Wire: "oap", Caps: caps, Metrics: listen.NewMetrics(reg)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rejects{}
	conf := Config{Set: set, Server: w, Limits: testLimits(), Metrics: NewMetrics(reg), Reject: r.note}
	if edit != nil {
		edit(&conf)
	}
	s, err := New(conf)
	if err != nil {
		t.Fatal(err)
	}
	return s, set, r
}

var loopback = macronode.Peer{Addr: netip.MustParseAddr("127.0.0.1"), Loopback: true}

// client is the other end of a connection, frame by frame.
type client struct {
	t    testing.TB
	c    net.Conn
	in   *oap.Reader
	done chan struct{} // closed when the service is done with it; nil: on sockets
}

// pipe serves a connection without a socket.
func pipe(t testing.TB, s *Service, p macronode.Peer) *client {
	t.Helper()
	here, there := net.Pipe()
	k := &client{t: t, c: here, in: oap.NewReader(here, 0), done: make(chan struct{})}
	c := &conn{s: s, nc: there, peer: p}
	if err := c.start(there); err != nil {
		t.Fatal(err)
	}
	if !s.add(context.Background(), c) {
		t.Fatal("not added")
	}
	go func() {
		defer close(k.done)
		defer s.remove(c)
		c.serve(context.Background())
	}()
	return k
}

func (k *client) end() {
	k.c.Close()
	if k.done != nil {
		<-k.done
	}
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

// answer is the next frame that is no ACK.
func (k *client) answer() oap.Frame {
	k.t.Helper()
	for {
		if f := k.next(); f.Flags&oap.EVENT == 0 {
			return f
		}
	}
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

// refused checks an error frame of stream corr.
func (k *client) refused(f oap.Frame, corr uint64, code int, kind string) macronode.Problem {
	k.t.Helper()
	var p macronode.Problem
	if err := json.Unmarshal(f.Payload, &p); err != nil || int(f.Code) != code || p.Status != code || p.Code != kind ||
		f.Flags != oap.RESP|oap.END || f.Corr != corr {
		k.t.Fatalf("%v %d on %d: %s; want %d %s on %d", f.Flags, f.Code, f.Corr, f.Payload, code, kind, corr)
	}
	return p
}

func head(t testing.TB, h oap.RequestHead) []byte {
	t.Helper()
	if h.Op == "" {
		h.Op = "thing.do"
	}
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func start(corr uint64, flags oap.Flags, payload []byte) oap.Frame {
	return oap.Frame{Header: oap.Header{Flags: oap.REQ | oap.START | flags, Corr: corr, App: 1, Tenant: macronode.TenantID{15: 9}}, Payload: payload}
}

func data(corr uint64, flags oap.Flags, payload []byte) oap.Frame {
	return oap.Frame{Header: oap.Header{Flags: oap.REQ | flags, Corr: corr, App: 1}, Payload: payload}
}

// session is the other end as a client has it.
func session(t testing.TB, s *Service, p macronode.Peer, edit func(*mux.Config)) *mux.Session {
	t.Helper()
	k := pipe(t, s, p)
	return dialed(t, k.c, edit)
}

func dialed(t testing.TB, c net.Conn, edit func(*mux.Config)) *mux.Session {
	t.Helper()
	conf := mux.Config{Opener: true, UA: "test", ChunkBytes: 64 << 10, SetAside: true, HelloTimeout: 5 * time.Second,
		IdleTimeout: time.Minute, StallTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	if edit != nil {
		edit(&conf)
	}
	m, err := mux.New(c, conf)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{})
	go func() { defer close(ran); m.Run(context.Background()) }()
	t.Cleanup(func() { m.Close(); <-ran })
	return m
}

// result is what a call came to.
type result struct {
	code    uint16
	head    oap.AnswerHead
	body    []byte
	problem macronode.Problem
	err     error
}

func open(t testing.TB, m *mux.Session, h oap.RequestHead, body []byte, end bool) *mux.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	st, err := m.Open(ctx, mux.Start{App: 1, Cap: []byte("cap"), Tenant: macronode.TenantID{15: 9}, Head: head(t, h), Body: body, End: end})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// result reads an answer to its end.
func answerOf(st *mux.Stream) (r result) {
	defer st.Close()
	first, err := st.Head()
	if err == nil {
		var n int
		if r.head, n, err = oap.ParseAnswerHead(first); err == nil {
			st.Skip(n)
			var b bytes.Buffer
			_, err = st.WriteTo(&b)
			r.body = b.Bytes()
		}
	}
	r.code, r.err = st.Code(), err
	if e, ok := errors.AsType[*mux.StreamError](err); ok {
		if bad := json.Unmarshal(e.Problem, &r.problem); bad != nil {
			r.err = bad
		}
	}
	return r
}

func call(t testing.TB, m *mux.Session, h oap.RequestHead, body []byte) result {
	t.Helper()
	return answerOf(open(t, m, h, body, true))
}

func count(t testing.TB, c interface{ Write(*dto.Metric) error }) float64 {
	t.Helper()
	var d dto.Metric
	if err := c.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

func (s *Service) rejected(t testing.TB, reason string) float64 {
	t.Helper()
	return count(t, s.conf.Metrics.rejects.WithLabelValues(reason))
}
