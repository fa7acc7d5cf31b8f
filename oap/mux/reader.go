// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"errors"
	"io"
	"time"

	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

const (
	// smallBytes is what an idle session reads into.
	smallBytes = 1 << 10
	// calm is how long nothing comes before the block is given back.
	calm = 100 * time.Millisecond
	// leastRead is what a block in use must have room for, to be read into.
	leastRead = 32 << 10
	// maxHelloBytes bounds the first frame's payload.
	maxHelloBytes = 4 << 10
)

// reader cuts frames from what comes. It belongs to the goroutine in Run.
type reader struct {
	s     *Session
	small []byte
	block *flow.Buffer // nil: small is in use
	start int          // of what is not yet cut
	end   int
	need  int  // bytes until the next frame is whole
	full  bool // the last read filled a block that is shared: many frames come

	alarm time.Time // the deadline that is set
	came  time.Time // the last byte
	begun time.Time // the session
}

func (r *reader) store() []byte {
	if r.block != nil {
		return r.block.B[:cap(r.block.B)]
	}
	return r.small
}

func (r *reader) release() {
	r.block.Free()
	r.block = nil
}

// loop returns why the connection ends.
func (r *reader) loop() error {
	r.small = make([]byte, smallBytes)
	r.begun = time.Now()
	r.came = r.begun
	for {
		if err := r.cut(); err != nil {
			return err
		}
		if err := r.read(); err != nil {
			return err
		}
	}
}

// cut acts on the whole frames that are there.
func (r *reader) cut() error {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	r.need = oap.HeaderBytes
	frames := false
	for r.end-r.start >= oap.HeaderBytes {
		b := r.store()[r.start:r.end]
		h, err := oap.ParseHeader(b, s.maxFrame)
		if bad, ok := errors.AsType[*oap.Error](err); ok {
			return flow.Malformed(bad, &h)
		}
		if f := s.sized(&h); f != nil {
			f.Header = h
			return f
		}
		n := int(h.Len)
		if len(b) < n {
			r.need = n
			break
		}
		r.start += n
		frames = true
		if f := s.frame(r, &h, b[oap.HeaderBytes:n:n]); f != nil {
			if bad, ok := f.(*flow.Fault); ok {
				bad.Header = h
			}
			return f
		}
	}
	if frames {
		s.activity, s.heard = r.came, r.came
		s.kick()
		for len(s.t.Urgent) > maxUrgent && !s.over {
			s.drained.Wait()
		}
	}
	return nil
}

// give hands over the block whose last cut frame somebody keeps. A side that sets
// windows aside shares it among the frames that are in it; else a frame would make a
// connection hold the frames around it too, uncounted.
func (r *reader) give() *flow.Buffer {
	b := r.block
	if r.s.cfg.SetAside {
		return b.Share()
	}
	fresh := flow.NewBuffer(flow.BlockBytes)
	fresh.B = fresh.B[:cap(fresh.B)]
	rest := b.B[r.start:r.end]
	if len(rest) > len(fresh.B) {
		fresh = flow.NewBuffer(len(rest))
	}
	r.end = copy(fresh.B, rest)
	r.start, r.block = 0, fresh
	return b
}

// makeRoom sees to it that a read has room for what is needed. More than a
// block is set aside only as it comes.
func (r *reader) makeRoom() {
	have, store := r.end-r.start, r.store()
	if r.block != nil && r.block.Shared() {
		if r.start+r.need <= len(store) && len(store)-r.end >= min(leastRead, r.need-have) {
			return
		}
		r.fresh(r.need)
		return
	}
	switch {
	case have == 0:
		r.start, r.end = 0, 0
	case r.start > 0 && r.start+r.need > len(store):
		r.end = copy(store, store[r.start:r.end])
		r.start = 0
	}
	if r.need <= len(store) || (r.end < len(store) && r.block != nil) {
		return
	}
	r.fresh(min(r.need, 2*have))
}

// fresh goes on in another block, of at least n bytes.
func (r *reader) fresh(n int) {
	n = max(flow.BlockBytes, n)
	if r.full {
		n = max(n, flow.SpanBytes)
	}
	b := flow.NewBuffer(n)
	b.B = b.B[:cap(b.B)]
	r.end = copy(b.B, r.store()[r.start:r.end])
	r.release()
	r.block, r.start = b, 0
}

// read waits for bytes.
func (r *reader) read() error {
	r.makeRoom()
	for {
		now := time.Now()
		if err := r.arm(now); err != nil {
			return err
		}
		store := r.store()
		n, err := r.s.conn.Read(store[r.end:])
		if n > 0 {
			r.came = time.Now()
			r.end += n
			r.full = r.s.cfg.SetAside && (r.end == len(store) || r.full && n >= flow.WholeBytes)
			if r.block == nil && r.end == len(store) {
				// There is more: take it in one read.
				r.block = flow.NewBuffer(flow.BlockBytes)
				r.end = copy(r.block.B, store[r.start:r.end])
				r.start = 0
			}
			return nil
		}
		switch {
		case err == nil:
			continue
		case isTimeout(err):
			if err := r.woken(time.Now()); err != nil {
				return err
			}
		case err == io.EOF && r.end > r.start:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// limit is when a read that begins at now has taken too long. The session is
// locked.
func (r *reader) limit(now time.Time) time.Time {
	s := r.s
	var at time.Time
	switch {
	case r.end > r.start:
		at = r.came.Add(s.cfg.StallTimeout)
	case s.open > 0:
		at = now.Add(s.cfg.IdleTimeout)
	case s.activity.After(r.came):
		at = s.activity.Add(s.cfg.IdleTimeout)
	default:
		at = r.came.Add(s.cfg.IdleTimeout)
	}
	if by := r.begun.Add(s.cfg.HelloTimeout); !s.greeted && by.Before(at) {
		at = by
	}
	if c := now.Add(calm); r.block != nil && r.end == r.start && c.Before(at) {
		at = c
	}
	return at
}

// arm sets the deadline, if the one that is set is too late, or so early that
// it would wake somebody for nothing. It returns why the session ends, if it is
// about to.
func (r *reader) arm(now time.Time) error {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	at := r.limit(now)
	if r.alarm.After(at) || r.alarm.Before(now.Add(min(calm/2, at.Sub(now)/2))) {
		r.alarm = at
		s.conn.SetReadDeadline(at)
	}
	// Whoever ends the session changes its state first, under the lock, and the
	// deadline then.
	switch {
	case s.over:
		return s.err
	case s.t.Finished() && !s.writing:
		return ErrDraining
	}
	return nil
}

// woken decides what a deadline means.
func (r *reader) woken(now time.Time) error {
	r.alarm = time.Time{}
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return s.err
	case s.t.Finished() && !s.writing:
		return ErrDraining
	case !s.greeted && now.Sub(r.begun) >= s.cfg.HelloTimeout:
		if s.cfg.Opener {
			return errHello
		}
		return flow.Faultf(flow.ReasonHello, "no HELLO in time")
	case r.end > r.start && now.Sub(r.came) >= s.cfg.StallTimeout:
		s.cfg.Observe.Reject(flow.ReasonStalled)
		return errTruncated
	case r.end == r.start && s.open == 0 && now.Sub(s.activity) >= s.cfg.IdleTimeout && now.Sub(r.came) >= s.cfg.IdleTimeout:
		return errIdle
	}
	if r.end == r.start && now.Sub(r.came) >= calm {
		r.release()
		r.start, r.end = 0, 0
	}
	return nil
}
