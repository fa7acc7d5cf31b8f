// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package client speaks to a macronode. Every object byte that it hands out was
// verified against the object's address.
//
//	c, err := client.Dial("https://node.example:8080", client.Options{Token: token})
//	put, err := c.Put(ctx, file, client.PutOptions{ContentType: "text/plain"})
//	_, err = c.Get(ctx, put.Addr, out, client.GetOptions{})
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rustyonions/macronode"
)

// Limits and defaults.
const (
	// DefaultRetries is how often a call that may be repeated is repeated
	// after a refusal that says "later" or a broken connection.
	DefaultRetries = 4
	// DefaultIdleConns is how many idle connections are kept for the next calls.
	DefaultIdleConns = 64
	// maxWait bounds one wait between tries, whatever the node asks for.
	maxWait = 30 * time.Second
	// maxProblemBytes bounds what is read of a refusal.
	maxProblemBytes = 64 << 10
	// maxDocumentBytes bounds a JSON answer.
	maxDocumentBytes = 64 << 20
)

// Options of Dial.
type Options struct {
	// Token is the capability, "ron1_…". Empty: calls are anonymous.
	Token string
	// CA verifies the node's certificate; nil: the system's roots.
	CA *x509.CertPool
	// Certificate is shown to nodes that ask for one; nil: none.
	Certificate *tls.Certificate
	// InsecureTLS accepts any certificate. For nodes on this machine alone.
	InsecureTLS bool
	// DialUnix connects to the socket of a unix:// node; nil: the system's way,
	// which takes paths of at most 107 bytes.
	DialUnix func(ctx context.Context, path string) (net.Conn, error)
	// Retries, see DefaultRetries; negative: none.
	Retries int
	// IdleConns is how many idle connections are kept; 0: DefaultIdleConns. More
	// calls than that at once cost a new connection each.
	IdleConns int
	// UserAgent names the program; empty: "macronode-go".
	UserAgent string
}

// Client is a connection pool to one node. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	http    *http.Client
	token   string
	retries int
	agent   string
}

// Dial prepares a client for the node at "http://HOST:PORT", "https://HOST:PORT"
// or "unix:///PATH". It does not connect yet.
func Dial(node string, o Options) (*Client, error) {
	// An address that is refused is not repeated where it may hold a password.
	u, err := url.Parse(node)
	if err != nil {
		return nil, fmt.Errorf("the node's address is no URL: %w", errors.Unwrap(err))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("node %s://%s: credentials and arguments do not belong in a node's address", u.Scheme, u.Host)
	}
	if o.IdleConns <= 0 {
		o.IdleConns = DefaultIdleConns
	}
	t := &http.Transport{
		MaxIdleConnsPerHost: o.IdleConns, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: false,
		TLSHandshakeTimeout: 10 * time.Second, ExpectContinueTimeout: time.Second, DisableCompression: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: o.CA, InsecureSkipVerify: o.InsecureTLS},
	}
	if o.Certificate != nil {
		t.TLSClientConfig.Certificates = []tls.Certificate{*o.Certificate}
	}
	switch {
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && (u.Path == "" || u.Path == "/"):
		u.Path = ""
	case u.Scheme == "unix" && u.Path != "" && u.Host == "":
		path, dial := u.Path, o.DialUnix
		if dial == nil {
			dial = func(ctx context.Context, path string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) }
		u = &url.URL{Scheme: "http", Host: "node"}
	default:
		return nil, fmt.Errorf("node %q: want http://HOST:PORT, https://HOST:PORT or unix:///PATH", node)
	}
	c := &Client{base: u, http: &http.Client{Transport: t, CheckRedirect: noRedirect}, token: o.Token, retries: o.Retries, agent: o.UserAgent}
	if c.retries == 0 {
		c.retries = DefaultRetries
	}
	if c.agent == "" {
		c.agent = "macronode-go"
	}
	return c, nil
}

// noRedirect: a node never redirects, and a capability must not follow one.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is a node's refusal.
type Error struct {
	macronode.Problem
	RetryAfter time.Duration // asked for by the node, at most a day; 0: none
}

func (e *Error) Error() string {
	s := e.Title
	if s == "" {
		s = http.StatusText(e.Status)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	s += " (" + strconv.Itoa(e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.CorrID != "" {
		s += ", corr_id " + e.CorrID
	}
	return strings.Map(printable, s+")")
}

// printable keeps a node from steering the terminal that its text ends up on.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

// Denied reports whether auth, policy or quota refused.
func (e *Error) Denied() bool {
	return e.Status == 401 || e.Status == 403 || e.Status == 429
}

// ErrIntegrity: bytes came that do not belong to the address.
var ErrIntegrity = errors.New("the bytes do not match the address")

// Request is one call, for routes without a method of their own.
type Request struct {
	Method string
	Path   string // escaped, with its query
	Header http.Header
	// Body is sent as it is; it must be able to Seek for the call to be repeated.
	Body   io.Reader
	Length int64 // of Body; 0 with a Body: unknown
	// Repeat says that doing it twice is the same as doing it once. GET, HEAD,
	// PUT and DELETE are; a POST is only with an Idempotency-Key.
	Repeat bool
}

// Do makes a call and returns the answer, whose body the caller closes.
// Anything but 2xx and 304 is an *Error.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	repeat := r.Repeat || r.Method == "GET" || r.Method == "HEAD" || r.Method == "DELETE" || r.Method == "PUT"
	seeker, canSeek := r.Body.(io.Seeker)
	var start int64
	if canSeek {
		at, err := seeker.Seek(0, io.SeekCurrent)
		canSeek, start = err == nil, at
	}
	repeat = repeat && (r.Body == nil || canSeek)
	for try := 0; ; try++ {
		var sent *lent
		call := r
		if r.Body != nil {
			sent = &lent{r: r.Body}
			call.Body = sent
		}
		resp, err := c.once(ctx, call)
		if err == nil || !repeat || try >= c.retries || ctx.Err() != nil || !again(err) {
			return resp, err
		}
		if err := wait(ctx, err, try); err != nil {
			return nil, err
		}
		if r.Body != nil {
			sent.takeBack()
			if _, err := seeker.Seek(start, io.SeekStart); err != nil {
				return nil, err
			}
		}
	}
}

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

// again reports whether a failure may pass by itself.
func again(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Retryable || e.Status == 502 && e.Code != "integrity" || e.Status == 504
	}
	var body *bodyError
	var cert *tls.CertificateVerificationError
	if errors.As(err, &body) || errors.As(err, &cert) {
		return false
	}
	var ne net.Error
	return errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// pause is as long as the node asked for and a little more, so that those who
// were sent away together do not come back together; where it did not ask, full
// jitter from 100 ms doubling. It is never above maxWait.
func pause(cause error, try int) time.Duration {
	var e *Error
	if errors.As(cause, &e) && e.RetryAfter > 0 {
		d := min(e.RetryAfter, maxWait)
		return min(d+rand.N(d/4+time.Millisecond), maxWait)
	}
	return rand.N(100 * time.Millisecond << min(try, 6))
}

func wait(ctx context.Context, cause error, try int) error {
	t := time.NewTimer(pause(cause, try))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) once(ctx context.Context, r Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, c.base.String()+r.Path, r.Body)
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
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", c.agent)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

func refusal(resp *http.Response) error {
	e := &Error{}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProblemBytes))
	if err != nil || json.Unmarshal(text, &e.Problem) != nil || e.Problem.Status == 0 {
		e.Problem = macronode.Problem{Title: http.StatusText(resp.StatusCode), CorrID: resp.Header.Get("X-Corr-Id")}
		e.Retryable = resp.StatusCode == 503 || resp.StatusCode == 429
	}
	e.Problem.Status = resp.StatusCode
	// What the node asks for is bounded before it is multiplied.
	const most = int64(24 * time.Hour / time.Millisecond)
	e.RetryAfter = time.Duration(min(max(e.RetryAfterMS, 0), most)) * time.Millisecond
	if s, err := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 64); err == nil && e.RetryAfter == 0 {
		e.RetryAfter = time.Duration(min(max(s, 0), most/1000)) * time.Second
	}
	return e
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
