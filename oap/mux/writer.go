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

// maxWriteBytes is about what one write takes: who has little to say does not wait
// for more than that.
const maxWriteBytes = 256 << 10

// out is what is written at once: small frames behind each other in one buffer, and
// large ones from where they are.
type out struct {
	gather Gatherer // nil: frames are joined, as far as there is room
	parts  [][]byte
	whole  []*flow.Buffer // those of parts
	bytes  int
	// lenders are streams whose writers wait for what they lent.
	lenders []*Stream
}

// write is the writer: it exists while there is something to write.
func (s *Session) write() {
	// Let those run who are about to have something too: one write is for all.
	runtime.Gosched()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeOut(nil)
}

// writeOut writes what there is, for a stream as long as something of its own is
// among it. Whoever calls it has made itself the writer, under the lock.
func (s *Session) writeOut(st *Stream) {
	size := flow.BlockBytes
	if s.out.gather == nil {
		size = flow.JoinBytes
	}
	batch := flow.NewBuffer(size)
	defer batch.Free()
	for !s.over && (st == nil || st.lent > 0) {
		s.collect(batch.B[:0])
		s.kick()
		if s.out.bytes == 0 {
			break
		}
		s.mu.Unlock()
		err := s.flush()
		s.mu.Lock()
		s.written()
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

// flush writes what was collected.
func (s *Session) flush() error {
	now := time.Now()
	if s.writeBy.Sub(now) < s.cfg.WriteTimeout*3/4 {
		s.writeBy = now.Add(s.cfg.WriteTimeout)
		s.conn.SetWriteDeadline(s.writeBy)
	}
	o := &s.out
	if len(o.parts) > 1 && o.gather != nil {
		return o.gather.WriteParts(o.parts)
	}
	for _, p := range o.parts {
		if _, err := s.conn.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// written gives back what was collected.
func (s *Session) written() {
	o := &s.out
	for i, b := range o.whole {
		o.whole[i] = nil
		b.Free()
	}
	for i, st := range o.lenders {
		o.lenders[i] = nil
		st.cond.Broadcast()
	}
	clear(o.parts[:cap(o.parts)])
	o.parts, o.whole, o.lenders, o.bytes = o.parts[:0], o.whole[:0], o.lenders[:0], 0
}

// collect takes what can be written now.
func (s *Session) collect(b []byte) {
	now := time.Now()
	o := &s.out
	for cap(b)-len(b) >= flow.WholeBytes+128 && o.bytes < maxWriteBytes {
		f, ok := s.t.Take(now)
		if !ok {
			break
		}
		s.cfg.Observe.Frame(true, f.Kind)
		if f.Line != nil && f.Line.Owner != nil {
			owner(f.Line).wrote()
		}
		n := oap.HeaderBytes
		switch {
		case f.Buf != nil:
			n = f.Buf.Size()
		case f.Counter:
			n += 8
		}
		f.Header.Len = uint32(n)
		o.bytes += n
		if n >= flow.WholeBytes && (o.gather != nil || n > cap(b)-len(b)) {
			put(f.Buf.B, &f)
			o.add(b, f.Buf)
			b = b[len(b):]
			if f.Buf.Lent != nil {
				o.lenders = append(o.lenders, owner(f.Line))
			}
			continue
		}
		at := len(b)
		if b = b[:at+n]; f.Buf != nil {
			copy(b[at+copy(b[at:], f.Buf.B):], f.Buf.Lent)
			f.Buf.Free()
		}
		put(b[at:], &f)
	}
	o.add(b, nil)
}

// add puts the joined frames of b among the parts, and a whole one after them.
func (o *out) add(b []byte, whole *flow.Buffer) {
	if len(b) > 0 {
		o.parts = append(o.parts, b)
	}
	if whole == nil {
		return
	}
	o.whole = append(o.whole, whole)
	if o.parts = append(o.parts, whole.B); whole.Lent != nil {
		o.parts = append(o.parts, whole.Lent)
	}
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
