// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package h2guard

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// preface is what a client says first.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// headBytes is the size of a frame's head.
const headBytes = 9

// Frame types.
const (
	typeData         = 0
	typeHeaders      = 1
	typePriority     = 2
	typeReset        = 3
	typeSettings     = 4
	typePing         = 6
	typeGoAway       = 7
	typeWindowUpdate = 8
	typeContinuation = 9
)

// Frame flags.
const (
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
)

// errEnhanceYourCalm is the error code that floods are answered with.
const errEnhanceYourCalm = 0xb

// farewell is how long the end of a connection may wait for its GOAWAY to leave.
const farewell = time.Second

// ErrFlood is what Read and Write return on a connection that was ended.
var ErrFlood = errors.New("h2guard: the connection sent too much that carries nothing")

// Config is what a Conn needs.
type Config struct {
	// HeaderTimeout is how long a header block may take to become whole,
	// StallTimeout how long any other frame may stand still in its middle. Both
	// are more than 0.
	HeaderTimeout, StallTimeout time.Duration
	// Trip is told of the flood that ends a connection, once, before it ends.
	Trip func(Flood)
}

// head is a frame's head as far as it was seen, and what is left of the payload.
type head struct {
	raw  [headBytes]byte
	have int
	left int
}

// whole reports whether the last byte seen was a frame's last.
func (h *head) whole() bool { return h.have == 0 }

// next takes a head's bytes off b; done: the head is whole.
func (h *head) next(b []byte) (rest []byte, done bool) {
	n := copy(h.raw[h.have:], b)
	if h.have += n; h.have < headBytes {
		return nil, false
	}
	h.left = int(h.raw[0])<<16 | int(h.raw[1])<<8 | int(h.raw[2])
	return b[n:], true
}

func (h *head) kind() byte     { return h.raw[3] }
func (h *head) flags() byte    { return h.raw[4] }
func (h *head) stream() uint32 { return binary.BigEndian.Uint32(h.raw[5:]) &^ (1 << 31) }

// Conn is a connection that speaks HTTP/2 and whose frames are watched. It is
// read by one goroutine at a time and written by one at a time.
type Conn struct {
	net.Conn
	conf Config

	// Of the one who reads.
	greeted  int // bytes of the preface seen
	in       head
	block    bool // in a header block
	blockBy  time.Time
	pieces   int // CONTINUATION frames of the block
	bytes    int // of the block
	armed    time.Time
	last     uint32 // the highest stream that the client opened
	buckets  [counted]bucket
	spent    int64 // of finished
	explains int64 // of written, in windowBytes

	tripped  atomic.Bool
	finished atomic.Int64 // replies that ended
	written  atomic.Int64 // bytes

	turn   chan struct{} // holds one while somebody writes
	out    head
	broken bool          // what was written is no whole frame and never will be
	adieu  []byte        // to be written at the end of the frame under way
	said   chan struct{} // closed when adieu was written, or never will be
}

// New returns c, on which TLS has agreed on HTTP/2 and nothing was read yet.
func New(c net.Conn, conf Config) *Conn {
	return &Conn{Conn: c, conf: conf, turn: make(chan struct{}, 1)}
}

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Read reads what the client sent, and ends the connection over a flood.
func (c *Conn) Read(p []byte) (int, error) {
	if c.tripped.Load() {
		return 0, ErrFlood
	}
	c.arm()
	n, err := c.Conn.Read(p)
	if flood := c.see(p[:n]); flood != "" {
		return 0, c.end(flood)
	}
	if err != nil && !c.armed.IsZero() && errors.Is(err, os.ErrDeadlineExceeded) {
		return n, c.end(SlowFrame)
	}
	return n, err
}

// arm limits the time that the rest of a frame under way may take. Between frames
// a connection is idle, which is not watched here.
func (c *Conn) arm() {
	switch now := time.Now; {
	case c.greeted < len(preface):
		return // who serves the connection has a limit for it
	case c.block:
		c.deadline(c.blockBy)
	case !c.in.whole():
		if until := now().Add(c.conf.StallTimeout); until.Sub(c.armed) > c.conf.StallTimeout/4 || c.armed.After(until) {
			c.deadline(until)
		}
	default:
		c.deadline(time.Time{})
	}
}

func (c *Conn) deadline(t time.Time) {
	if !t.Equal(c.armed) {
		c.armed = t
		// It cannot fail but on a connection that is over.
		_ = c.Conn.SetReadDeadline(t)
	}
}

// see follows the frames in b; it returns the flood that b completes.
func (c *Conn) see(b []byte) Flood {
	if rest := preface[c.greeted:]; rest != "" && len(b) > 0 {
		n := min(len(rest), len(b))
		if string(b[:n]) != rest[:n] {
			return Preface
		}
		c.greeted += n
		b = b[n:]
	}
	for len(b) > 0 {
		if c.in.have < headBytes {
			var done bool
			if b, done = c.in.next(b); !done {
				return ""
			}
			if flood := c.judge(); flood != "" {
				return flood
			}
		}
		n := min(c.in.left, len(b))
		c.in.left -= n
		b = b[n:]
		if c.in.left == 0 {
			c.closeFrame()
		}
	}
	return ""
}

// closeFrame notes the end of a frame.
func (c *Conn) closeFrame() {
	if k := c.in.kind(); (k == typeHeaders || k == typeContinuation) && c.in.flags()&flagEndHeaders != 0 {
		c.block = false
	}
	c.in.have = 0
}

// judge counts the frame whose head was just read.
func (c *Conn) judge() Flood {
	h := &c.in
	switch h.kind() {
	case typeData:
		if h.left > 0 || h.flags()&flagEndStream != 0 {
			return ""
		}
		return c.count(empty, 0)
	case typeHeaders:
		c.block, c.blockBy = true, time.Now().Add(c.conf.HeaderTimeout)
		c.pieces, c.bytes = 0, h.left
		c.last = max(c.last, h.stream())
		if c.bytes > MaxBlockBytes {
			return Continuation
		}
		return ""
	case typeContinuation:
		c.pieces++
		if c.bytes += h.left; c.bytes > MaxBlockBytes || c.pieces > MaxContinuations {
			return Continuation
		}
		return ""
	case typePriority:
		return c.count(priorities, 0)
	case typeReset:
		done := c.finished.Load()
		earned := done - c.spent
		c.spent = done
		return c.count(resets, earned)
	case typeSettings:
		return c.count(settings, 0)
	case typePing:
		return c.count(pings, 0)
	case typeWindowUpdate:
		sent := c.written.Load() / windowBytes
		earned := sent - c.explains
		c.explains = sent
		return c.count(windows, earned)
	default:
		return c.count(unknown, 0)
	}
}

func (c *Conn) count(k int, earned int64) Flood {
	if r := &rates[k]; !c.buckets[k].take(r, earned, time.Now()) {
		return r.flood
	}
	return ""
}

// end tells the client why and breaks the connection off.
func (c *Conn) end(f Flood) error {
	c.tripped.Store(true)
	c.conf.Trip(f)
	// A client that floods and does not read holds the writer up no longer. It
	// cannot fail but on a connection that is over.
	_ = c.Conn.SetWriteDeadline(time.Now().Add(farewell))
	said := make(chan struct{})
	c.turn <- struct{}{}
	c.adieu, c.said = goAway(c.last, f), said
	c.bid()
	<-c.turn
	t := time.NewTimer(farewell)
	defer t.Stop()
	select {
	case <-said:
	case <-t.C:
	}
	return ErrFlood
}

// goAway is the last frame of a connection.
func goAway(last uint32, f Flood) []byte {
	b := []byte{0, 0, byte(8 + len(f)), typeGoAway, 0, 0, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, errEnhanceYourCalm)
	return append(b, f...)
}

// bid writes the adieu where a frame may begin. It is the caller's turn.
func (c *Conn) bid() {
	if c.said == nil || !c.broken && !c.out.whole() {
		return
	}
	if !c.broken {
		_, _ = c.Conn.Write(c.adieu) // the client may be gone
		c.broken = true
	}
	close(c.said)
	c.said = nil
}

// SetWriteDeadline limits writing, until a flood does.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.tripped.Load() {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// Write writes frames, of which p may be a part.
func (c *Conn) Write(p []byte) (int, error) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.broken {
		return 0, io.ErrClosedPipe
	}
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	c.follow(p[:n])
	if err != nil {
		c.broken = true
	}
	c.bid()
	return n, err
}

// follow keeps track of the frames that leave.
func (c *Conn) follow(b []byte) {
	for len(b) > 0 {
		if c.out.have < headBytes {
			var done bool
			if b, done = c.out.next(b); !done {
				return
			}
			switch k := c.out.kind(); {
			case k == typeReset, (k == typeData || k == typeHeaders) && c.out.flags()&flagEndStream != 0:
				c.finished.Add(1)
			}
		}
		n := min(c.out.left, len(b))
		c.out.left -= n
		b = b[n:]
		if c.out.left == 0 {
			c.out.have = 0
		}
	}
}
