// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/rustyonions/macronode/oap"
)

// Window is how many counted frames a connection may have unacknowledged, each
// way; a stream may hold a quarter of them.
const Window = 128

// Limits are what one direction of a connection grants.
type Limits struct {
	Stream  int // counted frames unacknowledged a stream
	Conn    int // the same, a connection
	Quarter int // of them, held by one stream
	Streams int // open at the same time
}

// Line is what the table knows of one stream.
type Line struct {
	ID    uint64     // 0: opened here, and its START has not left
	Mine  bool       // opened by this side
	Head  oap.Header // App and Tenant
	Owner any        // the session's stream, for the session

	// Frames of the other side.
	got, used, acked uint64 // counted: received, consumed, consumption acknowledged
	asap             uint64 // an ACK is asked for at once when used gets there
	InEnd            bool   // its direction is closed
	owing            bool   // in Table.owing
	deaf             bool   // nobody reads: what comes is discarded
	last             time.Time

	// Frames of this side.
	sent, theirs uint64 // counted: sent, acknowledged
	held         time.Time
	queue        []Frame
	next, prev   *Line // in Table.ring; nil: not in it
	OutEnd       bool  // END is written or queued
	outDone      bool  // END is written

	Gone      bool // both directions are closed: not in the table any more
	Discarded bool // what it held unread was given up
}

// Queued is how many frames wait for their turn.
func (l *Line) Queued() int { return len(l.queue) }

// Frame is a frame to be written. Its stream's number, app and tenant are
// filled in when its turn comes.
type Frame struct {
	Header  oap.Header
	Buf     *Buffer // header room, capability and payload; nil: neither
	Count   uint64  // payload of ACK and GOAWAY
	Counter bool    // Count is the payload
	Counted bool
	Kind    Kind
	Line    *Line // whose frame this is, where it was queued
}

// Fault ends a connection: it becomes one error frame.
type Fault struct {
	Reason string
	Code   uint16
	Text   string
	Header oap.Header // what it answers
}

func (f *Fault) Error() string { return "mux: " + f.Reason + ": " + f.Text }

// Malformed is the fault of what the codec refuses.
func Malformed(e *oap.Error, h *oap.Header) *Fault { return &Fault{e.Reason, e.Code(), e.Text(), *h} }

// Faultf is a fault with code 400.
func Faultf(reason, text string) *Fault { return &Fault{Reason: reason, Code: 400, Text: text} }

// Verdict is what becomes of a frame that arrived.
type Verdict uint8

const (
	Deliver Verdict = iota // to its stream
	Opened                 // a new stream, with its first frame
	Drop                   // its stream is closed
	Busy                   // a START over max_streams
	Leaving                // a START after GOAWAY
	Ended                  // a cancel or an error: the stream is closed
)

// Table is the state of a connection's streams and windows. It does no I/O,
// starts nothing and reads no clock, so that a test can walk through all that
// it can do. Whoever calls it holds the session's lock.
type Table struct {
	opener, both, setAside bool

	in, Out Limits
	Lines   map[uint64]*Line
	Opening int    // opened here, START not written
	MineNow int    // open and opened here, with those
	theirs  int    // open and opened by the other side
	nextID  uint64 // of this side
	lastIn  uint64 // greatest that the other side used
	lastAcc uint64 // greatest that was accepted

	got, used, acked uint64 // counted frames of the connection: see Line
	sent, ackedOut   uint64
	bytes            int    // of what queues hold
	queued           uint64 // counted frames in queues, and those of Reserve

	ring   *Line // streams with something queued; the next to write
	ringN  int
	stuck  bool // nothing in the ring can be written now
	Freed  bool // more may be queued than before; whoever acts on it clears it
	Urgent []Frame
	Final  *Frame // the last frame of the connection; nothing comes after it
	closed bool   // final was written

	Pongs   int // answers to PING that are due
	AckConn bool
	ackNow  []*Line // streams whose ACK is due
	owing   []*Line // streams that have consumed more than was acknowledged

	Shut []*Line // closed since the session looked

	Draining  bool // this side said, or is to say, GOAWAY
	SayGoAway bool
	GoneAway  bool   // the other side said it
	AwayLast  uint64 // and accepted no later stream of this side's
	muted     bool   // HELLO is not done: only urgent frames leave
}

// NewTable is the table of a connection before HELLO.
func NewTable(opener, both, setAside bool) *Table {
	t := &Table{opener: opener, both: both, setAside: setAside, Lines: make(map[uint64]*Line), nextID: 2, muted: true}
	if opener {
		t.nextID = 1
	}
	return t
}

// Grant sets the limits of both directions and lets streams begin.
func (t *Table) Grant(inflight, streams int) {
	l := Limits{Stream: inflight, Conn: Window, Quarter: Window / 4, Streams: streams}
	t.in, t.Out, t.muted = l, l, false
}

// mineID reports whether this side numbers its streams so.
func (t *Table) mineID(id uint64) bool { return id%2 == 1 == t.opener }

// known reports whether a stream of that number is or was open.
func (t *Table) known(id uint64) bool {
	if id == 0 {
		return false
	}
	if t.mineID(id) {
		return id < t.nextID
	}
	return id <= t.lastIn
}

// Arrive takes a frame of a stream: everything but HELLO and events.
func (t *Table) Arrive(h *oap.Header, now time.Time) (*Line, Verdict, *Fault) {
	theirs := h.Flags&oap.REQ != 0
	if h.Flags&oap.START != 0 {
		return t.start(h, now)
	}
	if h.Corr == 0 || t.mineID(h.Corr) == theirs || !t.known(h.Corr) {
		if h.IsHello() {
			return nil, 0, Faultf(ReasonHello, "HELLO comes once")
		}
		return nil, 0, Faultf(ReasonStream, "a frame of a stream that was never opened")
	}
	if h.Flags&oap.RESP != 0 && h.Code >= 400 && h.Flags&oap.END == 0 {
		return nil, 0, Faultf(ReasonStream, "an error that does not end its stream")
	}
	count := h.Counted()
	if count {
		if err := t.count(); err != nil {
			return nil, 0, err
		}
	}
	l := t.Lines[h.Corr]
	if l == nil || (l.InEnd && !h.IsCancel()) {
		t.discard(count)
		return l, Drop, nil
	}
	l.last = now
	if h.IsCancel() || h.IsRefusal() {
		t.Close(l, true)
		return l, Ended, nil
	}
	if count {
		l.got++
		if l.got-l.acked > uint64(t.in.Stream) {
			return nil, 0, Faultf(ReasonWindow, "a stream went past its window")
		}
	}
	if h.Flags&oap.END != 0 {
		l.InEnd = true
	}
	if count && l.deaf {
		t.Consume(l, 1)
	}
	if count && t.setAside && !l.deaf {
		t.used++
		t.owe(nil)
	}
	if h.Flags&oap.ACKREQ != 0 {
		t.hurry(l)
	}
	if l.InEnd && l.Mine && !l.OutEnd {
		// The answer is whole: what is left of the request is of no use.
		t.Drop(l)
		t.Push(oap.Header{Flags: oap.REQ | oap.END, Code: oap.CodeCancel}, l, KindCancel, nil)
		l.OutEnd, l.outDone = true, true
	}
	if l.deaf {
		t.Settle(l)
		return l, Drop, nil
	}
	return l, Deliver, nil
}

// start takes a START.
func (t *Table) start(h *oap.Header, now time.Time) (*Line, Verdict, *Fault) {
	switch {
	case h.Flags&oap.REQ == 0:
		return nil, 0, Faultf(ReasonStream, "START that is no request")
	case t.opener && !t.both:
		return nil, 0, Faultf(ReasonStream, "only the side that connected opens streams")
	case h.Corr == 0 || t.mineID(h.Corr) || h.Corr <= t.lastIn:
		return nil, 0, Faultf(ReasonStream, "a new stream's number must be of its side and above every earlier one")
	case h.Flags&oap.END != 0 && h.Code == oap.CodeCancel:
		return nil, 0, Faultf(ReasonStream, "a cancel that opens a stream")
	}
	t.lastIn = h.Corr
	count := h.Counted()
	if count {
		if err := t.count(); err != nil {
			return nil, 0, err
		}
	}
	if t.Draining {
		t.discard(count)
		return nil, Leaving, nil
	}
	if t.theirs >= t.in.Streams {
		t.discard(count)
		return nil, Busy, nil
	}
	t.lastAcc = h.Corr
	l := &Line{ID: h.Corr, Head: oap.Header{App: h.App, Tenant: h.Tenant, Corr: h.Corr}, last: now}
	t.theirs++
	t.Lines[l.ID] = l
	if count {
		l.got = 1
		if t.setAside {
			t.used++
			t.owe(nil)
		}
	}
	l.InEnd = h.Flags&oap.END != 0
	if h.Flags&oap.ACKREQ != 0 {
		t.hurry(l)
	}
	return l, Opened, nil
}

// count takes a counted frame into the connection's window.
func (t *Table) count() *Fault {
	t.got++
	if t.got-t.acked > uint64(t.in.Conn) {
		return Faultf(ReasonWindow, "the connection went past its window")
	}
	return nil
}

// discard gives a counted frame's place back.
func (t *Table) discard(count bool) {
	if count {
		t.used++
		t.owe(nil)
	}
}

// Consume notes that the application is done with n counted frames of l.
func (t *Table) Consume(l *Line, n uint64) {
	if n = min(n, l.got-l.used); l.Discarded || n == 0 {
		return
	}
	l.used += n
	if !t.setAside || l.deaf {
		t.used += n
	}
	t.owe(l)
}

// owe notes that an ACK is due: at half a window at once, else when the timer
// says so. A stream that is closed is owed none, one that the other side has
// ended only by the timer.
func (t *Table) owe(l *Line) {
	if t.used-t.acked >= uint64(max(1, t.in.Conn/2)) {
		t.AckConn = true
	}
	if l == nil || l.Gone {
		return
	}
	if !l.owing {
		l.owing = true
		t.owing = append(t.owing, l)
	}
	half := uint64(max(1, min(t.in.Stream, t.in.Quarter)/2))
	if (!l.InEnd && l.used-l.acked >= half) || (l.asap != 0 && l.used >= l.asap) {
		t.ackNow = append(t.ackNow, l)
	}
}

// hurry is ACK_REQ: what is consumed is acknowledged now, and the frame itself
// as soon as it is.
func (t *Table) hurry(l *Line) {
	t.AckConn = true
	if !l.Gone {
		l.asap = l.got
		t.ackNow = append(t.ackNow, l)
	}
}

// Owes reports whether a consumption is not yet acknowledged.
func (t *Table) Owes() bool { return (t.used != t.acked && !t.AckConn) || len(t.owing) > 0 }

// Flush makes every ACK due now.
func (t *Table) Flush() {
	t.AckConn = t.AckConn || t.used != t.acked
	for i, l := range t.owing {
		l.owing, t.owing[i] = false, nil
		t.ackNow = append(t.ackNow, l)
	}
	t.owing = t.owing[:0]
}

// Acknowledged takes an ACK.
func (t *Table) Acknowledged(id, n uint64, now time.Time) *Fault {
	if id == 0 {
		if n < t.ackedOut || n > t.sent {
			return Faultf(ReasonWindow, "an ACK that goes backwards or ahead")
		}
		t.ackedOut = n
		t.stuck, t.Freed = false, true
		return nil
	}
	if !t.known(id) {
		return Faultf(ReasonStream, "an ACK of a stream that was never opened")
	}
	l := t.Lines[id]
	if l == nil {
		return nil // it was on its way when the stream closed
	}
	if n < l.theirs || n > l.sent {
		return Faultf(ReasonWindow, "an ACK that goes backwards or ahead")
	}
	if n > l.theirs {
		l.held = now
	}
	l.theirs = n
	t.stuck, t.Freed = false, true
	return nil
}

// Settle closes l once both directions are.
func (t *Table) Settle(l *Line) {
	if l.InEnd && l.outDone {
		t.Close(l, false)
	}
}

// Close takes l out of the table. With giveUp, what it holds unread is
// discarded and what it has queued is not sent.
func (t *Table) Close(l *Line, giveUp bool) {
	if giveUp && !l.Discarded {
		if !t.setAside {
			t.used += l.got - l.used
		}
		l.Discarded = true
		t.owe(nil)
	}
	if l.Gone {
		return
	}
	l.Gone = true
	t.Shut = append(t.Shut, l)
	t.Drop(l)
	if l.ID == 0 {
		t.Opening--
	} else {
		delete(t.Lines, l.ID)
	}
	if l.Mine {
		t.MineNow--
	} else {
		t.theirs--
	}
}

// Ignore makes l deaf: what it holds and what comes is discarded.
func (t *Table) Ignore(l *Line) {
	if l.deaf || l.Discarded {
		return
	}
	unread := l.got - l.used
	l.deaf = true
	if t.setAside {
		l.used += unread // the connection has them back since they came
	} else {
		t.Consume(l, unread)
	}
	t.Settle(l)
}
