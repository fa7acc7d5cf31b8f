// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
)

// A lingering close reads at most this much for at most this long.
const (
	lingerBytes = 4 << 20
	lingerTime  = time.Second
)

// socket is what Conn needs of *net.TCPConn and *net.UnixConn.
type socket interface {
	net.Conn
	CloseWrite() error
}

// Conn is an accepted connection with what is known of its other end. Under
// TLS it is the raw connection below the *tls.Conn.
type Conn struct {
	socket
	set      *Set
	endpoint *Endpoint
	release  func()
	addr     netip.Addr // the socket's peer
	peer     macronode.Peer

	offer  offer // owned by the handshake
	linger atomic.Bool
	closed atomic.Bool

	// Of the one who writes: Hold and Write are not called at once.
	hold bool        // the next Write is kept
	head []byte      // what is kept of it
	both net.Buffers // head and what follows it

	// order is held by who writes to a connection that Gather was called for, so
	// that what was gathered leaves before what comes after it.
	order    sync.Mutex
	gathered []byte
	gather   bool

	mu      sync.Mutex
	writing int       // Writes under way
	last    time.Time // no write goes on after it; zero: no such limit
	armed   time.Time // the socket's write deadline
}

// ConnOf returns the Conn that c is or rests on, through TLS and whatever else
// shows what it wraps (NetConn); nil where c came from no Set.
func ConnOf(c net.Conn) *Conn {
	for {
		switch on := c.(type) {
		case *Conn:
			return on
		case interface{ NetConn() net.Conn }:
			c = on.NetConn()
		default:
			return nil
		}
	}
}

// Peer is the other end. Trust in proxies is looked up anew each time, so that
// a reload that ends it ends it for open connections too.
func (c *Conn) Peer() macronode.Peer {
	p := c.peer
	p.Trusted = c.addr.IsValid() && c.set.conf.Caps.Trusted(c.addr)
	return p
}

// Endpoint is where the connection came in, as it was configured then.
func (c *Conn) Endpoint() *Endpoint { return c.endpoint }

// maxHeld bounds what Hold keeps.
const maxHeld = 4 << 10

// Hold makes the next Write keep what it is given, up to 4 KiB, so that it leaves
// together with the Write after that, which has to follow: a reply's head with
// its first bytes.
func (c *Conn) Hold() { c.hold = true }

// Gather calls write, whose Writes on c leave together, with one system call for as
// much as buf has room for: on TLS each record is a Write of its own. Others may Write meanwhile.
// buf is where they wait; its content is of no use afterwards.
func (c *Conn) Gather(buf []byte, write func() error) error {
	c.order.Lock()
	c.gather, c.gathered = true, buf[:0]
	c.order.Unlock()
	err := write()
	c.order.Lock()
	defer c.order.Unlock()
	c.gather = false
	if bad := c.flush(); err == nil {
		err = bad
	}
	c.gathered = nil
	return err
}

// flush writes what was gathered.
func (c *Conn) flush() error {
	p := c.gathered
	if c.gathered = p[:0]; len(p) == 0 {
		return nil
	}
	_, err := c.push(func(done int) (int, error) { return c.socket.Write(p[done:]) })
	return err
}

// keep is Write while Gather runs.
func (c *Conn) keep(p []byte) (int, error) {
	if len(c.gathered)+len(p) > cap(c.gathered) {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) > cap(c.gathered) {
		return c.push(func(done int) (int, error) { return c.socket.Write(p[done:]) })
	}
	c.gathered = append(c.gathered, p...)
	return len(p), nil
}

// Write writes all of p, for as long as bytes move: it fails once none did for
// the endpoint's stall timeout (a quarter more at most), or the write deadline
// passed.
func (c *Conn) Write(p []byte) (int, error) {
	c.order.Lock()
	defer c.order.Unlock()
	if c.gather {
		return c.keep(p)
	}
	if c.hold {
		c.hold = false
		if len(p) <= maxHeld {
			c.head = append(c.head[:0], p...)
			return len(p), nil
		}
	}
	head := c.head
	c.head = c.head[:0]
	if len(head) == 0 {
		return c.push(func(done int) (int, error) { return c.socket.Write(p[done:]) })
	}
	c.both = append(c.both[:0], head, p)
	whole := c.both[:0]
	n, err := c.push(func(int) (int, error) {
		n, err := c.both.WriteTo(c.socket)
		return int(n), err
	})
	clear(whole[:2])
	c.both = whole
	return max(n-len(head), 0), err
}

// WriteParts is Write of several parts with one system call. It changes the list.
func (c *Conn) WriteParts(parts [][]byte) error {
	b := net.Buffers(parts)
	_, err := c.push(func(int) (int, error) {
		n, err := b.WriteTo(c.socket)
		return int(n), err
	})
	return err
}

// push calls write, with what it has written so far, until all is written or
// nothing moves any more.
func (c *Conn) push(write func(done int) (int, error)) (done int, err error) {
	for {
		c.arm()
		n, err := write(done)
		c.disarm()
		done += n
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return done, err
		}
	}
}

// arm sees that the socket has a write deadline that is neither too near nor
// far off. Setting one costs as much as the rest of a small write, so one that
// was set for an earlier write will do.
func (c *Conn) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing++
	stall := c.endpoint.StallTimeout
	now := time.Now()
	switch until := now.Add(stall); {
	case !c.last.IsZero() && c.last.Before(until):
		c.limit(c.last)
	case c.armed.Before(until) || c.armed.After(until.Add(stall/4)):
		c.limit(until.Add(stall / 4))
	}
}

func (c *Conn) disarm() {
	c.mu.Lock()
	c.writing--
	c.mu.Unlock()
}

// limit gives the socket a write deadline. It fails on a socket that is closed
// alone, where the write does too. The lock is held.
func (c *Conn) limit(t time.Time) {
	if !t.Equal(c.armed) {
		c.armed = t
		c.socket.SetWriteDeadline(t)
	}
}

// SetWriteDeadline ends writes at t, even while bytes move; the zero time lifts
// the limit.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = t
	if c.writing == 0 {
		return nil // the next write heeds it
	}
	c.armed = t
	return c.socket.SetWriteDeadline(t)
}

// SetDeadline sets the read and the write deadline.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.socket.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Linger makes Close end the answer first and read on for a moment, so that a
// client still sending sees the answer and no reset.
func (c *Conn) Linger() { c.linger.Store(true) }

// Abort closes the connection so that the other end sees a reset and cannot
// take what it has for the whole. Bytes not yet sent are lost.
func (c *Conn) Abort() {
	c.linger.Store(false)
	if t, ok := c.socket.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

// Close closes the connection; further calls do nothing.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	if c.linger.Load() && !c.set.hurry.Load() && c.socket.CloseWrite() == nil {
		c.socket.SetReadDeadline(time.Now().Add(lingerTime))
		io.CopyN(io.Discard, c.socket, lingerBytes)
	}
	err := c.socket.Close()
	c.release()
	c.set.conf.Metrics.open.WithLabelValues(c.set.conf.Wire).Dec()
	return err
}
