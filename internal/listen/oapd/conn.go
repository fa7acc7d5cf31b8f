// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapd

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

// flagsSupported is what the answer to HELLO names.
const flagsSupported = oap.REQ | oap.RESP | oap.EVENT | oap.START | oap.END | oap.ACKREQ | oap.COMP | oap.APPE2E

// conn is one connection with its session.
type conn struct {
	s       *Service
	limits  *Limits
	nc      net.Conn
	lc      *listen.Conn // nil in tests
	peer    macronode.Peer
	session *mux.Session
}

// newConn makes a session of nc with the limits of now.
func (s *Service) newConn(nc net.Conn) (*conn, error) {
	c := &conn{s: s, limits: s.limits.Load(), nc: nc, lc: listen.ConnOf(nc)}
	if c.lc != nil {
		c.peer = c.lc.Peer()
	}
	return c, c.start()
}

// start makes the session.
func (c *conn) start() (err error) {
	l := c.limits
	transport := "tcp"
	if c.peer.TLS {
		transport = "tcp+tls"
	}
	c.session, err = mux.New(c.nc, mux.Config{
		Both: c.peer.Overlay,
		Reply: oap.HelloReply{
			MaxFrame: l.MaxFrameBytes, MaxInflight: l.MaxInflight, MaxStreams: l.MaxStreams,
			FlagsSupported: flagsSupported.Names(), Versions: []int{int(oap.Version)}, Transports: []string{transport},
		},
		ChunkBytes: l.chunk(), HelloTimeout: HelloTimeout, IdleTimeout: l.IdleTimeout, StallTimeout: l.StallTimeout, WriteTimeout: l.StallTimeout,
		Handle:  func(st *mux.Stream) { c.s.stream(st, &c.peer, l) },
		Observe: observer{c.s.conf.Metrics},
	})
	return err
}

// serve runs the session until the connection ends.
func (c *conn) serve(ctx context.Context) {
	defer c.nc.Close()
	if !c.peer.TLS && !c.peer.UDS && !c.peer.Loopback {
		c.plaintext()
		return
	}
	err := c.session.Run(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		c.s.conf.Log.Debug("connection ended", "event", "oap", "client", listen.RedactAddr(c.peer.Addr), "error", err)
	}
}

// plaintext tells a client that it must use TLS.
func (c *conn) plaintext() {
	c.s.conf.Metrics.rejects.WithLabelValues(reasonTLS).Inc()
	c.s.conf.Reject(macronode.TLSRequired)
	e := macronode.Errorf(macronode.TLSRequired, "this port takes no plaintext from other hosts")
	b, err := oap.Append(nil, &oap.Frame{Header: oap.Header{Flags: oap.RESP | oap.END, Code: 403}, Payload: problem(e, "none", 403)})
	if err != nil {
		return
	}
	if _, err := c.nc.Write(b); err == nil && c.lc != nil {
		c.lc.Linger()
	}
}
