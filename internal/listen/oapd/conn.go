// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/oapcall"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
	"github.com/rustyonions/macronode/oap/mux/flow"
)

// flagsSupported is what the answer to HELLO names.
const flagsSupported = oap.REQ | oap.RESP | oap.EVENT | oap.START | oap.END | oap.ACKREQ | oap.COMP | oap.APPE2E

// conn is one connection with its session.
type conn struct {
	s       *Service
	peer    macronode.Peer
	nc      net.Conn
	lc      *listen.Conn // nil in tests
	session *mux.Session
}

// link is a connection as a session uses it: how long a write may take is seen to
// below, where it is known whether bytes move.
type link struct{ net.Conn }

// SetWriteDeadline does nothing.
func (link) SetWriteDeadline(time.Time) error { return nil }

// plain is a link without encryption, to which several parts are written at once.
type plain struct {
	link
	lc *listen.Conn
}

// WriteParts implements mux.Gatherer.
func (o plain) WriteParts(parts [][]byte) error { return o.lc.WriteParts(parts) }

// sealed is a link with TLS, whose records leave together.
type sealed struct {
	link
	lc      *listen.Conn
	buffers *sync.Pool // of *[sealedBytes]byte, for all connections
	flushes atomic.Bool
}

// sealedBytes holds the records of one write of a session.
const sealedBytes = flow.JoinBytes + 4<<10

// Write writes all of p.
func (c *sealed) Write(p []byte) (n int, err error) {
	if len(p) <= recordBytes {
		return c.link.Write(p)
	}
	buf, ok := c.buffers.Get().(*[sealedBytes]byte)
	if !ok {
		buf = new([sealedBytes]byte)
	}
	defer c.buffers.Put(buf)
	c.flushes.Store(true)
	defer c.flushes.Store(false)
	err = c.lc.Gather(buf[:], func() error {
		n, err = c.link.Write(p)
		return err
	})
	return n, err
}

// Close does not wait for a write to say farewell behind it.
func (c *sealed) Close() error {
	if c.flushes.Load() {
		return c.lc.Close()
	}
	return c.link.Close()
}

// recordBytes is the most that is one record of TLS.
const recordBytes = 16 << 10

// newConn makes a session of nc with the limits of now.
func (s *Service) newConn(nc net.Conn) (*conn, error) {
	c := &conn{s: s, nc: nc, lc: listen.ConnOf(nc)}
	var over mux.Conn = nc
	if c.lc != nil {
		c.peer = c.lc.Peer()
		if over = (&sealed{link: link{nc}, lc: c.lc, buffers: &s.records}); !c.peer.TLS {
			over = plain{link{nc}, c.lc}
		}
	}
	return c, c.start(over)
}

// start makes the session.
func (c *conn) start(over mux.Conn) (err error) {
	l := c.s.limits.Load()
	transport := "tcp"
	if c.peer.TLS {
		transport = "tcp+tls"
	}
	c.session, err = mux.New(over, mux.Config{
		Both: c.peer.Overlay,
		Reply: oap.HelloReply{
			MaxFrame: l.MaxFrameBytes, MaxInflight: l.MaxInflight, MaxStreams: l.MaxStreams,
			FlagsSupported: flagsSupported.Names(), Versions: []int{int(oap.Version)}, Transports: []string{transport},
		},
		ChunkBytes: l.chunk(), Expand: c.s.expand.Expand,
		HelloTimeout: HelloTimeout, IdleTimeout: l.IdleTimeout, StallTimeout: l.StallTimeout, WriteTimeout: l.StallTimeout,
		Handle:  func(st *mux.Stream) { c.s.stream(st, &c.peer, l) },
		Observe: c.s.observe, Linger: c.linger,
	})
	return err
}

// linger lets the client read the last frame even while it is still sending.
func (c *conn) linger() {
	if c.lc != nil {
		c.lc.Linger()
	}
}

// cut ends the connection at once, goAway once its streams are done, and end like
// goAway, but for clients that did not even say HELLO.
func (c *conn) cut()    { c.session.Close(); c.nc.Close() }
func (c *conn) goAway() { c.session.GoAway() }
func (c *conn) end() {
	select {
	case <-c.session.Ready():
		c.goAway()
	default:
		c.cut()
	}
}

// serve runs the session until the connection ends.
func (c *conn) serve(ctx context.Context) {
	defer c.nc.Close()
	if !c.peer.TLS && !c.peer.UDS && !c.peer.Loopback {
		c.plaintext()
		return
	}
	if c.peer.Overlay && c.s.conf.Adopt != nil {
		adopting := make(chan struct{})
		defer func() { <-adopting }()
		go c.adopt(adopting)
	}
	err := c.session.Run(ctx)
	if f, ok := errors.AsType[*mux.Fault](err); ok {
		c.s.conf.Log.Debug("connection refused", "event", "oap_reject", "client", listen.RedactAddr(c.peer.Addr), "reason", f.Reason, "error", f)
	} else if !errors.Is(err, io.EOF) {
		c.s.conf.Log.Debug("connection ended", "event", "oap", "client", listen.RedactAddr(c.peer.Addr), "error", err)
	}
}

// adopt gives a session of another node to who keeps them, once it has begun.
func (c *conn) adopt(done chan<- struct{}) {
	defer close(done)
	select {
	case <-c.session.Ready():
		c.s.conf.Adopt(c.peer, c.session)
	case <-c.session.Done():
	}
}

// plaintext tells a client that it must use TLS.
func (c *conn) plaintext() {
	c.s.conf.Metrics.rejects.WithLabelValues(reasonTLS).Inc()
	c.s.conf.Reject(macronode.TLSRequired)
	e := macronode.Errorf(macronode.TLSRequired, "this port takes no plaintext from other hosts")
	code, doc := oapcall.Problem(e, "none", false)
	b, err := oap.Append(nil, &oap.Frame{Header: oap.Header{Flags: oap.RESP | oap.END, Code: code}, Payload: doc})
	if err != nil {
		return
	}
	if _, err := c.nc.Write(b); err == nil {
		c.linger()
	}
}
