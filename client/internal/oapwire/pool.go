// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/oap/mux"
)

// pool keeps the connections to one node. A connection carries as many calls as
// the node takes on one; only when all are full is another made, one at a time.
type pool struct {
	conf Config
	made atomic.Uint64

	mu      sync.Mutex
	conns   []*conn
	dialing *dialing // nil: no connection is being made
}

// conn is a connection in the pool.
type conn struct {
	session *mux.Session
	most    int // calls at once

	// Guarded by the pool's mu.
	calls int
	last  bool        // ends with its last call
	idle  *time.Timer // runs while there is none; nil: there never was one
}

// dialing is the making of a connection, which several calls may wait for.
type dialing struct {
	done chan struct{}
	err  error // once done
}

// acquire returns a connection with a place for a call, which release gives back.
func (p *pool) acquire(ctx context.Context) (*conn, error) {
	for {
		p.mu.Lock()
		if c := p.free(); c != nil {
			p.mu.Unlock()
			return c, nil
		}
		d := p.dialing
		if d == nil {
			d = &dialing{done: make(chan struct{})}
			p.dialing = d
			go p.dial(d)
		}
		p.mu.Unlock()
		select {
		case <-d.done:
			if d.err != nil {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// free takes a place on the first connection that has one: calls that share a
// connection share its system calls. Its caller holds mu.
func (p *pool) free() *conn {
	for _, c := range p.conns {
		if c.last || c.calls >= c.most {
			continue
		}
		if c.session.Draining() {
			c.last = true
			continue
		}
		if c.idle != nil {
			c.idle.Stop()
		}
		c.calls++
		return c
	}
	return nil
}

func (p *pool) release(c *conn) {
	p.mu.Lock()
	c.calls--
	over := c.calls == 0 && c.last
	switch {
	case c.calls > 0 || over:
	case c.idle == nil:
		c.idle = time.AfterFunc(p.conf.IdleTimeout, func() { p.expire(c) })
	default:
		c.idle.Reset(p.conf.IdleTimeout)
	}
	p.mu.Unlock()
	if over {
		c.session.Close()
	}
}

// expire ends a connection that is still idle.
func (p *pool) expire(c *conn) {
	p.mu.Lock()
	over := c.calls == 0
	c.last = c.last || over
	p.mu.Unlock()
	if over {
		c.session.Close()
	}
}

// retire lets a connection take no more calls.
func (p *pool) retire(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.last = true
}

// Close ends the connections that are idle, and the others with their last call.
func (p *pool) Close() {
	p.mu.Lock()
	var idle []*conn
	for _, c := range p.conns {
		c.last = true
		if c.calls == 0 {
			idle = append(idle, c)
		}
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.session.Close()
	}
}

// dial makes a connection and puts it into the pool. It is nobody's in particular,
// so no caller's context ends it.
func (p *pool) dial(d *dialing) {
	ctx, cancel := context.WithTimeout(context.Background(), p.conf.DialTimeout)
	defer cancel()
	c, err := p.connect(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.conns = append(p.conns, c)
		// Nobody may want it any more.
		c.idle = time.AfterFunc(p.conf.IdleTimeout, func() { p.expire(c) })
		go p.forget(c)
	}
	d.err = err
	p.dialing = nil
	close(d.done)
}

// connect makes a connection on which HELLO was said.
func (p *pool) connect(ctx context.Context) (*conn, error) {
	nc, err := p.conf.Connect(ctx)
	if err != nil {
		return nil, err
	}
	p.made.Add(1)
	s, err := mux.New(nc, mux.Config{Opener: true, UA: p.conf.UA, ChunkBytes: chunkBytes, SetAside: true,
		HelloTimeout: p.conf.DialTimeout, IdleTimeout: 2 * p.conf.IdleTimeout, StallTimeout: stallTimeout, WriteTimeout: writeTimeout})
	if err != nil {
		nc.Close()
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	select {
	case <-s.Ready():
		return &conn{session: s, most: max(s.Peer().MaxStreams, 1)}, nil
	case err := <-ended:
		return nil, refusedHello(err)
	case <-ctx.Done():
		s.Close()
		return nil, &net.OpError{Op: "dial", Net: "oap", Err: ctx.Err()}
	}
}

// refusedHello is why a connection is of no use from the beginning.
func refusedHello(err error) error {
	var refused *mux.Refused
	switch {
	case errors.Is(err, mux.ErrDraining):
		return &LostError{Undone: true, Err: err}
	case errors.As(err, &refused):
		return &unwelcome{refused}
	}
	return fmt.Errorf("the other side does not speak OAP/1 as this program does (oaps:// is OAP/1 over TLS, oap+plain:// without): %w", err)
}

// unwelcome is the error of a connection that the node refused in so many words.
type unwelcome struct{ *mux.Refused }

// forget waits for the end of a connection and takes it out of the pool.
func (p *pool) forget(c *conn) {
	<-c.session.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	c.last = true
	c.idle.Stop()
	p.conns = slices.DeleteFunc(p.conns, func(other *conn) bool { return other == c })
}
