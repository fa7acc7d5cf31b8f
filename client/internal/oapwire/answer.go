// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapwire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

// answer waits for the head of the answer. Where it returns no error, closing the
// answer's body finishes x.
func (x *exchange) answer() (*http.Response, error) {
	first, err := x.st.Head()
	if err != nil {
		return x.refusal(err)
	}
	h, n, err := oap.ParseAnswerHead(first)
	if err != nil {
		return nil, fmt.Errorf("the node's answer cannot be read: %w", err)
	}
	x.st.Skip(n)
	code := int(h.Code)
	if code < 200 {
		return nil, fmt.Errorf("the node answered with status %d", code)
	}
	header := http.Header(h.Headers)
	if x.r.Method == http.MethodHead || code == http.StatusNoContent || code == http.StatusNotModified {
		// Its end is in the same frame, unless it was asked for with GET's operation.
		var one [1]byte
		_, _ = x.st.Read(one[:])
		x.finish()
		return response(x.r, code, header, h.Length, http.NoBody), nil
	}
	return response(x.r, code, header, h.Length, &body{x: x, left: h.Length}), nil
}

// refusal is the answer that a stream's error is; other errors stay what they are.
func (x *exchange) refusal(err error) (*http.Response, error) {
	var e *mux.StreamError
	if !errors.As(err, &e) || e.Code == statusCanceled || errors.Is(err, mux.ErrDraining) {
		return nil, x.why(err)
	}
	x.finish()
	code, payload := int(e.Code), e.Problem
	header, length := http.Header{"Content-Type": {"application/problem+json"}}, int64(len(payload))
	// An answer of such a status may have a head as any other.
	if h, n, err := oap.ParseAnswerHead(payload); err == nil {
		code, header, payload = int(h.Code), http.Header(h.Headers), payload[n:]
		length = int64(len(payload))
	} else {
		tell(header, payload)
	}
	if x.r.Method == http.MethodHead {
		payload = nil
	}
	return response(x.r, code, header, length, io.NopCloser(bytes.NewReader(payload))), nil
}

// tell makes of a refusal's document the fields that it has over HTTP.
func tell(header http.Header, problem []byte) {
	var p macronode.Problem
	if json.Unmarshal(problem, &p) != nil {
		return // the caller reads what it is
	}
	for name, values := range p.Headers {
		header[http.CanonicalHeaderKey(name)] = values
	}
	if p.RetryAfterMS > 0 {
		header.Set("Retry-After", strconv.FormatInt(1+(p.RetryAfterMS-1)/1000, 10))
	}
	if p.Status == http.StatusUnauthorized && header.Get("WWW-Authenticate") == "" {
		challenge := `Bearer realm="macronode"`
		if p.Code != macronode.Unauthenticated.Info().Code {
			challenge += `, error="invalid_token"`
		}
		header.Set("WWW-Authenticate", challenge)
	}
	if p.CorrID != "" {
		header.Set("X-Corr-Id", p.CorrID)
	}
}

// body is an answer's.
type body struct {
	x    *exchange
	left int64 // of the announced length; -1: none was
	err  error // what Read returns from now on
}

var errClosed = errors.New("oapwire: the answer's body was closed")

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.x.st.Read(p)
	if b.left >= 0 {
		if b.left -= int64(n); b.left < 0 {
			return 0, b.end(errors.New("the answer is longer than its length"))
		}
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF && b.left > 0:
		return n, b.end(io.ErrUnexpectedEOF)
	case err == io.EOF:
		return n, b.end(io.EOF)
	}
	var e *mux.StreamError
	if errors.As(err, &e) && e.Code != statusCanceled {
		// The node gave it up; what came is good as far as it verifies.
		err = fmt.Errorf("the node broke its answer off: %w", io.ErrUnexpectedEOF)
	} else {
		err = b.x.why(err)
	}
	return n, b.end(err)
}

func (b *body) end(err error) error {
	b.err = err
	b.x.finish()
	return err
}

// Close calls off what is still to come.
func (b *body) Close() error {
	if b.err == nil {
		b.end(errClosed)
	}
	return nil
}
