// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/rustyonions/macronode/oap"
)

// Open makes a stream of this side; its START is the first frame queued. The
// caller saw to it that MineNow is below what the other side grants.
func (t *Table) Open(l *Line) {
	l.Mine = true
	t.Opening++
	t.MineNow++
}

// Enqueue puts a frame behind those of its stream. A bare END goes on the frame
// before it where that is still here, and else is written first.
func (t *Table) Enqueue(l *Line, f Frame) {
	if l.Gone || l.OutEnd {
		f.Buf.Free()
		return
	}
	end := f.Header.Flags&oap.END != 0
	l.OutEnd = end
	if end && f.Buf == nil {
		if n := len(l.queue); n > 0 {
			l.queue[n-1].Header.Flags |= oap.END
			return
		}
		t.Push(f.Header, l, f.Kind, nil)
		l.outDone = true
		t.Settle(l)
		return
	}
	l.queue = append(l.queue, f)
	if f.Counted {
		t.queued++
		t.bytes += f.size()
	}
	t.stuck = false
	if l.next == nil {
		t.link(l)
	}
}

// Push queues an uncounted frame of l, to be written before counted ones.
func (t *Table) Push(h oap.Header, l *Line, kind Kind, buf *Buffer) {
	h.App, h.Tenant, h.Corr = l.Head.App, l.Head.Tenant, l.ID
	t.Urgent = append(t.Urgent, Frame{Header: h, Kind: kind, Buf: buf})
}

// Fail ends l with an error.
func (t *Table) Fail(l *Line, code uint16, buf *Buffer) {
	if l.Gone {
		buf.Free()
		return
	}
	t.Close(l, true)
	t.Push(oap.Header{Flags: oap.RESP | oap.END, Code: code}, l, KindError, buf)
}

// Cancel ends l with a cancel; nothing is sent where its START has not left.
func (t *Table) Cancel(l *Line) {
	if l.Gone {
		return
	}
	t.Close(l, true)
	if l.ID != 0 {
		t.Push(oap.Header{Flags: oap.REQ | oap.END, Code: oap.CodeCancel}, l, KindCancel, nil)
	}
}

// link puts l last in the ring.
func (t *Table) link(l *Line) {
	t.ringN++
	if t.ring == nil {
		l.next, l.prev, t.ring = l, l, l
		return
	}
	l.next, l.prev = t.ring, t.ring.prev
	l.prev.next, l.next.prev = l, l
}

func (t *Table) unlink(l *Line) {
	if l.next == nil {
		return
	}
	t.ringN--
	if t.ring == l {
		t.ring = l.next
	}
	if t.ringN == 0 {
		t.ring = nil
	}
	l.prev.next, l.next.prev = l.next, l.prev
	l.next, l.prev = nil, nil
}

// Drop forgets what l has queued.
func (t *Table) Drop(l *Line) {
	t.unlink(l)
	for i := range l.queue {
		if l.queue[i].Counted {
			t.queued--
			t.bytes -= l.queue[i].size()
			t.Freed = true
		}
		l.queue[i].Buf.Free()
	}
	clear(l.queue)
	l.queue = l.queue[:0]
}

// allowed reports whether l may send one more counted frame. What a stream
// holds of the connection's window is never more than either number says.
func (t *Table) allowed(l *Line) bool {
	return t.fits(l.sent-l.theirs, t.sent-t.ackedOut)
}

// fits is allowed, of counts that are given.
func (t *Table) fits(mine, all uint64) bool {
	return mine < uint64(t.Out.Stream) && all < uint64(t.Out.Conn) &&
		(mine < uint64(t.Out.Quarter) || all < uint64(t.Out.Quarter))
}

// maxQueuedBytes is how much may be queued on a connection, and one frame.
const maxQueuedBytes = 1 << 20

func (f *Frame) size() int {
	if f.Buf == nil {
		return 0
	}
	return f.Buf.Size()
}

// Room reports whether the windows will let one more counted frame of l through
// once what is queued has left: then it can be queued without waiting for the other
// side to read; and whether what is queued is not too much already, which it is
// where the other side takes nothing from the connection.
func (t *Table) Room(l *Line) bool {
	return t.bytes < maxQueuedBytes && t.fits(l.sent-l.theirs+uint64(len(l.queue)), t.sent-t.ackedOut+t.queued)
}

// Reserve takes the place of one counted frame in the windows, as Room has shown
// it; Restore gives it back, which the frame's Enqueue follows.
func (t *Table) Reserve() { t.queued++ }

// Restore is Reserve's reverse.
func (t *Table) Restore() { t.queued-- }

// AckedOut is how many counted frames of the connection the other side is done with.
func (t *Table) AckedOut() uint64 { return t.ackedOut }

// Pending reports whether Take would give a frame.
func (t *Table) Pending() bool {
	if t.closed {
		return false
	}
	if len(t.Urgent) > 0 || t.Final != nil {
		return true
	}
	if t.muted {
		return false
	}
	return t.SayGoAway || t.Pongs > 0 || t.AckConn || len(t.ackNow) > 0 || (t.ring != nil && !t.stuck)
}

// Take gives the frame to be written next: uncounted ones first, then those of
// the streams, one of each in turn.
func (t *Table) Take(now time.Time) (Frame, bool) {
	if t.closed {
		return Frame{}, false
	}
	if t.SayGoAway && !t.muted {
		// Before the refusals that follow from it, so that who gets one knows
		// that its stream was behind.
		t.SayGoAway = false
		return Frame{Header: oap.Header{Flags: oap.EVENT, Code: oap.CodeGoAway}, Count: t.lastAcc, Counter: true, Kind: KindGoAway}, true
	}
	if len(t.Urgent) > 0 {
		f := t.Urgent[0]
		t.Urgent[0] = Frame{}
		if t.Urgent = t.Urgent[1:]; len(t.Urgent) == 0 {
			t.Urgent = nil
		}
		return f, true
	}
	if t.Final != nil {
		t.closed = true
		return *t.Final, true
	}
	if t.muted {
		return Frame{}, false
	}
	if t.AckConn || t.Pongs > 0 {
		t.AckConn = false
		t.Pongs = max(0, t.Pongs-1)
		t.acked = t.used
		return ackFrame(0, t.used), true
	}
	for len(t.ackNow) > 0 {
		l := t.ackNow[len(t.ackNow)-1]
		t.ackNow = t.ackNow[:len(t.ackNow)-1]
		if f, ok := t.ackOf(l); ok {
			return f, true
		}
	}
	return t.turn(now)
}

func ackFrame(id, n uint64) Frame {
	return Frame{Header: oap.Header{Flags: oap.EVENT, Corr: id}, Count: n, Counter: true, Kind: KindAck}
}

// ackOf is the ACK of l, where one is still due.
func (t *Table) ackOf(l *Line) (Frame, bool) {
	asked := l.asap != 0
	if l.used >= l.asap {
		l.asap = 0
	}
	if l.Gone || (l.used == l.acked && !asked) {
		return Frame{}, false
	}
	l.acked = l.used
	return ackFrame(l.ID, l.used), true
}

// turn gives the next frame of the streams.
func (t *Table) turn(now time.Time) (Frame, bool) {
	if t.stuck {
		return Frame{}, false
	}
	for range t.ringN {
		l := t.ring
		t.ring = l.next
		f := l.queue[0]
		if f.Counted && !t.allowed(l) {
			continue
		}
		l.queue[0] = Frame{}
		if l.queue = l.queue[1:]; len(l.queue) == 0 {
			l.queue = nil
			t.unlink(l)
		}
		if l.ID == 0 {
			l.ID = t.nextID
			t.nextID += 2
			t.Opening--
			t.Lines[l.ID] = l
			l.Head.Corr = l.ID
		}
		if f.Counted {
			if l.sent == l.theirs {
				l.held = now
			}
			l.sent++
			t.sent++
			t.queued--
			t.bytes -= f.size()
			t.Freed = true
		}
		f.Header.App, f.Header.Tenant, f.Header.Corr = l.Head.App, l.Head.Tenant, l.ID
		f.Line = l
		if f.Header.Flags&oap.END != 0 {
			l.outDone = true
			t.Settle(l)
		}
		return f, true
	}
	t.stuck = t.ring != nil
	return Frame{}, false
}

// Stalled lists the streams to be given up at now: those whose frames nobody
// acknowledged for limit, and those whose answer is out but whose request does
// not end.
func (t *Table) Stalled(now time.Time, limit time.Duration) (slow, left []*Line) {
	for _, l := range t.Lines {
		switch {
		case l.sent != l.theirs && t.sent != t.ackedOut:
			if now.Sub(l.held) >= limit {
				slow = append(slow, l)
			}
		case l.outDone && l.deaf && !l.Mine && now.Sub(l.last) >= limit:
			left = append(left, l)
		}
		if t.sent == t.ackedOut {
			l.held = now
		}
	}
	return slow, left
}

// Finished reports whether a connection that is to end has nothing left to do.
func (t *Table) Finished() bool {
	if t.closed {
		return true
	}
	return t.Draining && !t.muted && len(t.Lines) == 0 && t.Opening == 0 && !t.Pending()
}

// Abandon drops what is queued and lists the streams that were open: the
// connection is over.
func (t *Table) Abandon() []*Line {
	var all []*Line
	for _, l := range t.Lines {
		t.Drop(l)
		all = append(all, l)
	}
	for l := t.ring; l != nil; l = t.ring { // those whose START did not leave
		t.Drop(l)
		all = append(all, l)
	}
	return all
}
