// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"time"
)

// lent is a body in the transport's hands. The transport may go on reading after
// it gave an answer; a body that is sent again must be taken back first.
type lent struct {
	mu   sync.Mutex
	r    io.Reader
	over bool
}

var errTakenBack = errors.New("client: the body was taken back")

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0, errTakenBack
	}
	n, err := l.r.Read(p)
	if err != nil && err != io.EOF {
		return n, &bodyError{err}
	}
	return n, err
}

// Close leaves the body open: it is the caller's, and may be sent again.
func (l *lent) Close() error { return nil }

func (l *lent) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// bodyError is a failure to read what was to be sent: no fault of the network.
type bodyError struct{ error }

func (b *bodyError) Unwrap() error { return b.error }

// pumpBytes is how much of a body that cannot Seek is read at once.
const pumpBytes = 64 << 10

// pumped is a body whose Read may wait for ever, such as a terminal: it gives up
// the wait when the call is over. net/http does not report that a connection
// broke, or that a context ended, before the body's Read has returned.
type pumped struct {
	ctx    context.Context // of the call
	r      io.Reader
	lost   <-chan struct{} // closed with the connection
	over   chan struct{}   // closed by Close
	once   sync.Once
	asks   chan struct{} // nil until the first Read
	chunks chan chunk
	rest   chunk
}

type chunk struct {
	data []byte
	err  error
}

func newPumped(ctx context.Context, r io.Reader) *pumped {
	return &pumped{ctx: ctx, r: r, over: make(chan struct{}), chunks: make(chan chunk)}
}

// goesOver says which connection the body is written to.
func (p *pumped) goesOver(info httptrace.GotConnInfo) {
	conn := info.Conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if h, ok := conn.(*hearing); ok {
		p.lost = h.closed
	}
}

// pump reads a chunk each time it is asked, and ends after an error or with the
// call. A Read that waits then ends whenever it will; its bytes are dropped.
func (p *pumped) pump() {
	buf := make([]byte, pumpBytes)
	for {
		select {
		case <-p.asks:
		case <-p.over:
			return
		}
		n, err := p.r.Read(buf)
		select {
		case p.chunks <- chunk{buf[:n], err}:
		case <-p.over:
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *pumped) Read(b []byte) (int, error) {
	if len(p.rest.data) == 0 && p.rest.err == nil {
		if p.asks == nil {
			p.asks = make(chan struct{}, 1)
			go p.pump()
		}
		p.asks <- struct{}{} // has room: the one before was answered
		select {
		case p.rest = <-p.chunks:
		case <-p.over:
			return 0, errTakenBack
		case <-p.lost:
			return 0, net.ErrClosed
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	}
	n := copy(b, p.rest.data)
	if p.rest.data = p.rest.data[n:]; len(p.rest.data) > 0 || p.rest.err == nil {
		return n, nil
	}
	if p.rest.err != io.EOF {
		return n, &bodyError{p.rest.err}
	}
	return n, io.EOF
}

// Close is called by the transport, perhaps while a Read waits.
func (p *pumped) Close() error {
	p.once.Do(func() { close(p.over) })
	return nil
}

// answer gives the request's body back with the end of the answer's.
type answer struct {
	io.ReadCloser
	back func()
}

func (a *answer) Close() error {
	err := a.ReadCloser.Close()
	a.back()
	return err
}

// lastWords is how long a failed write waits for what the node said before.
const lastWords = time.Second

// hearing is a connection whose failed writes keep still for a moment. A node
// that refuses a body on its way answers and closes; net/http would take the
// write that fails then for the whole story and drop the answer that stands in
// the receive buffer. Whoever reads hears the answer, or that there is none, and
// closes the connection, which ends the wait.
type hearing struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (h *hearing) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	if err != nil {
		t := time.NewTimer(lastWords)
		defer t.Stop()
		select {
		case <-h.closed:
		case <-t.C:
		}
	}
	return n, err
}

func (h *hearing) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Conn.Close()
}
