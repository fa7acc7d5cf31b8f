// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"encoding/json"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/oapcall"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

var (
	errTwice    = errors.New("oapd: a second reply")
	errNoAnswer = errors.New("oapd: the call ended without reply or error")
	errShort    = errors.New("oapd: the reply ended before its announced length")
	errLong     = errors.New("oapd: the reply is longer than announced")
)

// brokenCode is that of an error frame behind an answer's head.
const brokenCode = 502

// exchange is one stream with its call and answer: a single allocation.
type exchange struct {
	s      *Service
	limits *Limits
	st     *mux.Stream

	call macronode.Call
	body body
	out  output
	late atomic.Bool // the request did not go on in time

	replied bool // send or refuse was called
	began   bool // the head left, or is about to
	code    uint16
	head    []byte // not sent yet
}

// Handler serves streams that the peer p opens, on a session that somebody else
// runs, as those of a connection that was accepted.
func (s *Service) Handler(p macronode.Peer) func(*mux.Stream) {
	return func(st *mux.Stream) { s.stream(st, &p, s.limits.Load()) }
}

// stream is the whole wire for one call.
func (s *Service) stream(st *mux.Stream, p *macronode.Peer, l *Limits) {
	if !s.flight.enter() {
		st.Fail(503, problem(macronode.Errorf(macronode.Draining, ""), "", 503))
		return
	}
	defer s.flight.leave()
	s.conf.Metrics.streams.Inc()
	defer s.conf.Metrics.streams.Dec()
	x := &exchange{s: s, limits: l, st: st}
	x.body.x = x
	defer x.contain()
	if err := x.fill(p); err != nil {
		s.conf.Reject(err.Kind)
		x.refuse(err)
		return
	}
	err := s.conf.Server.Serve(st.Context(), &x.call, x.send)
	switch {
	case err != nil:
		x.refuse(macronode.AsError(err))
	case !x.replied:
		x.refuse(macronode.Wrap(macronode.Internal, "", errNoAnswer))
	}
	s.conf.Metrics.bytes.WithLabelValues("in").Add(float64(x.body.n))
}

// contain reports a bug of the wire itself; the client sees the stream break,
// which is the one thing that is never mistaken for an answer.
func (x *exchange) contain() {
	if v := recover(); v != nil {
		x.s.conf.Log.Error("the OAP/1 listener panicked", "event", "panic", "corr_id", x.call.CorrID, "panic", v, "stack", string(debug.Stack()))
		x.refuse(macronode.Errorf(macronode.Internal, ""))
	}
}

// fill makes the call of a stream. An error is a refusal that needs no identity;
// what is filled in by then suffices to render it.
func (x *exchange) fill(p *macronode.Peer) *macronode.Error {
	c := &x.call
	first, err := x.st.Head()
	head, n, bad := oap.ParseRequestHead(first)
	_ = err
	_ = n
	_ = bad
	_ = oapcall.Fill
	c.Peer = *p
	c.Received = time.Now()
	_ = head
	return nil
}

// hidden reports whether the operation is not served here: operators' routes have
// listeners of their own where they are configured.
func (x *exchange) hidden() bool {
	return x.limits.SeparateAdmin && x.s.conf.Admin != nil && x.s.conf.Admin(x.call.Op)
}

// expire ends a request whose next bytes did not come in time.
func (x *exchange) expire() {
	x.late.Store(true)
	x.s.conf.Metrics.rejects.WithLabelValues(reasonSlow).Inc()
	e := macronode.Errorf(macronode.Timeout, "the body did not arrive in time")
	// It cannot fail but on a stream that is over.
	_ = x.st.Fail(408, problem(e, x.call.CorrID, 408))
}

// send writes a reply. It is the macronode.Send of the call.
func (x *exchange) send(r *macronode.Reply) error {
	if x.replied {
		return macronode.Wrap(macronode.Internal, "", errTwice)
	}
	h := oapcall.Answer(r, x.call.CorrID)
	x.code = h.Code
	b := x.call.Binding
	empty := x.code == 204 || x.code == 304 || (b != nil && b.Method == "HEAD")
	if !empty && r.Stream == nil {
		h.Length = int64(len(r.Body))
	}
	var err error
	if x.head, err = h.Append(nil); err != nil {
		return macronode.Wrap(macronode.Internal, "", err)
	}
	switch {
	case empty:
		_, err = x.push(nil, true)
	case r.Stream == nil:
		_, err = x.push(r.Body, true)
	default:
		x.out = output{x: x, left: h.Length}
		_, err = r.Stream.WriteTo(&x.out)
		err = x.out.close(err)
	}
	return err
}

// push sends p, with the head before it where that is due. With end it is the
// last of the answer.
func (x *exchange) push(p []byte, end bool) (n int, err error) {
	chunk := x.limits.chunk()
	if !x.began {
		x.replied, x.began = true, true
		n = min(len(p), chunk)
		err = x.st.WriteHead(x.code, x.head, p[:n], end && n == len(p))
		if x.head = nil; err != nil {
			return 0, x.gone(err)
		}
		if n == len(p) {
			return n, x.sent(n)
		}
	}
	last := len(p)
	if end {
		last = max(n, len(p)-chunk)
	}
	if n < last {
		m, err := x.st.Write(p[n:last])
		n += m
		if err != nil {
			return n, x.gone(err)
		}
	}
	if end {
		if err := x.st.WriteHead(x.code, nil, p[last:], true); err != nil {
			return n, x.gone(err)
		}
		n = len(p)
	}
	return n, x.sent(n)
}

func (x *exchange) sent(n int) error {
	x.s.sent.Add(float64(n))
	return nil
}

// gone is what a failed write means to the call.
func (x *exchange) gone(err error) error { return macronode.Wrap(macronode.ClientGone, "", err) }

// refuse answers with e. It is the one place where an error becomes OAP/1.
func (x *exchange) refuse(e *macronode.Error) {
	code := e.Kind.Info().Status
	if x.began {
		code = brokenCode
	}
	x.replied, x.began = true, true
	// The client may be gone; then nobody is left to be told.
	_ = x.st.Fail(uint16(code), problem(e, x.call.CorrID, code))
}

// problem is the payload of an error frame.
func problem(e *macronode.Error, corrID string, code int) []byte {
	p := e.Problem(corrID)
	p.Status = code
	doc, err := json.Marshal(&p)
	if err != nil {
		return nil // a problem holds text and numbers alone
	}
	return doc
}
