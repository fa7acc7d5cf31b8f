// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

// maxQueue is how many frames of a stream wait for their turn; then its writer
// does.
const maxQueue = 2

// Stream is one call, seen from one of its sides. One goroutine at a time may
// read it and one write it; Fail, Cancel and Close may be called at any time.
type Stream struct {
	s          *Session
	start      oap.Header
	capability []byte

	// Under the session's lock.
	line   *flow.Line
	cond   sync.Cond
	in     []piece
	code   uint16    // of the answer
	began  bool      // a frame of the other side came
	headed bool      // the answer's head is queued
	since  time.Time // when its writer began to wait
	rerr   error
	werr   error
	ctx    context.Context
	cancel context.CancelCauseFunc
	held   int // bytes of cur that count as buffered
	lent   int // frames with its writer's own bytes, queued or being written

	// Of the goroutine that reads.
	cur   piece
	inCur bool
}

// piece is a counted frame's payload.
type piece struct {
	data []byte // what is not yet read
	buf  *flow.Buffer
	size int
}

func newStream(s *Session, l *flow.Line, h *oap.Header) *Stream {
	st := &Stream{s: s, start: *h, line: l}
	l.Owner = st
	st.cond.L = &s.mu
	return st
}

// owner is the stream of l.
func owner(l *flow.Line) *Stream { return l.Owner.(*Stream) }

// Start says how a stream begins.
type Start struct {
	App    uint16
	Tenant macronode.TenantID
	Cap    []byte // capability, at most 64 KiB
	Head   []byte // the request's head, at most 8 KiB
	Body   []byte // the body, or its beginning
	End    bool   // Body is all
	Flags  oap.Flags
}

// Open opens a stream. It waits for HELLO, and while as many streams are open as
// the other side takes; ctx bounds that alone, not the stream. ErrDraining says
// that this session opens no more.
func (s *Session) Open(ctx context.Context, o Start) (*Stream, error) {
	if err := s.await(ctx, s.ready); err != nil {
		return nil, err
	}
	room := s.peer.MaxFrame - oap.HeaderBytes - len(o.Cap) - len(o.Head)
	if len(o.Cap) > 0xffff || len(o.Head) > maxHeadBytes || room < 0 {
		return nil, errTooLong
	}
	if !s.cfg.Opener && !s.cfg.Both {
		return nil, errors.New("mux: this side opens no streams")
	}
	first := o.Body[:min(len(o.Body), s.chunk, room)]
	rest := o.Body[len(first):]
	buf := flow.FrameBuffer(o.Cap, o.Head, first)
	h := oap.Header{Flags: oap.REQ | oap.START | o.Flags&oap.APPE2E, CapLen: uint16(len(o.Cap)), App: o.App, Tenant: o.Tenant}
	if o.End && len(rest) == 0 {
		h.Flags |= oap.END
	}
	s.mu.Lock()
	if err := s.place(ctx); err != nil {
		s.mu.Unlock()
		buf.Free()
		return nil, err
	}
	st := newStream(s, &flow.Line{Head: oap.Header{App: o.App, Tenant: o.Tenant}}, &h)
	s.t.Open(st.line)
	s.t.Enqueue(st.line, flow.Frame{Header: h, Buf: buf, Kind: flow.KindStart, Counted: len(o.Head)+len(first) > 0})
	s.kick()
	s.mu.Unlock()
	if len(rest) > 0 {
		if _, err := st.Write(rest); err != nil {
			return st, nil // what ended it is said by reading
		}
		if o.End {
			st.CloseWrite()
		}
	}
	return st, nil
}

// place waits until a stream may be opened.
func (s *Session) place(ctx context.Context) error {
	for {
		switch {
		case s.over:
			return s.err
		case s.t.Draining || s.t.GoneAway:
			return ErrDraining
		case s.t.MineNow < s.t.Out.Streams:
			return nil
		}
		c := make(chan struct{})
		s.waiting = append(s.waiting, c)
		s.mu.Unlock()
		var err error
		select {
		case <-c:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		s.mu.Lock()
		if err != nil {
			s.forget(c)
			return err
		}
	}
}

// forget takes one who waited out of the queue; a place that was already given
// goes to the next.
func (s *Session) forget(c chan struct{}) {
	for i, w := range s.waiting {
		if w == c {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return
		}
	}
	s.release()
}

// handle runs the handler of a stream that the other side opened.
func (st *Stream) handle() {
	deepen()
	st.s.cfg.Handle(st)
	st.Close()
}

// deepen makes room on the stack of a new goroutine while there is hardly anything
// on it. What handles a call goes deep: else the stack would be copied several times
// on the way, each time with more on it.
//
//go:noinline
func deepen() {
	var room [8 << 10]byte
	keep(&room)
}

//go:noinline
func keep(*[8 << 10]byte) {}

// Start is the header of the stream's first frame; Corr is 0 where this side
// opened it.
func (st *Stream) Start() *oap.Header { return &st.start }

// Cap is the capability that came with the first frame.
func (st *Stream) Cap() []byte { return st.capability }

// Code is the answer's status, 0 before there is one.
func (st *Stream) Code() uint16 {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	return st.code
}

// Context ends with the stream or the session; its cause says why.
func (st *Stream) Context() context.Context {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.ctx == nil {
		st.ctx, st.cancel = context.WithCancelCause(st.s.ctx)
		if st.line.Gone {
			st.cancel(st.rerr)
		}
	}
	return st.ctx
}

// fail ends both directions and drops what was not read; but where the other
// side had ended and the session is what failed, that can still be read.
func (st *Stream) fail(err error) {
	if st.werr == nil {
		st.werr = err
	}
	if !st.line.InEnd || st.line.Discarded {
		if st.rerr == nil {
			st.rerr = err
		}
		st.dropIn()
	}
	if st.cancel != nil {
		st.cancel(err)
	}
	st.cond.Broadcast()
}

func (st *Stream) dropIn() {
	for _, p := range st.in {
		st.s.buffered -= p.size
		p.buf.Free()
	}
	st.in = nil
	st.s.buffered -= st.held
	st.held = 0
}

// closed is called when the stream left the table.
func (st *Stream) closed() {
	if st.werr == nil {
		st.werr = errEnded
	}
	if st.cancel != nil {
		st.cancel(st.rerr)
	}
	st.cond.Broadcast()
}

// wrote is called when a frame of the stream goes out.
func (st *Stream) wrote() { st.cond.Broadcast() }

// fill makes cur the next payload, unless it is not used up.
func (st *Stream) fill() error {
	if st.inCur {
		return nil
	}
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(st.in) == 0 {
		switch {
		case st.rerr != nil:
			return st.rerr
		case st.line.InEnd:
			return io.EOF
		}
		st.cond.Wait()
	}
	st.cur, st.inCur = st.in[0], true
	st.held = st.cur.size
	st.in[0] = piece{}
	if st.in = st.in[1:]; len(st.in) == 0 {
		st.in = nil
	}
	return nil
}

// used takes n bytes off cur; what is used up is acknowledged.
func (st *Stream) used(n int) {
	st.cur.data = st.cur.data[n:]
	if len(st.cur.data) > 0 {
		return
	}
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buffered -= st.held
	st.held = 0
	s.t.Consume(st.line, 1)
	st.cur.buf.Free()
	st.cur, st.inCur = piece{}, false
	s.kick()
}

// Read reads the body of the other direction; io.EOF is its end. It copies: see
// WriteTo.
func (st *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := st.fill(); err != nil {
		return 0, err
	}
	n := copy(p, st.cur.data)
	st.used(n)
	return n, nil
}

// WriteTo writes the rest of the body to w, without copying it.
func (st *Stream) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if err := st.fill(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		m, err := w.Write(st.cur.data)
		n += int64(m)
		if err == nil && m < len(st.cur.data) {
			err = io.ErrShortWrite
		}
		st.used(m)
		if err != nil {
			return n, err
		}
	}
}

// Head waits for the other direction's first payload and returns what of it is
// not yet read: a CBOR head, and body bytes where any came with it. Skip cuts
// the head off. The bytes of a first payload stay valid.
func (st *Stream) Head() ([]byte, error) {
	err := st.fill()
	return st.cur.data, err
}

// Skip goes on n bytes, which Head has shown.
func (st *Stream) Skip(n int) {
	if st.inCur {
		st.used(min(n, len(st.cur.data)))
	}
}
