// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/oap"
)

// wild is a listener on real sockets with a session beside those that misbehave.
type wild struct {
	t      *testing.T
	s      *Service
	tcp    string
	unix   string
	steady *client // its calls must always be served
	calls  uint64
}

func newWild(t *testing.T, edit func(*Config)) *wild {
	t.Helper()
	s, set, _ := newService(t, patient, edit)
	w := &wild{t: t, s: s, unix: filepath.Join(t.TempDir(), "oap.sock")}
	if err := set.Apply([]listen.Endpoint{{Name: "tcp", Network: "tcp", Addr: "127.0.0.1:0", StallTimeout: time.Second},
		{Name: "unix", Network: "unix", Addr: w.unix, AllowUIDs: []uint32{uint32(os.Getuid())}, StallTimeout: time.Second}}); err != nil {
		t.Fatal(err)
	}
	w.tcp = set.Addrs()["tcp"].String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	w.steady = w.dial("tcp")
	w.steady.hello()
	t.Cleanup(func() {
		w.steady.c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		gone, cut := context.WithCancel(context.Background())
		cut()
		set.Close(gone)
	})
	return w
}

// patient echoes, but for an operation that does not read, one that never answers
// and one that answers before it has read.
func patient(ctx context.Context, c *macronode.Call, send macronode.Send) error {
	switch c.Op {
	case "thing.elsewhere":
		return macronode.Errorf(macronode.Unimplemented, "app_proto_id %d", c.AppID)
	case "thing.hold":
		<-ctx.Done()
		return macronode.Errorf(macronode.ClientGone, "")
	case "thing.flood":
		return send(&macronode.Reply{Length: -1, Stream: &pour{total: 64 << 20, step: 64 << 10}})
	}
	return echo(ctx, c, send)
}

func (w *wild) dial(network string) *client {
	w.t.Helper()
	addr := w.tcp
	if network == "unix" {
		addr = w.unix
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		w.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	w.t.Cleanup(func() { c.Close() })
	return &client{t: w.t, c: c, in: oap.NewReader(c, 0)}
}

// undisturbed checks that the session beside is served as ever.
func (w *wild) undisturbed() {
	w.t.Helper()
	w.calls++
	w.steady.c.SetDeadline(time.Now().Add(30 * time.Second))
	w.steady.served(2*w.calls-1, "steady")
	w.steady.send(oap.Ack(0, w.calls))
}

// served makes a call and checks its answer.
func (k *client) served(corr uint64, body string) {
	k.t.Helper()
	k.send(start(corr, oap.END, append(head(k.t, oap.RequestHead{Length: int64(len(body))}), body...)))
	f := k.answer()
	_, n, err := oap.ParseAnswerHead(f.Payload)
	if err != nil || f.Corr != corr || f.Code != 200 || string(f.Payload[n:]) != body {
		k.t.Fatalf("%+v, %v", f.Header, err)
	}
}

// ended reads to the connection's end and returns the error frame that came
// last; nil: none came.
func (k *client) ended() *oap.Frame {
	k.t.Helper()
	var last *oap.Frame
	for {
		f, err := k.in.Next()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				k.t.Fatal("the connection is left open")
			}
			return last
		}
		f.Payload = bytes.Clone(f.Payload)
		if last = nil; f.IsRefusal() {
			last = &f
		}
	}
}

func frameBytes(t testing.TB, f oap.Frame) []byte {
	t.Helper()
	b, err := oap.Append(nil, &f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bomb is zstd that announces little and holds much.
func bomb(n int) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3}
	for ; n > 0; n -= 128 << 10 {
		h := 128<<10<<3 | 1<<1 // a block of one byte, repeated
		if n <= 128<<10 {
			h |= 1
		}
		b = append(b, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	return b
}

// TestMalformed: each fault of a connection gets one error frame with its code, is
// counted under its reason, and ends the connection; nobody else notices.
func TestMalformed(t *testing.T) {
	w := newWild(t, func(c *Config) { c.Limits.MaxInflight = 4 })
	hold := func(flags oap.Flags, corr uint64) oap.Frame {
		return start(corr, flags, head(t, oap.RequestHead{Op: "thing.hold", Length: oap.UnknownLength}))
	}
	call := func(corr uint64) oap.Frame { return start(corr, oap.END, head(t, oap.RequestHead{})) }
	length := func(n uint32) []byte {
		b := frameBytes(t, call(1))
		binary.BigEndian.PutUint32(b, n)
		return b
	}
	edit := func(f oap.Frame, at int, v byte) []byte {
		b := frameBytes(t, f)
		b[at] = v
		return b
	}
	bytesOf := func(frames ...oap.Frame) (b []byte) {
		for _, f := range frames {
			b = append(b, frameBytes(t, f)...)
		}
		return b
	}
	hello, err := oap.NewHello(1, oap.Hello{UA: "x"})
	if err != nil {
		t.Fatal(err)
	}
	comp := func(flags oap.Flags, payload []byte) oap.Frame { return start(1, flags|oap.COMP, payload) }
	withCap := call(1)
	withCap.Cap = []byte("capability")
	many := func(n int) (frames []oap.Frame) {
		frames = []oap.Frame{hold(0, 1)}
		for range n {
			frames = append(frames, data(1, 0, []byte("x")))
		}
		return frames
	}
	// crowd keeps to each stream's window, and goes past that of the connection.
	crowd := func() (frames []oap.Frame) {
		for i := uint64(1); len(frames) <= 128; i += 2 {
			frames = append(frames, hold(0, i))
			for range 3 {
				frames = append(frames, data(i, 0, []byte("x")))
			}
		}
		return frames
	}
	for _, c := range []struct {
		name   string
		first  func(k *client) // what precedes it; nil: nothing
		b      []byte
		code   int
		reason string
	}{
		{"len 0", nil, length(0), 400, "length"},
		{"len 1", nil, length(1), 400, "length"},
		{"len 37", nil, length(37), 400, "length"},
		{"len 1 MiB + 1", nil, length(1<<20 + 1), 413, "oversize"},
		{"len 4 GiB - 1", nil, length(1<<32 - 1), 413, "oversize"},
		{"version 0", nil, edit(call(1), 5, 0), 400, "version"},
		{"version 2", nil, edit(call(1), 5, 2), 400, "version"},
		{"version 256", nil, edit(call(1), 4, 1), 400, "version"},
		{"a reserved flag", nil, edit(call(1), 6, 0x01), 400, "flags"},
		{"the last reserved flag", nil, edit(call(1), 6, 0x80), 400, "flags"},
		{"REQ and RESP", nil, edit(call(1), 7, byte(oap.REQ|oap.RESP|oap.START)), 400, "flags"},
		{"REQ and EVENT", nil, edit(call(1), 7, byte(oap.REQ|oap.EVENT|oap.START)), 400, "flags"},
		{"neither", nil, edit(call(1), 7, byte(oap.START|oap.END)), 400, "flags"},
		{"cap without START", nil, edit(withCap, 7, byte(oap.REQ|oap.END)), 400, "cap"},
		{"cap longer than the frame", nil, edit(withCap, 28, 0xff), 400, "length"},
		{"a bomb in START", nil, bytesOf(comp(oap.END, bomb(32<<20))), 413, "comp"},
		{"a bomb in DATA", func(k *client) { k.send(hold(0, 1)) }, bytesOf(data(1, oap.COMP, bomb(32<<20))), 413, "comp"},
		{"COMP that is no zstd", nil, bytesOf(comp(oap.END, []byte("plain text"))), 400, "payload"},
		{"more than a chunk", func(k *client) { k.send(hold(0, 1)) }, bytesOf(data(1, 0, make([]byte, 64<<10+1))), 400, "chunk"},
		{"START on a live stream", func(k *client) { k.send(hold(0, 1)) }, bytesOf(call(1)), 400, "stream"},
		{"START on a used stream", func(k *client) { k.served(1, "x") }, bytesOf(call(1)), 400, "stream"},
		{"START below an earlier one", func(k *client) { k.served(9, "x") }, bytesOf(call(7)), 400, "stream"},
		{"START on an even number", nil, bytesOf(call(2)), 400, "stream"},
		{"START on 0", nil, bytesOf(call(0)), 400, "stream"},
		{"START as an answer", nil, edit(call(1), 7, byte(oap.RESP|oap.START)), 400, "stream"},
		{"DATA that was never opened", nil, bytesOf(data(1, 0, []byte("x"))), 400, "stream"},
		{"DATA on 0", nil, bytesOf(data(0, 0, []byte("x"))), 400, "stream"},
		{"an answer to nothing", nil, bytesOf(oap.Answer(&oap.Header{Corr: 2, App: 1}, 200, oap.END, []byte("x"))), 400, "stream"},
		{"a cancel that was never opened", nil, bytesOf(oap.Cancel(&oap.Header{Corr: 1, App: 1})), 400, "stream"},
		{"ACK ahead", func(k *client) { k.send(hold(0, 1)) }, bytesOf(oap.Ack(1, 1)), 400, "window"},
		{"ACK ahead of the connection", nil, bytesOf(oap.Ack(0, 1)), 400, "window"},
		{"ACK backwards", func(k *client) { k.flooded(); k.send(oap.Ack(0, 2)) }, bytesOf(oap.Ack(0, 1)), 400, "window"},
		{"ACK backwards on a stream", func(k *client) { k.flooded(); k.send(oap.Ack(1, 2)) }, bytesOf(oap.Ack(1, 1)), 400, "window"},
		{"ACK of nothing opened", nil, bytesOf(oap.Ack(3, 0)), 400, "stream"},
		{"ACK of seven bytes", nil, bytesOf(oap.Frame{Header: oap.Header{Flags: oap.EVENT}, Payload: make([]byte, 7)}), 400, "payload"},
		{"past the stream's window", nil, bytesOf(many(4)...), 400, "window"},
		{"past the connection's window", nil, bytesOf(crowd()...), 400, "window"},
		{"an event of a stream", nil, bytesOf(oap.Frame{Header: oap.Header{Flags: oap.EVENT, App: 1}}), 400, "control"},
		{"a long event", nil, bytesOf(oap.Frame{Header: oap.Header{Flags: oap.EVENT}, Payload: make([]byte, 9)}), 400, "control"},
		{"an unknown event", nil, bytesOf(oap.Frame{Header: oap.Header{Flags: oap.EVENT, Code: 7}, Payload: make([]byte, 8)}), 400, "control"},
		{"HELLO again", nil, bytesOf(hello), 400, "hello"},
		{"the session replayed", func(k *client) { k.served(1, "x") }, bytesOf(hello, call(1)), 400, "stream"},
		{"a call replayed", func(k *client) { k.send(call(1)); k.answer() }, bytesOf(call(1)), 400, "stream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.s.rejected(t, c.reason)
			k := w.dial("tcp")
			k.t = t
			k.hello()
			if c.first != nil {
				c.first(k)
			}
			k.raw(c.b)
			f := k.ended()
			if f == nil || int(f.Code) != c.code {
				t.Fatalf("%+v, want one error frame %d", f, c.code)
			}
			if got := w.s.rejected(t, c.reason); got != before+1 {
				t.Errorf("%s: %v times counted", c.reason, got-before)
			}
			w.undisturbed()
		})
	}
	w.settles(1)
}

// flooded opens stream 1, whose answer fills its window, and reads that far.
func (k *client) flooded() {
	k.t.Helper()
	k.send(start(1, oap.END, head(k.t, oap.RequestHead{Op: "thing.flood"})))
	for range 4 {
		if f := k.answer(); f.Code != 200 {
			k.t.Fatalf("%+v", f.Header)
		}
	}
}

// settles waits until n connections are left.
func (w *wild) settles(n int) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		w.s.mu.Lock()
		left := len(w.s.conns)
		w.s.mu.Unlock()
		if left == n {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%d connections are left, want %d", left, n)
		}
	}
}

// TestTolerated: what is odd and no fault of the connection, which goes on.
func TestTolerated(t *testing.T) {
	const streams = 100 // fewer than the connection's window, which their heads fill
	w := newWild(t, func(c *Config) { c.Limits.MaxStreams = streams })
	for name, odd := range map[string]func(k *client){
		"DATA for a closed stream": func(k *client) {
			k.served(1, "x")
			k.send(data(1, 0, []byte("late")), data(1, 0, []byte("later")))
		},
		"END twice": func(k *client) {
			k.send(start(1, 0, head(k.t, oap.RequestHead{Length: oap.UnknownLength})), data(1, oap.END, []byte("x")), data(1, oap.END, nil))
			k.answer()
		},
		"cancel of a closed stream": func(k *client) {
			k.served(1, "x")
			k.send(oap.Cancel(&oap.Header{Corr: 1, App: 1}))
		},
		"cancel twice": func(k *client) {
			k.send(start(1, 0, head(k.t, oap.RequestHead{Op: "thing.hold", Length: oap.UnknownLength})), oap.Cancel(&oap.Header{Corr: 1, App: 1}), oap.Cancel(&oap.Header{Corr: 1, App: 1}))
		},
		"ACK of a closed stream": func(k *client) {
			k.served(1, "x")
			k.send(oap.Ack(1, 99))
		},
		"the same ACK twice": func(k *client) {
			k.served(1, "x")
			k.send(oap.Ack(0, 1), oap.Ack(0, 1))
		},
		"an unknown app id": func(k *client) {
			f := start(1, oap.END, head(k.t, oap.RequestHead{Op: "thing.elsewhere"}))
			f.App = 999
			k.send(f)
			k.refused(k.answer(), 1, 501, "unimplemented")
		},
		"a head that is none": func(k *client) {
			k.send(start(1, oap.END, []byte("no head")))
			k.refused(k.answer(), 1, 400, "malformed")
		},
		"no head at all": func(k *client) {
			k.send(start(1, oap.END, nil))
			k.refused(k.answer(), 1, 400, "malformed")
		},
		"too many streams": func(k *client) {
			for i := range uint64(streams) {
				k.send(start(2*i+1, 0, head(k.t, oap.RequestHead{Op: "thing.hold", Length: oap.UnknownLength})))
			}
			over := uint64(2*streams + 1)
			k.send(start(over, oap.END, head(k.t, oap.RequestHead{})))
			k.refused(k.answer(), over, 503, "overload")
			for i := range uint64(streams) {
				k.send(oap.Cancel(&oap.Header{Corr: 2*i + 1, App: 1}))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := w.dial("tcp")
			k.t = t
			k.hello()
			odd(k)
			k.send(oap.Ping())
			for f := k.next(); f.Flags != oap.EVENT || f.Corr != 0; f = k.next() {
			}
			k.served(10_001, "still here")
			k.c.Close()
			w.undisturbed()
		})
	}
	w.settles(1)
}

// TestBreaksOff: a connection that ends within a frame, at any of its bytes, ends
// with nothing served.
func TestBreaksOff(t *testing.T) {
	served := make(chan struct{}, 1)
	w := newWild(t, func(c *Config) {
		c.Server = wall(func(ctx context.Context, call *macronode.Call, send macronode.Send) error {
			if call.Op == "thing.whole" {
				served <- struct{}{}
			}
			return patient(ctx, call, send)
		})
	})
	f := start(1, oap.END, append(head(t, oap.RequestHead{Op: "thing.whole", Length: 4}), "body"...))
	f.Cap = []byte("capability")
	b := frameBytes(t, f)
	for n := range len(b) + 1 {
		k := w.dial("tcp")
		k.hello()
		k.raw(b[:n])
		k.c.(*net.TCPConn).CloseWrite()
		if last := k.ended(); last != nil && n < len(b) {
			t.Fatalf("cut at %d: %+v", n, last.Header)
		}
		k.c.Close()
		if n < len(b) && len(served) > 0 {
			t.Fatalf("cut at %d: served", n)
		}
	}
	<-served
	w.undisturbed()
	w.settles(1)
}
