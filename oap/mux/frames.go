// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bytes"
	"errors"
	"slices"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

// sized refuses a frame that no honest side sends, from its header alone.
func (s *Session) sized(h *oap.Header) *flow.Fault {
	switch {
	case !s.greeted:
		if h.PayloadLen() > maxHelloBytes {
			return flow.Faultf(flow.ReasonHello, "the first frame must be HELLO")
		}
		return nil
	case h.Flags&oap.EVENT != 0:
		if h.PayloadLen() > 8 {
			return flow.Faultf(flow.ReasonControl, "an unknown control frame")
		}
		return nil
	case s.cfg.Opener && !s.cfg.Both:
		return nil // the node's chunks may be larger than this side's
	}
	limit := s.cfg.ChunkBytes
	if h.Flags&(oap.START|oap.RESP) != 0 {
		limit += maxHeadBytes
	}
	if h.PayloadLen() > limit {
		return flow.Faultf(flow.ReasonChunk, "more payload than a chunk")
	}
	return nil
}

// frame acts on one frame; b is what follows its header.
func (s *Session) frame(r *reader, h *oap.Header, b []byte) error {
	capability, payload := b[:h.CapLen], b[h.CapLen:]
	switch {
	case !s.greeted:
		return s.hello(h, payload)
	case h.Flags&oap.EVENT != 0:
		if f := s.event(h, payload, r); f != nil {
			return f
		}
		return nil
	}
	l, v, f := s.t.Arrive(h, r.came)
	if f != nil {
		return f
	}
	if h.Flags&oap.ACKREQ != 0 {
		s.t.AckConn = true
	}
	switch v {
	case flow.Deliver:
		s.cfg.Observe.Frame(false, flow.KindData)
		return s.deliver(r, owner(l), h, nil, payload)
	case flow.Opened:
		s.cfg.Observe.Frame(false, flow.KindStart)
		st := newStream(s, l, h)
		if err := s.deliver(r, st, h, capability, payload); err != nil {
			return err
		}
		if !st.line.Gone {
			go st.handle()
		}
	case flow.Drop:
		s.cfg.Observe.Frame(false, flow.KindDropped)
	case flow.Busy, flow.Leaving:
		s.cfg.Observe.Frame(false, flow.KindStart)
		s.refuse(h, v)
	case flow.Ended:
		if h.IsCancel() {
			s.cfg.Observe.Frame(false, flow.KindCancel)
			owner(l).fail(ErrCanceled)
			break
		}
		s.cfg.Observe.Frame(false, flow.KindError)
		e := &StreamError{Code: h.Code, Problem: bytes.Clone(payload)}
		if s.t.GoneAway && h.Corr > s.t.AwayLast {
			e.cause = ErrDraining
		}
		owner(l).code = h.Code
		owner(l).fail(e)
	}
	return nil
}

// refuse answers a START that opened nothing.
func (s *Session) refuse(h *oap.Header, v flow.Verdict) {
	kind, reason := macronode.Overload, flow.ReasonOverload
	if v == flow.Leaving {
		kind, reason = macronode.Draining, flow.ReasonDraining
	}
	s.cfg.Observe.Reject(reason)
	a := oap.Answer(h, 503, oap.END, nil)
	s.t.Urgent = append(s.t.Urgent, flow.Frame{Header: a.Header, Kind: flow.KindError, Buf: flow.FrameBuffer(problem(h, kind, ""))})
}

// deliver gives a frame's payload to its stream.
func (s *Session) deliver(r *reader, st *Stream, h *oap.Header, capability, payload []byte) error {
	if h.Flags&oap.RESP != 0 && st.code == 0 {
		st.code = h.Code
	}
	p, err := s.piece(r, st, h, capability, payload)
	if err != nil {
		return err
	}
	if size := len(p.data) + len(st.capability); !s.cfg.SetAside && s.buffered+size > maxBuffered {
		p.buf.Free()
		s.cfg.Observe.Reject(flow.ReasonOverload)
		s.t.Fail(st.line, 503, flow.FrameBuffer(problem(h, macronode.Overload, "")))
		st.fail(&StreamError{Code: 503})
		return nil
	}
	if h.Counted() {
		p.size = len(p.data)
		s.buffered += p.size
		st.in = append(st.in, p)
	}
	if st.line.OutEnd && st.werr == nil && st.line.Mine {
		st.werr = ErrAnswered
	}
	s.t.Settle(st.line)
	st.cond.Broadcast()
	return nil
}

// piece is a payload as a stream keeps it. First frames are copied into memory
// of their own, because capabilities and heads are kept.
func (s *Session) piece(r *reader, st *Stream, h *oap.Header, capability, payload []byte) (piece, error) {
	if h.Flags&oap.COMP != 0 && len(payload) > 0 {
		var err error
		if payload, err = s.expand(h, payload); err != nil {
			return piece{}, err
		}
		st.capability = bytes.Clone(capability)
		st.began = true
		return piece{data: payload}, nil
	}
	if !st.began {
		st.began = true
		own := make([]byte, len(capability)+len(payload))
		n := copy(own, capability)
		copy(own[n:], payload)
		st.capability = own[:n:n]
		return piece{data: own[n:]}, nil
	}
	if len(payload) < flow.WholeBytes || r.block == nil {
		if len(payload) == 0 {
			return piece{}, nil
		}
		b := flow.NewBuffer(len(payload))
		copy(b.B, payload)
		return piece{data: b.B, buf: b}, nil
	}
	return piece{data: payload, buf: r.give()}, nil
}

func (s *Session) expand(h *oap.Header, payload []byte) ([]byte, error) {
	if s.cfg.Expand == nil {
		return nil, flow.Faultf(flow.ReasonComp, "compressed payloads are not taken here")
	}
	limit := s.cfg.ChunkBytes
	switch {
	case s.cfg.Opener && !s.cfg.Both:
		limit = oap.MaxFrameBytes
	case h.Flags&(oap.START|oap.RESP) != 0:
		limit += maxHeadBytes
	}
	out, err := s.cfg.Expand(nil, payload, limit)
	if bad, ok := errors.AsType[*oap.Error](err); ok {
		return nil, flow.Malformed(bad, h)
	}
	if err != nil {
		return nil, flow.Faultf(flow.ReasonComp, "the payload does not expand")
	}
	return out, nil
}

// hello takes the first frame.
func (s *Session) hello(h *oap.Header, payload []byte) error {
	if s.cfg.Opener {
		return s.welcome(h, payload)
	}
	if !h.IsHello() {
		return flow.Faultf(flow.ReasonHello, "the first frame must be HELLO")
	}
	if _, err := oap.ParseHello(payload); err != nil {
		return flow.Malformed(err.(*oap.Error), h)
	}
	s.cfg.Observe.Frame(false, flow.KindHello)
	doc, err := marshal(s.cfg.Reply)
	if err != nil {
		return err
	}
	a := oap.Answer(h, 200, 0, nil)
	s.t.Urgent = append(s.t.Urgent, flow.Frame{Header: a.Header, Kind: flow.KindHello, Buf: flow.FrameBuffer(doc)})
	s.begin()
	return nil
}

// welcome takes the answer to HELLO.
func (s *Session) welcome(h *oap.Header, payload []byte) error {
	switch {
	case h.Flags&oap.RESP == 0 || h.App != 0:
		return flow.Faultf(flow.ReasonHello, "the first frame must answer HELLO")
	case h.Code >= 400:
		s.cfg.Observe.Frame(false, flow.KindError)
		return &Refused{StreamError{Code: h.Code, Problem: bytes.Clone(payload)}}
	case h.Code != 200 || h.Corr != s.helloID:
		return flow.Faultf(flow.ReasonHello, "the first frame must answer HELLO")
	}
	reply, err := oap.ParseHelloReply(payload)
	if err != nil || reply.MaxFrame <= oap.HeaderBytes || reply.MaxInflight < 1 || reply.MaxStreams < 1 {
		return flow.Faultf(flow.ReasonHello, "the answer to HELLO makes no sense")
	}
	if len(reply.Versions) > 0 && !slices.Contains(reply.Versions, int(oap.Version)) {
		return flow.Faultf(flow.ReasonHello, "the other side does not speak version 1")
	}
	reply.MaxFrame = min(reply.MaxFrame, oap.MaxFrameBytes)
	s.cfg.Observe.Frame(false, flow.KindHello)
	s.peer = reply
	if reply.ChunkBytes > 0 {
		s.chunk = min(s.chunk, reply.ChunkBytes)
	}
	s.begin()
	return nil
}

func (s *Session) begin() {
	s.greeted = true
	s.t.Grant(s.peer.MaxInflight, s.peer.MaxStreams)
	close(s.ready)
}

// event takes a control frame.
func (s *Session) event(h *oap.Header, payload []byte, r *reader) *flow.Fault {
	switch {
	case h.App != 0 || h.Flags&^(oap.EVENT|oap.ACKREQ) != 0:
		return flow.Faultf(flow.ReasonControl, "an unknown control frame")
	case h.Corr == 0 && h.Flags&oap.ACKREQ != 0 && h.Code == 0 && len(payload) == 0:
		s.cfg.Observe.Frame(false, flow.KindPing)
		s.t.Pongs++
		return nil
	}
	n, err := oap.Count(payload)
	switch {
	case err != nil:
		return flow.Malformed(err.(*oap.Error), h)
	case h.Code == oap.CodeGoAway && h.Corr == 0:
		s.cfg.Observe.Frame(false, flow.KindGoAway)
		if !s.t.GoneAway {
			s.t.GoneAway, s.t.AwayLast = true, n
		}
		return nil
	case h.Code != 0:
		return flow.Faultf(flow.ReasonControl, "an unknown control frame")
	}
	if f := s.t.Acknowledged(h.Corr, n, r.came); f != nil {
		return f
	}
	s.cfg.Observe.Frame(false, flow.KindAck)
	if h.Flags&oap.ACKREQ != 0 {
		s.t.AckConn = true
	}
	if h.Corr == 0 {
		for _, p := range s.pings {
			p.done <- r.came.Sub(p.at)
		}
		clear(s.pings)
		s.pings = s.pings[:0]
	}
	return nil
}
