// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
)

// raw is a hand that writes frames to a session, and reads what comes back.
type raw struct {
	t      testing.TB
	c      net.Conn
	s      *Session
	frames chan oap.Frame // closed when the session closes the connection
	ended  chan error
	counts counts
}

type counts struct {
	frames  map[string]int
	rejects map[string]int
}

func (c counts) Frame(out bool, k Kind) {
	if out {
		c.frames["out "+k.String()]++
		return
	}
	c.frames["in "+k.String()]++
}
func (c counts) Reject(reason string) { c.rejects[reason]++ }

// newRaw starts an acceptor, or with cfg.Opener an opener; HELLO is not done.
func newRaw(t testing.TB, cfg Config) *raw {
	t.Helper()
	a, b := net.Pipe()
	r := &raw{t: t, c: b, frames: make(chan oap.Frame, 4096), ended: make(chan error, 1),
		counts: counts{map[string]int{}, map[string]int{}}}
	cfg.Observe = r.counts
	var err error
	if r.s, err = New(a, cfg); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- r.s.Run(context.Background()) }()
	go func() {
		defer close(r.frames)
		in := oap.NewReader(b, 0)
		for {
			f, err := in.Next()
			if err != nil {
				return
			}
			f.Payload = append([]byte(nil), f.Payload...)
			r.frames <- f
		}
	}()
	t.Cleanup(func() {
		b.Close()
		r.s.Close()
	})
	return r
}

// greeted starts an acceptor to which HELLO was said.
func greeted(t testing.TB, edit func(*Config)) *raw {
	t.Helper()
	cfg := acceptorConfig(echo)
	if edit != nil {
		edit(&cfg)
	}
	r := newRaw(t, cfg)
	r.send(oap.Header{Flags: oap.REQ, Corr: 42}, `{"ua":"raw","more":1}`)
	f := r.next()
	var reply oap.HelloReply
	if err := json.Unmarshal(f.Payload, &reply); err != nil || f.Code != 200 || f.Corr != 42 || reply.MaxInflight != cfg.Reply.MaxInflight {
		t.Fatalf("HELLO was answered with %d: %v", f.Code, err)
	}
	return r
}

func (r *raw) send(h oap.Header, payload string) { r.sendCap(h, "", payload) }

func (r *raw) sendCap(h oap.Header, capability, payload string) {
	b, err := oap.Append(nil, &oap.Frame{Header: h, Cap: []byte(capability), Payload: []byte(payload)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.bytes(b)
}

// bytes writes; a session that closed the connection does not matter here.
func (r *raw) bytes(b []byte) {
	if _, err := r.c.Write(b); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		r.t.Fatal(err)
	}
}

func (r *raw) ack(corr, n uint64) {
	f := oap.Ack(corr, n)
	r.send(f.Header, string(f.Payload))
}

func (r *raw) start(corr uint64, flags oap.Flags, payload string) {
	r.send(oap.Header{Flags: oap.REQ | oap.START | flags, App: 1, Corr: corr}, payload)
}

func (r *raw) data(corr uint64, flags oap.Flags, payload string) {
	r.send(oap.Header{Flags: oap.REQ | flags, App: 1, Corr: corr}, payload)
}

func (r *raw) cancel(corr uint64) {
	r.send(oap.Header{Flags: oap.REQ | oap.END, Code: 499, App: 1, Corr: corr}, "")
}

// wait is the next frame, or false where the connection is closed.
func (r *raw) wait() (oap.Frame, bool) {
	r.t.Helper()
	select {
	case f, ok := <-r.frames:
		return f, ok
	case <-time.After(5 * time.Minute):
		r.t.Fatal("nothing comes, and the connection stays")
		return oap.Frame{}, false
	}
}

// end is why the session ended.
func (r *raw) end() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(5 * time.Minute):
		r.t.Fatal("the session does not end")
		return nil
	}
}

// next is the next frame, of any kind.
func (r *raw) next() oap.Frame {
	r.t.Helper()
	f, ok := r.wait()
	if !ok {
		r.t.Fatal("the connection was closed")
	}
	return f
}

// answer is the next frame that is no ACK.
func (r *raw) answer() oap.Frame {
	r.t.Helper()
	for {
		if f := r.next(); f.Flags&oap.EVENT == 0 || f.Code != 0 {
			return f
		}
	}
}

// drained are the frames that came so far.
func (r *raw) drained() (all []oap.Frame) {
	synctest.Wait()
	for {
		select {
		case f, ok := <-r.frames:
			if !ok {
				return all
			}
			all = append(all, f)
		default:
			return all
		}
	}
}

// refused expects one error frame of that code as the last, the reason counted,
// and the connection closed.
func (r *raw) refused(code uint16, reason string) {
	r.t.Helper()
	var last oap.Frame
	for f, ok := r.wait(); ok; f, ok = r.wait() {
		last = f
	}
	if !last.IsRefusal() || last.Code != code {
		r.t.Errorf("the last frame is %v with code %d, not %d", last.Flags, last.Code, code)
	}
	var p macronode.Problem
	if err := json.Unmarshal(last.Payload, &p); err != nil || p.Status != int(code) {
		r.t.Errorf("the problem document says %d: %v", p.Status, err)
	}
	err := r.end()
	if f, ok := errors.AsType[*Fault](err); !ok || f.Reason != reason || f.Code != code || !errors.Is(err, ErrClosed) {
		r.t.Errorf("the session ended with %v, not %q", err, reason)
	}
	if r.counts.rejects[reason] != 1 {
		r.t.Errorf("rejects: %v, not one %q", r.counts.rejects, reason)
	}
}

// mute is a handler that does nothing until its stream ends.
func mute(st *Stream) { <-st.Context().Done() }

func TestWhatEndsAConnection(t *testing.T) {
	long := string(make([]byte, 64<<10+1))
	for _, c := range []struct {
		name   string
		code   uint16
		reason string
		edit   func(*Config)
		do     func(r *raw)
	}{
		{"length 0", 400, "length", nil, func(r *raw) { r.bytes(make([]byte, 38)) }},
		{"length 1", 400, "length", nil, func(r *raw) { r.bytes(header(1)) }},
		{"length 37", 400, "length", nil, func(r *raw) { r.bytes(header(37)) }},
		{"length 1 MiB + 1", 413, "oversize", nil, func(r *raw) { r.bytes(header(1<<20 + 1)) }},
		{"length 4 GiB - 1", 413, "oversize", nil, func(r *raw) { r.bytes(header(1<<32 - 1)) }},
		{"over a lower maximum", 413, "oversize", func(c *Config) { c.Reply.MaxFrame = 70 << 10 }, func(r *raw) { r.bytes(header(70<<10 + 1)) }},
		{"version 2", 400, "version", nil, func(r *raw) { b := header(38); b[5] = 2; r.bytes(b) }},
		{"two kinds", 400, "flags", nil, func(r *raw) { b := header(38); b[7] = 3; r.bytes(b) }},
		{"unknown flag", 400, "flags", nil, func(r *raw) { b := header(38); b[6] = 1; r.bytes(b) }},
		{"cap without START", 400, "cap", nil, func(r *raw) { b := header(40); b[29] = 2; r.bytes(b) }},
		{"HELLO twice", 400, "hello", nil, func(r *raw) { r.send(oap.Header{Flags: oap.REQ, Corr: 42}, `{"ua":"raw"}`) }},
		{"even number", 400, "stream", nil, func(r *raw) { r.start(2, 0, "h") }},
		{"number 0", 400, "stream", nil, func(r *raw) { r.start(0, 0, "h") }},
		{"number used", 400, "stream", nil, func(r *raw) { r.start(3, 0, "h"); r.start(3, 0, "h") }},
		{"number below", 400, "stream", nil, func(r *raw) { r.start(3, 0, "h"); r.start(1, 0, "h") }},
		{"DATA never opened", 400, "stream", nil, func(r *raw) { r.start(1, 0, "h"); r.data(3, 0, "h") }},
		{"DATA of the other side's number", 400, "stream", nil, func(r *raw) { r.data(2, 0, "h") }},
		{"answer to nothing", 400, "stream", nil, func(r *raw) { r.send(oap.Header{Flags: oap.RESP, Code: 200, App: 1, Corr: 2}, "h") }},
		{"answer on a request", 400, "stream", nil, func(r *raw) {
			r.start(1, 0, "h")
			r.send(oap.Header{Flags: oap.RESP, Code: 200, App: 1, Corr: 1}, "h")
		}},
		{"START as an answer", 400, "stream", nil, func(r *raw) { r.send(oap.Header{Flags: oap.RESP | oap.START, App: 1, Corr: 1}, "h") }},
		{"START that cancels", 400, "stream", nil, func(r *raw) {
			r.send(oap.Header{Flags: oap.REQ | oap.START | oap.END, Code: 499, App: 1, Corr: 1}, "")
		}},
		{"past the stream's window", 400, "window", func(c *Config) { c.Reply.MaxInflight, c.Handle = 2, mute }, func(r *raw) {
			r.start(1, 0, "h")
			r.data(1, 0, "1")
			r.data(1, 0, "2")
		}},
		{"past the connection's window", 400, "window", func(c *Config) { c.Handle = mute }, func(r *raw) {
			for i := range uint64(3) {
				r.start(2*i+1, 0, "h")
				for range 42 {
					r.data(2*i+1, 0, "d")
				}
			}
		}},
		{"ACK ahead", 400, "window", nil, func(r *raw) { r.ack(0, 1) }},
		{"ACK backwards", 400, "window", nil, func(r *raw) { r.answered(1); r.ack(0, 1); r.ack(0, 0) }},
		{"ACK ahead of a stream", 400, "window", nil, func(r *raw) { r.answered(1); r.ack(1, 2) }},
		{"ACK backwards of a stream", 400, "window", nil, func(r *raw) { r.answered(1); r.ack(1, 1); r.ack(1, 0) }},
		{"ACK of nothing", 400, "stream", nil, func(r *raw) { r.ack(1, 0) }},
		{"ACK of the other side's nothing", 400, "stream", nil, func(r *raw) { r.ack(2, 0) }},
		{"ACK of no number", 400, "payload", nil, func(r *raw) { r.send(oap.Header{Flags: oap.EVENT, Corr: 1}, "1234567") }},
		{"large event", 400, "control", nil, func(r *raw) { r.send(oap.Header{Flags: oap.EVENT}, "123456789") }},
		{"event of an app", 400, "control", nil, func(r *raw) { r.send(oap.Header{Flags: oap.EVENT, App: 1}, "12345678") }},
		{"event of another code", 400, "control", nil, func(r *raw) { r.send(oap.Header{Flags: oap.EVENT, Code: 7}, "12345678") }},
		{"DATA over a chunk", 400, "chunk", nil, func(r *raw) { r.start(1, 0, "h"); r.data(1, 0, long) }},
		{"START over a chunk and a head", 400, "chunk", nil, func(r *raw) { r.start(1, 0, string(make([]byte, 72<<10+1))) }},
		{"COMP where it is not taken", 400, "comp", nil, func(r *raw) { r.start(1, oap.COMP, "h") }},
		{"COMP over the cap", 413, "comp", func(c *Config) { c.Expand = expander(t) }, func(r *raw) {
			z, ok := compress(t, make([]byte, 70<<10))
			if !ok {
				z = bomb(t)
			}
			r.start(1, oap.COMP, string(z))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := greeted(t, c.edit)
				c.do(r)
				r.refused(c.code, c.reason)
			})
		})
	}
}

// header is a header that says REQ and that length.
func header(n uint32) []byte {
	b := make([]byte, oap.HeaderBytes)
	b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	b[5], b[7] = 1, 1
	return b
}

// answered opens a stream and waits for the answer's head.
func (r *raw) answered(corr uint64) {
	r.t.Helper()
	r.start(corr, 0, "head")
	if f := r.answer(); f.Code != 200 || string(f.Payload) != "HEAD" || f.App != 1 || f.Corr != corr {
		r.t.Fatalf("answered with %d on %d", f.Code, f.Corr)
	}
}

func expander(t testing.TB) func(dst, payload []byte, limit int) ([]byte, error) {
	e, err := oap.NewExpander(1)
	if err != nil {
		t.Fatal(err)
	}
	return e.Expand
}

func compress(t testing.TB, b []byte) ([]byte, bool) {
	c, err := oap.NewCompressor(1)
	if err != nil {
		t.Fatal(err)
	}
	return c.Compress(nil, b)
}

// bomb is a compressed payload that expands more than it may.
func bomb(t testing.TB) []byte {
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0x00, 0x00, 0x10, 0x00, 0x03, 0x00, 0x80, 0x00} // one RLE block, 1 MiB announced
}

func TestHelloComesFirstAndInTime(t *testing.T) {
	for name, do := range map[string]func(*raw){
		"PING":       func(r *raw) { f := oap.Ping(); r.send(f.Header, "") },
		"START":      func(r *raw) { r.start(1, 0, "h") },
		"an app":     func(r *raw) { r.data(1, 0, "{}") },
		"too large":  func(r *raw) { b := header(5 << 10); r.bytes(b) },
		"not at all": func(r *raw) {},
		"in pieces": func(r *raw) {
			for i := range 4 {
				r.bytes(header(60)[i : i+1])
				<-time.After(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r := newRaw(t, acceptorConfig(echo))
				go do(r)
				r.refused(400, "hello")
				if d := time.Since(began); d > 5*time.Second {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}
