// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package oapwire carries requests of net/http's form over OAP/1: to the code above
// it the two wires are one. Method and path become the operation and its
// arguments, the capability the frame's, a refusal an answer with the problem
// document as its body.
package oapwire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client/internal/optable"
	"github.com/rustyonions/macronode/oap/mux"
)

const (
	// chunkBytes is the payload of a data frame.
	chunkBytes = 64 << 10
	// inlineBytes is the longest body that goes whole into the frame that opens
	// its stream.
	inlineBytes = 32 << 10
	// writeTimeout ends a connection on which nothing can be sent.
	writeTimeout = time.Minute
	// stallTimeout ends a call whose body the node takes nothing of.
	stallTimeout = 2 * time.Minute
	// reopens is how many connections are tried that turn out to take no more
	// calls.
	reopens = 4
	// statusCanceled is the code of a call that the other side called off.
	statusCanceled = 499
)

// Config is what a Transport needs.
type Config struct {
	// Connect makes a connection to the node, encrypted where it is to be.
	Connect func(ctx context.Context) (net.Conn, error)
	// Table knows the operations; nil: the node's.
	Table *optable.Table
	UA    string
	// DialTimeout bounds making a connection, HELLO included, IdleTimeout how long
	// one is kept that nobody uses. Both must be more than 0.
	DialTimeout, IdleTimeout time.Duration
}

// Transport is an http.RoundTripper. It is safe for concurrent use.
type Transport struct {
	pool
	last atomic.Pointer[rawToken]
}

// New returns a transport. It does not connect yet.
func New(c Config) *Transport {
	if c.Table == nil {
		c.Table = optable.New(nil)
	}
	return &Transport{pool: pool{conf: c}}
}

// Conns is how many connections were made.
func (t *Transport) Conns() uint64 { return t.made.Load() }

// LostError says that a connection ended before the answer did.
type LostError struct {
	Undone bool // the node did nothing: the call can be made again, whatever it is
	Err    error
}

func (e *LostError) Error() string { return "the connection to the node ended: " + e.Err.Error() }

// Unwrap returns why.
func (e *LostError) Unwrap() error { return e.Err }

// RoundTrip makes the call. Its error is the context's, the request body's, of
// making a connection, or a *LostError.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	resp, err := t.roundTrip(r)
	if err != nil && r.Body != nil {
		r.Body.Close()
	}
	// What ends with the context ends because of it.
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return resp, err
}

func (t *Transport) roundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	q, err := t.encode(r, time.Now())
	switch {
	case errors.Is(err, errMalformedCap):
		return refused(r, macronode.Errorf(macronode.TokenMalformed, "")), nil
	case errors.Is(err, errNoTime):
		return nil, context.DeadlineExceeded
	case err != nil:
		return nil, err
	}
	start := mux.Start{App: q.app, Cap: q.cap, Head: q.head}
	var rest io.Reader
	switch n := bodyLength(r); {
	case n == 0:
		start.End = true
	case n > 0 && n <= inlineBytes:
		start.Body = make([]byte, n)
		if _, err := io.ReadFull(r.Body, start.Body); err != nil {
			return nil, shortBody(err)
		}
		if err := atEnd(r.Body); err != nil {
			return nil, err
		}
		start.End = true
	default:
		rest = r.Body
	}
	x := &exchange{t: t, r: r, length: bodyLength(r)}
	if err := x.open(start); err != nil {
		var no *unwelcome
		if errors.As(err, &no) {
			return problemOf(r, int(no.Code), no.Problem), nil
		}
		return nil, err
	}
	if rest != nil {
		go x.send(rest)
	}
	if r.Context().Done() != nil {
		x.unhook = context.AfterFunc(r.Context(), func() { x.st.Cancel() })
	}
	resp, err := x.answer()
	if err != nil {
		x.finish()
		return nil, err
	}
	return resp, nil
}

var (
	errShortBody = errors.New("the body is shorter than its length")
	errLongBody  = errors.New("the body is longer than its length")
)

func shortBody(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errShortBody
	}
	return err
}

// atEnd makes sure that a body ends where its length says.
func atEnd(r io.Reader) error {
	var one [1]byte
	for range 100 {
		n, err := r.Read(one[:])
		switch {
		case n > 0:
			return errLongBody
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// refused is an answer that needs no node.
func refused(r *http.Request, e *macronode.Error) *http.Response {
	p := e.Problem("")
	text, _ := json.Marshal(&p)
	return problemOf(r, p.Status, text)
}

// problemOf is an answer that did not come on a stream.
func problemOf(r *http.Request, code int, problem []byte) *http.Response {
	if r.Body != nil {
		r.Body.Close()
	}
	return response(r, code, http.Header{"Content-Type": {"application/problem+json"}}, int64(len(problem)), io.NopCloser(bytes.NewReader(problem)))
}

func response(r *http.Request, code int, h http.Header, length int64, body io.ReadCloser) *http.Response {
	if h == nil {
		h = http.Header{}
	}
	if length >= 0 && code != http.StatusNoContent && code != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	return &http.Response{Status: strconv.Itoa(code) + " " + http.StatusText(code), StatusCode: code, Proto: "OAP/1", ProtoMajor: 1,
		Header: h, ContentLength: length, Body: body, Request: r}
}

// exchange is a call on its stream.
type exchange struct {
	t      *Transport
	r      *http.Request
	c      *conn
	st     *mux.Stream
	length int64       // announced of the request's body; -1: none was
	unhook func() bool // nil: its context never ends

	mu      sync.Mutex
	bodyErr error // of the request's body

	once sync.Once
}

// open opens the stream, on another connection where one takes no more.
func (x *exchange) open(start mux.Start) error {
	for try := 0; ; try++ {
		c, err := x.t.acquire(x.r.Context())
		if err != nil {
			return err
		}
		st, err := c.session.Open(x.r.Context(), start)
		if err == nil {
			x.c, x.st = c, st
			return nil
		}
		// Whatever the reason, nothing was sent.
		over := errors.Is(err, mux.ErrDraining) || errors.Is(err, mux.ErrClosed)
		if over {
			x.t.retire(c)
		}
		x.t.release(c)
		switch {
		case !over:
			return err
		case try == reopens:
			return &LostError{Undone: true, Err: err}
		}
	}
}

// lost is the end of a stream with its connection. That of a session which is
// over says nothing of what was done, even if GOAWAY was said on it.
func lost(err error) *LostError {
	return &LostError{Undone: errors.Is(err, mux.ErrDraining) && !errors.Is(err, mux.ErrClosed), Err: err}
}

// send sends the request's body. That the node wants no more of it is told by the
// answer.
func (x *exchange) send(body io.Reader) {
	buf := make([]byte, chunkBytes)
	var n int64
	for {
		m, err := body.Read(buf)
		if n += int64(m); x.length >= 0 && n > x.length {
			err = errLongBody
		}
		if m > 0 && err != errLongBody {
			if _, werr := x.st.Write(buf[:m]); werr != nil {
				return
			}
		}
		switch {
		case err == nil:
		case err == io.EOF && x.length > n:
			x.fail(errShortBody)
			return
		case err == io.EOF:
			_ = x.st.CloseWrite() // the answer says what came of it
			return
		default:
			x.fail(err)
			return
		}
	}
}

// fail calls the call off because its body cannot be had.
func (x *exchange) fail(err error) {
	x.mu.Lock()
	x.bodyErr = err
	x.mu.Unlock()
	x.st.Cancel()
}

// why is the error of a stream that ended with err.
func (x *exchange) why(err error) error {
	x.mu.Lock()
	body := x.bodyErr
	x.mu.Unlock()
	switch ctx := x.r.Context(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case body != nil:
		return body
	}
	return lost(err)
}

// finish is called once nothing more is wanted of the stream. What is not complete
// is called off.
func (x *exchange) finish() {
	x.once.Do(func() {
		if x.unhook != nil {
			x.unhook()
		}
		x.st.Close()
		if x.r.Body != nil {
			x.r.Body.Close() // a Read that waits ends
		}
		x.t.release(x.c)
	})
}
