// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"slices"
	"time"

	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

// WriteHead begins the answer: code is below 400 (Fail is for the others), head
// its CBOR head, body the body or its beginning, and end says that this is all.
// Later calls, with no head, send more body.
func (st *Stream) WriteHead(code uint16, head, body []byte, end bool) error {
	s := st.s
	switch {
	case st.line.Mine || code >= 400 || code == 0 || (st.headed && len(head) > 0):
		return errOrder
	case len(head) > maxHeadBytes || len(head) > s.peer.MaxFrame-oap.HeaderBytes:
		return errTooLong
	}
	for {
		room := min(s.chunk, s.peer.MaxFrame-oap.HeaderBytes-len(head))
		n := min(room, len(body))
		last := n == len(body)
		h := oap.Header{Flags: oap.RESP, Code: code}
		if end && last {
			h.Flags |= oap.END
		}
		if err := st.put(h, head, body[:n]); err != nil || last {
			return err
		}
		head, body = nil, body[n:]
	}
}

// Write sends body bytes. It returns when they are queued, so at most two frames are
// behind it, or, of many bytes, which are not copied, when they are written.
func (st *Stream) Write(p []byte) (n int, err error) {
	h, err := st.dataHeader()
	if err != nil {
		return 0, err
	}
	room := min(st.s.chunk, st.s.peer.MaxFrame-oap.HeaderBytes)
	if len(p) >= flow.WholeBytes {
		return st.lend(h, p, room)
	}
	for n < len(p) {
		m := min(room, len(p)-n)
		if err := st.put(h, nil, p[n:n+m]); err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

func (st *Stream) dataHeader() (oap.Header, error) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.line.Mine {
		return oap.Header{Flags: oap.REQ}, nil
	}
	if !st.headed {
		return oap.Header{}, errOrder
	}
	return oap.Header{Flags: oap.RESP, Code: st.code}, nil
}

// put queues one frame, once the windows have room for it: what waits for a client
// that does not read waits with the caller, not in copies here.
func (st *Stream) put(h oap.Header, head, body []byte) error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	counted := len(head)+len(body) > 0
	st.awaitTurn(counted)
	var buf *flow.Buffer
	if counted && st.writable() == nil {
		s.t.Reserve()
		s.mu.Unlock()
		buf = flow.FrameBuffer(head, body)
		s.mu.Lock()
		s.t.Restore()
	}
	if err := st.writable(); err != nil {
		buf.Free()
		s.wake()
		return err
	}
	if !st.line.Mine {
		st.headed, st.code = true, h.Code
	}
	s.t.Enqueue(st.line, flow.Frame{Header: h, Buf: buf, Kind: flow.KindData, Counted: buf != nil})
	s.wake()
	s.kick()
	return nil
}

// lend sends p from where it is, in frames of at most room bytes. Where nobody else
// writes, the caller does.
func (st *Stream) lend(h oap.Header, p []byte, room int) (n int, err error) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(p) {
		st.awaitTurn(true)
		if err = st.writable(); err != nil {
			s.wake()
			break
		}
		for its := true; n < len(p) && its; its = s.turn(st, true) {
			m := min(room, len(p)-n)
			s.t.Enqueue(st.line, flow.Frame{Header: h, Buf: flow.Lend(p[n:n+m:n+m], &st.lent), Kind: flow.KindData, Counted: true})
			n += m
		}
		s.wake()
		if !s.writing && !s.over {
			s.writing = true
			s.writeOut(st)
		}
		s.kick()
	}
	for st.lent > 0 {
		st.cond.Wait()
	}
	if err == nil {
		err = st.werr // what was queued may have been dropped
	}
	return n, err
}

// writable says why nothing can be queued any more.
func (st *Stream) writable() error {
	switch {
	case st.werr != nil:
		return st.werr
	case st.line.OutEnd || st.line.Gone:
		return errEnded
	}
	return nil
}

// awaitTurn waits until a frame can be queued, behind those who have waited longer.
func (st *Stream) awaitTurn(counted bool) {
	s, waited := st.s, false
	for st.writable() == nil && !s.turn(st, counted) {
		if !waited {
			waited, st.since = true, time.Now()
			s.blocked = append(s.blocked, st)
		}
		st.cond.Wait()
	}
	if waited {
		s.blocked = slices.DeleteFunc(s.blocked, func(b *Stream) bool { return b == st })
	}
}

// turn reports whether st may queue a frame now.
func (s *Session) turn(st *Stream, counted bool) bool {
	if st.line.Queued() >= maxQueue {
		return false
	}
	if !counted {
		return true
	}
	if !s.t.Room(st.line) {
		return false
	}
	for _, b := range s.blocked {
		if b == st {
			break
		}
		if b.line.Queued() < maxQueue && s.t.Room(b.line) {
			return false
		}
	}
	return true
}

// wake wakes the first of those who wait that can go on; it wakes the next.
func (s *Session) wake() {
	for _, b := range s.blocked {
		if b.line.Queued() < maxQueue && s.t.Room(b.line) {
			b.cond.Broadcast()
			return
		}
	}
}

// starved adds those to slow whose frames wait for a connection's window in which
// nothing has moved for too long.
func (s *Session) starved(now time.Time, slow []*flow.Line) []*flow.Line {
	if a := s.t.AckedOut(); a != s.lastAcked {
		s.lastAcked, s.ackedAt = a, now
	}
	if now.Sub(s.ackedAt) < s.cfg.StallTimeout {
		return slow
	}
	for _, b := range s.blocked {
		if now.Sub(b.since) >= s.cfg.StallTimeout && !s.t.Room(b.line) && !slices.Contains(slow, b.line) {
			slow = append(slow, b.line)
		}
	}
	return slow
}

// CloseWrite ends this direction.
func (st *Stream) CloseWrite() error {
	h, err := st.dataHeader()
	if err != nil {
		return err
	}
	h.Flags |= oap.END
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.line.OutEnd {
		return nil
	}
	if st.werr != nil {
		return st.werr
	}
	st.s.t.Enqueue(st.line, flow.Frame{Header: h, Kind: flow.KindData})
	st.s.kick()
	return nil
}

// Fail answers with an error, code at least 400, and closes both directions;
// what was queued and not written is not sent. On a stream that is over it does
// nothing; on one that this side opened it is Cancel.
func (st *Stream) Fail(code uint16, problem []byte) error {
	if st.line.Mine {
		return st.Cancel()
	}
	if code < 400 || len(problem) > st.s.peer.MaxFrame-oap.HeaderBytes {
		return errTooLong
	}
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.line.Gone || s.over {
		return st.werr
	}
	var buf *flow.Buffer
	if len(problem) > 0 {
		buf = flow.FrameBuffer(problem)
	}
	s.t.Fail(st.line, code, buf)
	st.code = code
	st.fail(errEnded)
	s.kick()
	return nil
}

// Cancel ends both directions. On the side that did not open the stream it is an
// error answer of code 499.
func (st *Stream) Cancel() error {
	if !st.line.Mine {
		return st.Fail(oap.CodeCancel, nil)
	}
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over && !st.line.Gone {
		s.t.Cancel(st.line)
		st.fail(ErrCanceled)
		s.kick()
	}
	return nil
}

// Close gives up what is left of the stream: an answer that is not complete is
// an error (500, or 502 after its head), a call that is not complete is
// cancelled, and what came and was not read is dropped. It is for both sides to
// call once they are done.
func (st *Stream) Close() error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		st.dropIn()
		return nil
	}
	switch l := st.line; {
	case l.Gone:
	case l.Mine:
		s.t.Cancel(l)
	case !l.OutEnd:
		code := uint16(500)
		if st.headed {
			code = 502
		}
		s.t.Fail(l, code, nil)
	default:
		s.t.Ignore(l)
	}
	if st.line.Gone && !st.line.Discarded {
		s.t.Close(st.line, true) // gives back what nobody will read
	}
	st.dropIn()
	if st.rerr == nil {
		st.rerr = errEnded
	}
	if st.werr == nil {
		st.werr = errEnded
	}
	st.cond.Broadcast()
	s.kick()
	return nil
}
