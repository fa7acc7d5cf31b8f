// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/flight"
)

var (
	errNoConn   = errors.New("gateway: a request on a connection that is not ours")
	errTwice    = errors.New("gateway: a second reply")
	errNoAnswer = errors.New("gateway: the call ended without reply or error")
	errShort    = errors.New("gateway: the reply ended before its announced length")
	errLong     = errors.New("gateway: the reply is longer than announced")
)

// deadliner is what net/http's writers of both versions are besides.
type deadliner interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	EnableFullDuplex() error
	FlushError() error
}

// exchange is one request with its answer: a single allocation.
type exchange struct {
	s      *Service
	limits *Limits
	conn   *listen.Conn
	w      http.ResponseWriter
	ctl    deadliner
	r      *http.Request
	h2     bool

	call macronode.Call
	body body
	out  output

	replied bool         // send or refuse was called
	began   bool         // the head left, or is about to
	ending  bool         // the reply announces the end of the connection
	stall   flight.Stall // HTTP/2: writing
	vals    [5]string    // backs one-value header fields
	nvals   int
}

// serveHTTP is the whole wire for one request.
func (s *Service) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.flight.Enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.flight.Leave()
	x := &exchange{s: s, limits: s.limits.Load(), w: w, r: r, h2: r.ProtoMajor == 2}
	x.ctl, _ = w.(deadliner)
	x.conn = speaker(r.Context())
	defer x.contain()
	if x.ctl == nil {
		panic("gateway: net/http's response writer has changed")
	}
	err := x.fill(s, r)
	x.common()
	if err == nil && len(x.limits.CORSOrigins) > 0 && x.cors() {
		return
	}
	if err == nil && hidden(x.limits, x.conn.Endpoint(), &x.call) {
		err = macronode.Errorf(macronode.NotFound, "")
	}
	if err != nil {
		s.conf.Reject(err.Kind)
		x.refuse(err)
		x.finish()
		return
	}
	if x.call.Path == ingressPath {
		x.ingress()
		x.finish()
		return
	}
	if err := s.conf.Server.Serve(r.Context(), &x.call, x.send); err != nil {
		if x.began {
			x.abort()
		}
		x.refuse(macronode.AsError(err))
	} else if !x.replied {
		x.refuse(macronode.Wrap(macronode.Internal, "", errNoAnswer))
	}
	x.finish()
}

// contain reports a bug of the wire itself; the client sees the connection
// break, which is the one thing that is never mistaken for an answer.
func (x *exchange) contain() {
	v := recover()
	if v == nil {
		return
	}
	if v != http.ErrAbortHandler {
		x.s.conf.Log.Error("the gateway panicked", "event", "panic", "corr_id", x.call.CorrID, "panic", v, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// abort breaks the connection (the stream, on HTTP/2) off in the middle of a
// reply.
func (x *exchange) abort() {
	if !x.r.ProtoAtLeast(1, 1) {
		// A reply of HTTP/1.0 without a length ends where the connection does:
		// a reset is the one way to say that it is not whole.
		x.conn.Abort()
	}
	panic(http.ErrAbortHandler)
}

// set gives the reply a field of one value without an allocation of its own.
func (x *exchange) set(name, value string) {
	if x.nvals == len(x.vals) {
		x.w.Header()[name] = []string{value}
		return
	}
	x.vals[x.nvals] = value
	x.w.Header()[name] = x.vals[x.nvals : x.nvals+1 : x.nvals+1]
	x.nvals++
}

// common sets what every reply has.
func (x *exchange) common() {
	x.nvals = 0
	x.set(hCorrID, x.call.CorrID)
	x.set("X-Content-Type-Options", "nosniff")
	if x.s.lame.Load() {
		x.end()
	}
}

// end announces that the connection ends with this reply.
func (x *exchange) end() {
	x.ending = true
	x.w.Header()["Connection"] = []string{"close"}
}

// bodyless reports whether replies of this status have no body.
func bodyless(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified
}

// send writes a reply. It is the macronode.Send of the call.
func (x *exchange) send(r *macronode.Reply) error {
	if x.replied {
		return macronode.Wrap(macronode.Internal, "", errTwice)
	}
	status := r.Status
	if status == 0 {
		status = http.StatusOK
	}
	length := r.BodyLength()
	if r.Body == nil && r.Stream == nil && x.r.Method != http.MethodHead {
		length = 0
	}
	x.head(r, status, length)
	switch {
	case bodyless(status) || x.r.Method == http.MethodHead:
		return x.write(status, nil)
	case r.Stream == nil:
		return x.write(status, r.Body)
	}
	x.out = output{x: x, status: status, left: length}
	_, err := r.Stream.WriteTo(&x.out)
	return x.out.close(err)
}

// head sets the reply's fields.
func (x *exchange) head(r *macronode.Reply, status int, length int64) {
	h := x.w.Header()
	for k, v := range r.Header {
		switch k {
		case "Connection", "Transfer-Encoding", "Content-Length", hCorrID:
			// The wire's own.
		case "Vary":
			h[k] = append(h[k], v...)
		default:
			h[k] = v
		}
	}
	if r.ContentType != "" {
		x.set("Content-Type", r.ContentType)
	} else if h["Content-Type"] == nil {
		h["Content-Type"] = nil // or net/http would guess
	}
	if length >= 0 && !bodyless(status) {
		x.set("Content-Length", strconv.FormatInt(length, 10))
	}
	x.keepOrEnd(length)
}

// drainBytes and drainTime bound what is read of a body that nobody wanted,
// after the reply, so that a client still sending gets to see it. Up to
// keepBytes the connection is worth keeping for it.
const (
	drainBytes = 2 << 20
	drainTime  = time.Second
	keepBytes  = 256 << 10
)

// keepOrEnd decides, before the head is written, whether the connection can go
// on after a reply that leaves some of the request unread.
func (x *exchange) keepOrEnd(replyLength int64) {
	if x.h2 || x.body.src == nil || x.body.done {
		return
	}
	// Or net/http would read the rest before the reply leaves.
	_ = x.ctl.EnableFullDuplex()
	left := x.call.Length - x.body.n
	if x.call.Length < 0 || left > keepBytes || replyLength < 0 || x.body.err != nil || !x.wanted() {
		x.end()
	}
}

// wanted reports whether the rest of a body may be read at all: a client that
// waits for 100-continue sends none, and from an insecure peer none is taken.
func (x *exchange) wanted() bool {
	return x.body.started || (!x.expects() && x.call.Peer.Secure())
}

func (x *exchange) expects() bool { return len(x.r.Header["Expect"]) > 0 }

// finish sees to the rest of a request's body once the reply is out.
func (x *exchange) finish() {
	b := &x.body
	if x.h2 || b.src == nil || b.done {
		return
	}
	if b.err == nil && x.wanted() {
		x.ctl.SetReadDeadline(time.Now().Add(drainTime))
		if err := x.s.drain(b.src); err == io.EOF {
			x.ctl.SetReadDeadline(time.Time{})
			return
		}
	}
	if x.expects() && !b.started {
		return // net/http closes the connection, and nothing is on its way
	}
	// What is left must not be taken for a next request; net/http shall not
	// wait for it either. A chunked reply still needs its last chunk.
	x.conn.Linger()
	x.ctl.SetReadDeadline(longAgo)
	if !x.ending {
		panic(http.ErrAbortHandler)
	}
}

// drain reads and drops drainBytes at most; io.EOF says that this was all. Large
// reads go past net/http's buffer, so that a body costs one system call and not
// one for each few kilobytes: most bodies that nobody wants are those of refused
// writes, and a refusal must cost little.
func (s *Service) drain(r io.Reader) error {
	b, _ := s.dropped.Get().(*[bufferBytes]byte)
	if b == nil {
		b = new([bufferBytes]byte)
	}
	defer s.dropped.Put(b)
	for left := drainBytes; left > 0; {
		n, err := r.Read(b[:min(left, len(b))])
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// write sends a whole reply at once.
func (x *exchange) write(status int, body []byte) error {
	x.replied, x.began = true, true
	x.bound()
	x.w.WriteHeader(status)
	for len(body) > 0 {
		n := min(len(body), bufferBytes)
		x.watch()
		_, err := x.w.Write(body[:n])
		x.unwatch()
		if err != nil {
			return x.gone(err)
		}
		body = body[n:]
	}
	if x.h2 {
		return nil // its last frame leaves with the end of the handler
	}
	if err := x.ctl.FlushError(); err != nil {
		return x.gone(err)
	}
	return nil
}

// bound limits the writing of a reply whose route has a request timeout. While
// bytes move, others may last as long as they like: the connection sees to
// those in which none do.
func (x *exchange) bound() {
	b := x.call.Binding
	if x.h2 || b == nil || b.Streaming || b.LongRunning {
		return
	}
	until := x.call.Received.Add(x.limits.RequestTimeout)
	if now := time.Now(); until.Before(now) {
		until = now
	}
	x.ctl.SetWriteDeadline(until.Add(x.limits.StallTimeout))
}

// longAgo, as a deadline, ends what is waiting.
var longAgo = time.Unix(1, 0)

// watch and unwatch stand around each write on HTTP/2, where the connection
// cannot see that one stream's window stays shut.
func (x *exchange) watch() {
	if x.h2 {
		x.stall.Arm(time.Now().Add(x.limits.StallTimeout), func() { x.ctl.SetWriteDeadline(longAgo) })
	}
}

func (x *exchange) unwatch() {
	if x.h2 {
		x.stall.Disarm()
	}
}

// gone is what a failed write means to the call.
func (x *exchange) gone(err error) error {
	x.slow(guardSlowReader, err)
	return macronode.Wrap(macronode.ClientGone, "", err)
}
