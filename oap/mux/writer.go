// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mux

import (
	"encoding/binary"
	"encoding/json"
	"runtime"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

var longAgo = time.Unix(1, 0)

func marshal(v any) ([]byte, error) { return json.Marshal(v) }

// kick sees to all that follows from a change of the table. It is called with
// the session locked, after every change.
func (s *Session) kick() {
	t := &s.t
	for i, l := range t.Shut {
		t.Shut[i] = nil
		if l.Owner != nil {
			owner(l).closed()
		}
	}
	t.Shut = t.Shut[:0]
	if s.over {
		return
	}
	if len(s.waiting) > 0 {
		s.release()
	}
	if t.Freed {
		t.Freed = false
		s.wake()
	}
	open := len(t.Lines) + t.Opening
	if open == 0 && s.open > 0 {
		s.activity = time.Now()
	}
	s.open = open
	if !s.writing && t.Pending() {
		s.writing = true
		go s.write()
	}
	if !s.ackArmed && t.Owes() {
		s.ackArmed = true
		s.ackTimer = after(s.ackTimer, ackDelay, s.ackDue)
	}
	if !s.stallOn && open > 0 {
		s.stallOn = true
		s.stall = after(s.stall, s.cfg.StallTimeout/4, s.look)
	}
	if !s.writing && t.Finished() {
		s.conn.SetReadDeadline(longAgo)
	}
}

func after(t *time.Timer, d time.Duration, f func()) *time.Timer {
	if t == nil {
		return time.AfterFunc(d, f)
	}
	t.Reset(d)
	return t
}

// ackDue is the ACK timer.
func (s *Session) ackDue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackArmed = false
	s.t.Flush()
	s.kick()
}

// look gives up streams that stand still.
func (s *Session) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stallOn = false
	if s.over {
		return
	}
	now := time.Now()
	slow, left := s.t.Stalled(now, s.cfg.StallTimeout)
	slow = s.starved(now, slow)
	for _, l := range slow {
		s.cfg.Observe.Reject(flow.ReasonStalled)
		if l.Mine {
			s.t.Cancel(l)
		} else {
			s.t.Fail(l, 408, flow.FrameBuffer(problem(&l.Head, macronode.Timeout, "the answer was not read in time")))
		}
		owner(l).fail(ErrStalled)
	}
	for _, l := range left {
		s.cfg.Observe.Reject(flow.ReasonStalled)
		s.t.Close(l, true)
	}
	s.kick()
}

// write is the writer: it exists while there is something to write.
func (s *Session) write() {
	// Let those run who are about to have something too: one write is for all.
	runtime.Gosched()
	batch := flow.NewBuffer(flow.BlockBytes)
	defer batch.Free()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.over {
		b, whole := s.gather(batch.B[:0])
		s.kick()
		if len(b) == 0 && whole == nil {
			break
		}
		s.mu.Unlock()
		err := s.flush(b, whole)
		s.mu.Lock()
		if err != nil {
			s.mu.Unlock()
			s.end(err)
			s.mu.Lock()
		}
		s.drained.Broadcast()
	}
	s.writing = false
	s.kick()
	s.drained.Broadcast()
}

// flush writes small frames and one large one.
func (s *Session) flush(b []byte, whole *flow.Buffer) error {
	now := time.Now()
	if s.writeBy.Sub(now) < s.cfg.WriteTimeout*3/4 {
		s.writeBy = now.Add(s.cfg.WriteTimeout)
		s.conn.SetWriteDeadline(s.writeBy)
	}
	var err error
	if len(b) > 0 {
		_, err = s.conn.Write(b)
	}
	if whole != nil {
		if err == nil {
			_, err = s.conn.Write(whole.B)
		}
		whole.Free()
	}
	return err
}

// gather takes what can be written now: small frames behind each other in b,
// and at most one large frame after them.
func (s *Session) gather(b []byte) ([]byte, *flow.Buffer) {
	now := time.Now()
	for cap(b)-len(b) >= flow.WholeBytes+128 {
		f, ok := s.t.Take(now)
		if !ok {
			return b, nil
		}
		s.cfg.Observe.Frame(true, f.Kind)
		if f.Line != nil && f.Line.Owner != nil {
			owner(f.Line).wrote()
		}
		n := oap.HeaderBytes
		switch {
		case f.Buf != nil:
			n = len(f.Buf.B)
		case f.Counter:
			n += 8
		}
		f.Header.Len = uint32(n)
		if n >= flow.WholeBytes {
			put(f.Buf.B, &f)
			return b, f.Buf
		}
		at := len(b)
		if b = b[:at+n]; f.Buf != nil {
			copy(b[at:], f.Buf.B)
			f.Buf.Free()
		}
		put(b[at:], &f)
	}
	return b, nil
}

// put writes the header, and the counter of a frame that is one.
func put(b []byte, f *flow.Frame) {
	if err := oap.PutHeader(b, f.Header); err != nil {
		panic(err) // every frame is made here, from parts that were checked
	}
	if f.Counter {
		binary.BigEndian.PutUint64(b[oap.HeaderBytes:], f.Count)
	}
}
