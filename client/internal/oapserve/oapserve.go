// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package oapserve serves an http.Handler over OAP/1, for tests: each stream
// becomes the request that its operation is on HTTP. A handler that panics with
// http.ErrAbortHandler breaks the connection off, or where its answer began, that.
package oapserve

import (
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client/internal/optable"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

const chunkBytes = 64 << 10

// Config is what a Server needs.
type Config struct {
	Handler http.Handler
	Table   *optable.Table
	// MaxStreams is how many calls a connection takes at once; 0: 256.
	MaxStreams int
}

// Server serves connections.
type Server struct {
	conf   Config
	ctx    context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu     sync.Mutex
	conns  map[*mux.Session]net.Conn
	made   int
	lns    []net.Listener
	closed bool
}

// New returns a server.
func New(c Config) *Server {
	if c.MaxStreams == 0 {
		c.MaxStreams = 256
	}
	s := &Server{conf: c, conns: map[*mux.Session]net.Conn{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections until ln is closed, which Close does too.
func (s *Server) Serve(ln net.Listener) {
	s.mu.Lock()
	s.lns = append(s.lns, ln)
	closed := s.closed
	s.mu.Unlock()
	if closed {
		ln.Close()
	}
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		s.ended.Go(func() { s.ServeConn(nc) })
	}
}

// ServeConn serves one connection until it ends.
func (s *Server) ServeConn(nc net.Conn) {
	defer nc.Close()
	session, err := mux.New(nc, mux.Config{
		Reply: oap.HelloReply{MaxFrame: oap.MaxFrameBytes, MaxInflight: 32, MaxStreams: s.conf.MaxStreams,
			FlagsSupported: []string{"REQ", "RESP", "EVENT", "START", "END", "ACK_REQ"}, Versions: []int{1}, Transports: []string{"tcp"}},
		ChunkBytes: chunkBytes, HelloTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute, StallTimeout: time.Minute, WriteTimeout: time.Minute,
		Handle: func(st *mux.Stream) { s.stream(nc, st) }, Linger: func() { linger(nc) },
	})
	if err != nil {
		return
	}
	s.mu.Lock()
	if s.made++; !s.closed {
		s.conns[session] = nc
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return
	}
	_ = session.Run(s.ctx)
	s.mu.Lock()
	delete(s.conns, session)
	s.mu.Unlock()
}

// linger lets the other side read the last frame while it still sends: a
// connection closed with bytes unread is reset, and what was sent is lost.
func linger(nc net.Conn) {
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, nc)
}

// Conns is how many connections there were.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

// each calls f with every connection of now.
func (s *Server) each(f func(*mux.Session, net.Conn)) {
	s.mu.Lock()
	conns := make(map[*mux.Session]net.Conn, len(s.conns))
	for k, v := range s.conns {
		conns[k] = v
	}
	s.mu.Unlock()
	for k, v := range conns {
		f(k, v)
	}
}

// GoAway says GOAWAY on the connections of now; those that come are served.
func (s *Server) GoAway() { s.each(func(m *mux.Session, _ net.Conn) { m.GoAway() }) }

// Break breaks the connections of now off.
func (s *Server) Break() { s.each(func(_ *mux.Session, c net.Conn) { c.Close() }) }

// Close ends everything and waits for it.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	lns := s.lns
	s.mu.Unlock()
	for _, ln := range lns {
		ln.Close()
	}
	s.cancel()
	s.Break()
	s.ended.Wait()
}

// stream serves one call.
func (s *Server) stream(nc net.Conn, st *mux.Stream) {
	w := &writer{st: st, header: http.Header{}}
	r, err := s.request(st)
	if err != nil {
		w.problem(err)
		return
	}
	w.head = r.Method == http.MethodHead
	defer func() {
		v := recover()
		switch {
		case v == nil:
			w.end()
		case v == http.ErrAbortHandler && w.began:
			_ = st.Close() // 502 behind the head
		case v == http.ErrAbortHandler:
			nc.Close()
		default:
			nc.Close()
			panic(v)
		}
	}()
	s.conf.Handler.ServeHTTP(w, r)
}

// request makes the request of a stream.
func (s *Server) request(st *mux.Stream) (*http.Request, error) {
	first, err := st.Head()
	if err != nil {
		return nil, err
	}
	h, n, err := oap.ParseRequestHead(first)
	if err != nil {
		return nil, macronode.Errorf(macronode.Malformed, "%v", err)
	}
	st.Skip(n)
	method, path, query, err := s.conf.Table.Request(h.Op, st.Start().App, h.Args)
	if err != nil {
		return nil, macronode.Errorf(macronode.NotFound, "%v", err)
	}
	if query != "" {
		path += "?" + query
	}
	r, err := http.NewRequestWithContext(st.Context(), method, path, st)
	if err != nil {
		return nil, macronode.Errorf(macronode.Malformed, "%v", err)
	}
	r.RequestURI = path
	if h.Headers != nil {
		r.Header = http.Header(h.Headers)
	}
	if r.ContentLength = h.Length; h.Length == 0 {
		r.Body = http.NoBody
	}
	for name, value := range map[string]string{"Idempotency-Key": h.IdempotencyKey, "Traceparent": h.TraceParent} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	if h.DeadlineMS > 0 {
		r.Header.Set("X-Deadline-Ms", strconv.FormatInt(h.DeadlineMS, 10))
	}
	credentials(r.Header, st.Cap())
	return r, nil
}

// credentials puts a START's capability and its discharges where HTTP has them.
func credentials(h http.Header, raw []byte) {
	var texts []string
	for len(raw) > 0 {
		first, rest, err := capability.CutToken(raw)
		if err != nil {
			first, rest = raw, nil // the handler's to refuse
		}
		texts = append(texts, capability.TextPrefix+base64.RawURLEncoding.EncodeToString(first))
		raw = rest
	}
	if len(texts) > 0 {
		h.Set("Authorization", "Bearer "+texts[0])
	}
	if len(texts) > 1 {
		h.Set("X-Ron-Discharge", strings.Join(texts[1:], ","))
	}
}

// writer is the answer on its stream.
type writer struct {
	st      *mux.Stream
	header  http.Header
	head    bool // the answer has no body
	code    int
	began   bool   // the head left
	refusal []byte // the body of a refusal, which goes as one frame
	err     error
}

// The methods of http.ResponseWriter and http.Flusher.
func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(code int) {
	if w.code == 0 && code >= 200 {
		w.code = code
	}
}

func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.code >= 400:
		w.refusal = append(w.refusal, p...)
		return len(p), nil
	case w.head:
		return len(p), nil
	}
	w.begin(false)
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.st.Write(p)
	w.err = err
	return n, err
}

func (w *writer) Flush() {
	if w.WriteHeader(http.StatusOK); w.code < 400 {
		w.begin(false)
	}
}

// begin sends the head.
func (w *writer) begin(end bool) {
	if w.began || w.err != nil {
		return
	}
	w.began = true
	h := oap.AnswerHead{Code: uint16(w.code), Headers: macronode.Header{}, Length: oap.UnknownLength}
	for k, v := range w.header {
		if k != "Content-Length" && len(v) > 0 {
			h.Headers[k] = v
		}
	}
	if n, err := strconv.ParseInt(w.header.Get("Content-Length"), 10, 64); err == nil {
		h.Length = n
	}
	text, err := h.Append(nil)
	if err == nil {
		err = w.st.WriteHead(h.Code, text, nil, end)
	}
	w.err = err
}

// end ends the answer.
func (w *writer) end() {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.code >= 400:
		_ = w.st.Fail(uint16(w.code), w.refusal)
	case !w.began:
		w.begin(true)
	case w.err == nil:
		_ = w.st.CloseWrite()
	}
}

func (w *writer) problem(err error) {
	e := macronode.AsError(err)
	p := e.Problem("")
	_ = w.st.Fail(uint16(p.Status), []byte(`{"status":`+strconv.Itoa(p.Status)+`,"code":"`+p.Code+`"}`))
}

var _ http.Flusher = (*writer)(nil)
