// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"errors"
	"runtime/debug"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen/oapcall"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

var (
	errTwice     = errors.New("oapd: a second reply")
	errBadStream = errors.New("oapd: an error as a stream")
	errNoAnswer  = errors.New("oapd: the call ended without reply or error")
)

// headBytes is what most heads of answers fit in.
const headBytes = 512

// exchange is one stream with its call and answer: a single allocation.
type exchange struct {
	s      *Service
	limits *Limits
	st     *mux.Stream

	call macronode.Call
	body body
	out  oapcall.Output
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
	if !s.flight.Enter() {
		// It cannot fail but on a stream that is over.
		_ = st.Fail(oapcall.Problem(macronode.Errorf(macronode.Draining, ""), "none", false))
		return
	}
	defer s.flight.Leave()
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
	s.in.Add(float64(x.body.n))
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
	c.Peer = *p
	var first []byte
	if x.st.Start().PayloadLen() > 0 {
		var err error
		if first, err = x.st.Head(); err != nil {
			return macronode.Wrap(macronode.ClientGone, "", err)
		}
	}
	head, n, err := oap.ParseRequestHead(first)
	if err != nil {
		x.s.conf.Metrics.reject(err)
		c.CorrID = "none"
		return oapcall.Refused(err)
	}
	if err := oapcall.Fill(c, x.st.Start(), x.st.Cap(), &head); err != nil {
		return err
	}
	if x.hidden() {
		return macronode.Errorf(macronode.NotFound, "operators' operations are served elsewhere")
	}
	return x.withBody(n, len(first)-n)
}

// withBody gives the call its body: what follows the head. rest is how much of it
// has come with the head.
func (x *exchange) withBody(head, rest int) *macronode.Error {
	c := &x.call
	x.st.Skip(head)
	if x.st.Start().Flags&oap.END == 0 {
		c.Body = &x.body
		return nil
	}
	// All of it is here.
	if c.Length >= 0 && c.Length != int64(rest) {
		return macronode.Errorf(macronode.Malformed, "the body is not as long as announced")
	}
	if c.Length = int64(rest); rest > 0 {
		c.Body = &x.body
	}
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
	// It cannot fail but on a stream that is over.
	_ = x.st.Fail(oapcall.Problem(macronode.Errorf(macronode.Timeout, lateText), x.call.CorrID, false))
}

// send writes a reply. It is the macronode.Send of the call.
func (x *exchange) send(r *macronode.Reply) error {
	if x.replied {
		return macronode.Wrap(macronode.Internal, "", errTwice)
	}
	h := oapcall.Answer(&x.call, r)
	if x.code = h.Code; h.Code >= 400 {
		return x.sendError(r)
	}
	var err error
	if x.head, err = h.Append(make([]byte, 0, headBytes)); err != nil {
		return macronode.Wrap(macronode.Internal, "", err)
	}
	switch {
	case oapcall.Empty(&x.call, h.Code):
		_, err = x.Push(nil, true)
	case r.Stream == nil:
		_, err = x.Push(r.Body, true)
	default:
		err = x.out.Send(x, &x.s.buffers, h.Length, r.Stream)
	}
	return err
}

// sendError writes a reply that is no success, such as that of a node that is not
// ready: on this wire an error frame, whose payload is the reply's body.
func (x *exchange) sendError(r *macronode.Reply) error {
	if r.Stream != nil {
		return macronode.Wrap(macronode.Internal, "", errBadStream)
	}
	x.replied, x.began = true, true
	if err := x.st.Fail(x.code, r.Body); err != nil {
		return x.gone(err)
	}
	return nil
}

// Push implements oapcall.Sink: it sends p, with the head before it where that is due. With end it is the
// last of the answer.
func (x *exchange) Push(p []byte, end bool) (n int, err error) {
	chunk := x.limits.chunk()
	if !x.began {
		x.replied, x.began = true, true
		n = min(len(p), chunk)
		err = x.st.WriteHead(x.code, x.head, p[:n], end && n == len(p))
		if x.head = nil; err != nil {
			return 0, x.gone(err)
		}
		if n == len(p) {
			x.s.out.Add(float64(n))
			return n, nil
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
	x.s.out.Add(float64(n))
	return n, nil
}

// gone is what a failed write means to the call.
func (x *exchange) gone(err error) error { return macronode.Wrap(macronode.ClientGone, "", err) }

// refuse answers with e. It is the one place where an error becomes OAP/1.
func (x *exchange) refuse(e *macronode.Error) {
	began := x.began
	x.replied, x.began = true, true
	// The client may be gone; then nobody is left to be told.
	_ = x.st.Fail(oapcall.Problem(e, x.call.CorrID, began))
}
