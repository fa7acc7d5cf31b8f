// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
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

	classical bool // owned by the handshake
	linger    atomic.Bool
	closed    atomic.Bool

	mu   sync.Mutex
	last time.Time // no write goes on after it; zero: no such limit
}

// ConnOf returns the Conn that c is or, for TLS, rests on; nil where c came
// from no Set.
func ConnOf(c net.Conn) *Conn {
	switch c := c.(type) {
	case *Conn:
		return c
	case *tls.Conn:
		lc, _ := c.NetConn().(*Conn)
		return lc
	default:
		return nil
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

// Write writes all of p, for as long as bytes move: it fails once none did for
// the endpoint's stall timeout, or the write deadline passed.
func (c *Conn) Write(p []byte) (int, error) {
	done := 0
	for {
		c.mu.Lock()
		until := time.Now().Add(c.endpoint.StallTimeout)
		if !c.last.IsZero() && c.last.Before(until) {
			until = c.last
		}
		c.socket.SetWriteDeadline(until)
		c.mu.Unlock()
		n, err := c.socket.Write(p[done:])
		done += n
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return done, err
		}
	}
}

// SetWriteDeadline ends writes at t, even while bytes move; the zero time lifts
// the limit.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = t
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
