// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/oap"
)

// longAgo, as a deadline, ends what is waiting.
var longAgo = time.Unix(1, 0)

// connWindow is how many counted frames a client may have unacknowledged on a
// connection; at half of it an ACK is due.
const connWindow = 128

// flagsSupported is what HELLO announces; payloads are not decompressed yet.
var flagsSupported = oap.REQ | oap.RESP | oap.EVENT | oap.START | oap.END | oap.ACKREQ | oap.APPE2E

// conn is one connection. All of it but nc belongs to the goroutine in serve.
type conn struct {
	s      *Service
	limits *Limits
	nc     net.Conn
	lc     *listen.Conn // nil in tests
	peer   macronode.Peer
	in     *oap.Reader
	out    []byte

	greeted  bool
	helloBy  time.Time
	last     uint64 // greatest stream accepted for an answer
	consumed uint64 // counted frames discarded
	acked    uint64 // of those, acknowledged
}

func newConn(s *Service, nc net.Conn, lc *listen.Conn, peer macronode.Peer) *conn {
	c := &conn{s: s, limits: s.limits.Load(), nc: nc, lc: lc, peer: peer, helloBy: time.Now().Add(HelloTimeout)}
	c.in = oap.NewReader(c, c.limits.MaxFrameBytes)
	return c
}

// fault ends a connection: it becomes one error frame.
type fault struct {
	err    *macronode.Error
	reason string // of oap_rejects_total
	header oap.Header
}

func (f *fault) Error() string { return "oapd: " + f.reason + ": " + f.err.Error() }

func faultf(reason string, h oap.Header, text string) *fault {
	return &fault{macronode.Errorf(macronode.Malformed, "%s", text), reason, h}
}

// Read feeds the frame reader, within the time limit of the moment.
func (c *conn) Read(p []byte) (int, error) {
	until := time.Now().Add(c.limits.IdleTimeout)
	if c.in.Buffered() > 0 {
		until = time.Now().Add(c.limits.StallTimeout)
	}
	if !c.greeted && c.helloBy.Before(until) {
		until = c.helloBy
	}
	c.nc.SetReadDeadline(until)
	// Whoever drains sets the flag first and the deadline then, so either the
	// flag is seen here or the deadline ends the read.
	if c.leaving() {
		return 0, errDraining
	}
	return c.nc.Read(p)
}

// leaving reports whether the connection shall end. One that is still to say
// HELLO may do so, unless the node is shutting down.
func (c *conn) leaving() bool {
	return c.s.closing.Load() || (c.s.draining.Load() && c.greeted)
}

// serve reads frames until the connection ends.
func (c *conn) serve() {
	defer c.nc.Close()
	err := c.run()
	var f *fault
	var bad *oap.Error
	switch {
	case errors.As(err, &f):
		c.refuse(f)
	case errors.As(err, &bad):
		c.refuse(&fault{macronode.Errorf(bad.Kind(), "%s", bad.Text()), bad.Reason, oap.Header{}})
	case c.leaving() && (errors.Is(err, errDraining) || errors.Is(err, os.ErrDeadlineExceeded)):
		g := oap.GoAway(c.last)
		c.linger(c.send(&g, kindGoAway))
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.greeted:
		c.refuse(&fault{macronode.Errorf(macronode.Timeout, "no HELLO in time"), reasonHello, oap.Header{}})
	case !errors.Is(err, io.EOF):
		c.s.conf.Log.Debug("connection ended", "event", "oap", "client", listen.RedactAddr(c.peer.Addr), "error", err)
	}
}

// run returns why the connection ends; io.EOF where the client ended it.
func (c *conn) run() error {
	if !c.peer.TLS && !c.peer.UDS && !c.peer.Loopback {
		return &fault{macronode.Errorf(macronode.TLSRequired, "this port takes no plaintext from other hosts"), reasonTLS, oap.Header{}}
	}
	for {
		f, err := c.in.Next()
		if err != nil {
			if _, ok := err.(*oap.Error); ok && f.Len != 0 {
				return c.malformed(err.(*oap.Error), f.Header)
			}
			return err
		}
		if !c.greeted {
			err = c.hello(&f)
		} else {
			err = c.frame(&f)
		}
		if err == nil {
			err = c.acknowledge(f.Flags&oap.ACKREQ != 0)
		}
		if err != nil {
			return err
		}
	}
}

// malformed names the stream in the answer where the header could be read.
func (c *conn) malformed(e *oap.Error, h oap.Header) error {
	return &fault{macronode.Errorf(e.Kind(), "%s", e.Text()), e.Reason, h}
}

// hello answers the first frame.
func (c *conn) hello(f *oap.Frame) error {
	if !f.IsHello() {
		return faultf(reasonHello, f.Header, "the first frame must be HELLO")
	}
	if _, err := oap.ParseHello(f.Payload); err != nil {
		return c.malformed(err.(*oap.Error), f.Header)
	}
	c.count("in", kindHello)
	c.greeted = true
	transport := "tcp"
	if c.peer.TLS {
		transport = "tcp+tls"
	}
	payload, err := json.Marshal(oap.HelloReply{
		MaxFrame: c.limits.MaxFrameBytes, MaxInflight: c.limits.MaxInflight, MaxStreams: c.limits.MaxStreams,
		FlagsSupported: flagsSupported.Names(), Versions: []int{int(oap.Version)}, Transports: []string{transport},
	})
	if err != nil {
		return err
	}
	reply := oap.Answer(&f.Header, 200, 0, payload)
	return c.send(&reply, kindHello)
}

// frame acts on any later frame.
func (c *conn) frame(f *oap.Frame) error {
	switch {
	case f.Flags&oap.EVENT != 0:
		return c.event(f)
	case f.Flags&oap.RESP != 0:
		return faultf(reasonStream, f.Header, "an answer to a stream that the node did not open")
	case f.Flags&oap.START != 0:
		return c.start(f)
	case f.App == 0 && f.Corr > c.last:
		return faultf(reasonHello, f.Header, "HELLO comes once")
	case f.Corr > c.last || f.Corr%2 == 0:
		return faultf(reasonStream, f.Header, "a frame of a stream that was never opened")
	}
	// The stream was refused: what is left of it is counted and dropped.
	if f.Code == 499 && f.Flags&oap.END != 0 {
		c.count("in", kindCancel)
		return nil
	}
	c.count("in", kindData)
	c.discard(f)
	return nil
}

// start refuses a new stream; both its directions are closed then.
func (c *conn) start(f *oap.Frame) error {
	if f.Corr%2 == 0 || f.Corr <= c.last {
		return faultf(reasonStream, f.Header, "a new stream's number must be odd and above every earlier one")
	}
	c.last = f.Corr
	c.count("in", kindStart)
	c.discard(f)
	if c.s.draining.Load() {
		return c.problem(&f.Header, macronode.Errorf(macronode.Draining, ""), reasonDrain)
	}
	return c.problem(&f.Header, macronode.Errorf(macronode.Unimplemented, "no operation is served over OAP/1 yet"), reasonUnknown)
}

// event acts on a control frame.
func (c *conn) event(f *oap.Frame) error {
	switch {
	case f.App != 0 || f.Flags&^(oap.EVENT|oap.ACKREQ) != 0:
		return faultf(reasonControl, f.Header, "an unknown control frame")
	case f.Corr == 0 && f.Flags&oap.ACKREQ != 0 && f.Code == 0 && len(f.Payload) == 0:
		c.count("in", kindPing)
		return nil // acknowledge answers
	}
	n, err := oap.Count(f.Payload)
	if err != nil {
		return c.malformed(err.(*oap.Error), f.Header)
	}
	switch {
	case f.Code == 503 && f.Corr == 0:
		// The client will open no more streams, which needs no answer.
		c.count("in", kindGoAway)
		return nil
	case f.Code != 0:
		return faultf(reasonControl, f.Header, "an unknown control frame")
	case f.Corr > c.last || (f.Corr != 0 && f.Corr%2 == 0):
		return faultf(reasonStream, f.Header, "an ACK of a stream that was never opened")
	case n != 0:
		// The node has sent no frame that counts.
		return faultf(reasonWindow, f.Header, "an ACK of frames that were never sent")
	}
	c.count("in", kindAck)
	return nil
}

// discard takes a frame's place in the connection's window.
func (c *conn) discard(f *oap.Frame) {
	if len(f.Payload) > 0 {
		c.consumed++
	}
}

// acknowledge sends the connection's ACK where it was asked for, where half the
// window is used, and before the goroutine waits for the client.
func (c *conn) acknowledge(asked bool) error {
	due := c.consumed - c.acked
	if !asked && due < connWindow/2 && (due == 0 || c.in.Buffered() > 0) {
		return nil
	}
	c.acked = c.consumed
	a := oap.Ack(0, c.consumed)
	return c.send(&a, kindAck)
}

// refuse sends the one error frame that ends the connection.
func (c *conn) refuse(f *fault) {
	c.s.conf.Log.Debug("connection refused", "event", "oap_reject", "client", listen.RedactAddr(c.peer.Addr), "reason", f.reason, "error", f.err)
	c.linger(c.problem(&f.header, f.err, f.reason))
}

// linger lets the client read the last frame even while it is still sending.
func (c *conn) linger(err error) {
	if err == nil && c.lc != nil {
		c.lc.Linger()
	}
}

// problem answers on the stream of h with an error, which closes it.
func (c *conn) problem(h *oap.Header, e *macronode.Error, reason string) error {
	c.s.conf.Metrics.rejects.WithLabelValues(reason).Inc()
	doc, err := json.Marshal(e.Problem("oap-" + strconv.FormatUint(h.Corr, 10)))
	if err != nil {
		return err
	}
	reply := oap.Answer(h, uint16(e.Kind.Info().Status), oap.END, doc)
	return c.send(&reply, kindError)
}

func (c *conn) count(dir, kind string) { c.s.conf.Metrics.frames.WithLabelValues(dir, kind).Inc() }

// send writes one frame.
func (c *conn) send(f *oap.Frame, kind string) error {
	var err error
	if c.out, err = oap.Append(c.out[:0], f); err != nil {
		return err
	}
	c.count("out", kind)
	_, err = c.nc.Write(c.out)
	return err
}
