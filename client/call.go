// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"

	"github.com/rustyonions/macronode/client/internal/oapwire"
)

// Request is one call, for routes without a method of their own.
type Request struct {
	Method string
	Path   string // escaped, with its query
	Header http.Header
	// Body is sent as it is; it must be able to Seek for the call to be repeated.
	// It is the caller's again once the call failed or the answer's body was
	// closed, except that one which cannot Seek may still be in a last Read.
	Body   io.Reader
	Length int64 // of Body; 0 with a Body: unknown
	// Repeat says that doing it twice is the same as doing it once. GET, HEAD,
	// PUT and DELETE are; a POST is only with an Idempotency-Key.
	Repeat bool
}

// Do makes a call and returns the answer, whose body the caller closes.
// Anything but 2xx and 304 is an *Error.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	resp, _, err := c.do(ctx, r)
	return resp, err
}

// do is Do; blind says that an earlier try broke off without an answer, so that
// what was asked for may have been done then.
func (c *Client) do(ctx context.Context, r Request) (resp *http.Response, blind bool, err error) {
	repeat := r.Repeat || r.Method == "GET" || r.Method == "HEAD" || r.Method == "DELETE" || r.Method == "PUT"
	seeker, canSeek := r.Body.(io.Seeker)
	var start int64
	if canSeek {
		at, err := seeker.Seek(0, io.SeekCurrent)
		canSeek, start = err == nil, at
	}
	resend := r.Body == nil || canSeek
	repeat = repeat && resend
	c.budget.Call()
	for try := 0; ; try++ {
		call, back := r, func() {}
		if r.Body != nil {
			if canSeek {
				sent := &lent{r: r.Body}
				call.Body, back = sent, sent.takeBack
			} else {
				call.Body = newPumped(ctx, r.Body)
			}
		}
		resp, err := c.once(ctx, call)
		if err == nil {
			resp.Body = &answer{resp.Body, back}
			return resp, blind, nil
		}
		back()
		var refused *Error
		// A capability that is refused let nothing be done, nor did a connection
		// on which the call was not begun.
		may := repeat || resend && (errors.As(err, &refused) && refused.again || undone(err))
		if !may || try >= c.retries || ctx.Err() != nil || !again(err) {
			return nil, blind, err
		}
		blind = blind || !errors.As(err, &refused) && !undone(err)
		if err := c.retry(ctx, err, try, undone(err)); err != nil {
			return nil, blind, err
		}
		if r.Body != nil {
			if _, err := seeker.Seek(start, io.SeekStart); err != nil {
				return nil, blind, err
			}
		}
	}
}

// again reports whether a failure may pass by itself. Of the network's failures
// those do in which a connection could not be made or broke; a certificate that
// does not verify, a name that does not exist or a TLS alert stay what they are.
func again(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.again || e.Retryable || e.Status == 502 && e.Code != "integrity" || e.Status == 504
	}
	var body *bodyError
	var cert *tls.CertificateVerificationError
	var dns *net.DNSError
	var op *net.OpError
	var ne net.Error
	var lost *oapwire.LostError
	switch {
	case errors.As(err, &body), errors.As(err, &cert):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.As(err, &lost):
		return true
	case errors.As(err, &op):
		return op.Op == "dial" || op.Op == "read" || op.Op == "write"
	case errors.As(err, &ne) && ne.Timeout():
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "server closed idle connection") // net/http has no name for it
}

func (c *Client) once(ctx context.Context, r Request) (*http.Response, error) {
	if p, ok := r.Body.(*pumped); ok {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: p.goesOver})
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, c.base+r.Path, r.Body)
	if err != nil {
		return nil, err
	}
	for k, v := range r.Header {
		req.Header[k] = v
	}
	if r.Body != nil {
		req.ContentLength = r.Length
		if r.Length == 0 {
			req.ContentLength = -1
		}
		// Large bodies wait for the node's word, so that a refusal costs nothing.
		if r.Length < 0 || r.Length > 1<<20 {
			req.Header.Set("Expect", "100-continue")
		}
	}
	cap := c.caps.of(r.Method, r.Path)
	if cap.token != "" {
		req.Header.Set("Authorization", "Bearer "+cap.token)
		if cap.proof != "" {
			req.Header.Set("X-Ron-Discharge", cap.proof)
		}
	}
	req.Header.Set("User-Agent", c.agent)
	resp, err := c.wire.do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close()
	refused := refusal(resp)
	refused.again = c.caps.heed(cap, refused.Code, resp.Header)
	return nil, refused
}

// JSON makes a call with in (nil: no body) as JSON and decodes the answer into
// out (nil: dropped). key, where not empty, is the Idempotency-Key.
func (c *Client) JSON(ctx context.Context, method, path, key string, in, out any) error {
	r := Request{Method: method, Path: path, Header: http.Header{"Accept": {"application/json"}}}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
		r.Repeat = true
	}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		r.Body, r.Length = bytes.NewReader(body), int64(len(body))
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxDocumentBytes))
		return err
	}
	if err := decode(resp.Body, out); err != nil {
		return fmt.Errorf("%s %s: the answer is no JSON: %w", method, strings.SplitN(path, "?", 2)[0], err)
	}
	return nil
}
