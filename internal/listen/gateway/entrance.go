// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/field"
	"github.com/rustyonions/macronode/internal/listen/h2guard"
)

// entrance is where a server's connections come from. net/http gets none as it
// is: of HTTP/2 the frames are watched, and on HTTP/1 what net/http answers by
// itself is said as everything else here is.
//
// net/http speaks HTTP/2 on a wrapped connection alone where it believes it
// unencrypted; so the server allows that, and the entrance passes nothing to it
// on which TLS has not agreed on HTTP/2.
type entrance struct {
	*listen.View
	s *Service
}

// Accept implements net.Listener.
func (e entrance) Accept() (net.Conn, error) {
	c, err := e.View.Accept()
	if err != nil {
		return nil, err
	}
	raw := listen.ConnOf(c)
	if t, ok := c.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
		l := e.s.limits.Load()
		return h2guard.New(c, h2guard.Config{HeaderTimeout: l.ReadHeaderTimeout, StallTimeout: l.StallTimeout, Trip: func(f h2guard.Flood) {
			e.s.trip(string(f), raw)
			raw.Linger()
		}}), nil
	}
	return &line{Conn: c, s: e.s, raw: raw}, nil
}

// line is a connection that speaks HTTP/1.
type line struct {
	net.Conn
	s   *Service
	raw *listen.Conn

	// between is true from when net/http has read something of a request until
	// that is handed to serveHTTP: what is written then is net/http's own answer
	// to a request that it could not read.
	between  atomic.Bool
	answered atomic.Bool // by such an answer
	late     atomic.Bool // the last Read ended for its time limit
}

// NetConn returns the connection below.
func (l *line) NetConn() net.Conn { return l.Conn }

// ConnectionState is what TLS agreed on. That it is there at all, on plaintext
// too, keeps net/http from looking for HTTP/2.
func (l *line) ConnectionState() tls.ConnectionState {
	if t, ok := l.Conn.(*tls.Conn); ok {
		return t.ConnectionState()
	}
	return tls.ConnectionState{}
}

// CloseWrite ends what is sent.
func (l *line) CloseWrite() error {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if err != nil {
		l.late.Store(errors.Is(err, os.ErrDeadlineExceeded))
	}
	return n, err
}

// over counts a connection that ended before a request was whole.
func (l *line) over() {
	if l.between.Load() && !l.answered.Load() && l.late.Load() {
		l.s.trip(guardSlowHeader, l.raw)
	}
}

// Write writes replies, and in place of net/http's own a problem document.
func (l *line) Write(p []byte) (int, error) {
	if !l.between.Load() {
		return l.Conn.Write(p)
	}
	if l.answered.Swap(true) {
		return len(p), nil // all is said
	}
	e, status := ownAnswer(p)
	if e.Kind == macronode.HeaderTooLarge {
		l.s.trip(guardHeaderBytes, l.raw)
	} else {
		l.s.trip(guardMalformed, l.raw)
	}
	l.s.conf.Reject(e.Kind)
	l.raw.Linger()
	if _, err := l.Conn.Write(plainProblem(e, status, field.CorrID(nil))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ownAnswer reads what net/http wants to say: "HTTP/1.1 400 Bad Request: why".
func ownAnswer(p []byte) (e *macronode.Error, status int) {
	first, _, _ := bytes.Cut(p, []byte("\r\n"))
	_, first, _ = bytes.Cut(first, []byte(" "))
	code, text, _ := bytes.Cut(first, []byte(" "))
	switch string(code) {
	case "431":
		return macronode.Errorf(macronode.HeaderTooLarge, "the header is larger than %d bytes", maxHeaderBytes), 431
	case "501":
		return macronode.Errorf(macronode.Unimplemented, "this transfer coding is not known here"), 501
	case "505":
		return macronode.Errorf(macronode.Malformed, "this version of HTTP is not spoken here"), 505
	case "417":
		return macronode.Errorf(macronode.Malformed, "this expectation cannot be met"), 417
	}
	// What follows the colon is a constant of net/http, never the client's text.
	if _, why, ok := bytes.Cut(text, []byte(": ")); ok {
		return macronode.Errorf(macronode.Malformed, "%s", why), 400
	}
	return macronode.Errorf(macronode.Malformed, "this is no HTTP request"), 400
}

// plainProblem is a whole reply of HTTP/1 that ends the connection.
func plainProblem(e *macronode.Error, status int, corrID string) []byte {
	p := e.Problem(corrID)
	p.Status = status
	doc, err := json.Marshal(&p)
	if err != nil {
		doc = nil // a problem holds text and numbers alone
	}
	b := []byte("HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\nConnection: close\r\nContent-Type: " + ProblemType +
		"\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n" + hCorrID + ": " + corrID + "\r\nContent-Length: " + strconv.Itoa(len(doc)) + "\r\n\r\n")
	return append(b, doc...)
}

// speaker is what serveHTTP finds in a request's context: the connection, and
// that a request was handed over.
func speaker(ctx context.Context) *listen.Conn {
	switch c := ctx.Value(connKey{}).(type) {
	case *line:
		c.between.Store(false)
		return c.raw
	case *listen.Conn:
		return c
	default:
		return nil
	}
}
