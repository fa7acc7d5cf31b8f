// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package client speaks to a macronode. It hashes what it sends, and verifies
// what it fetches before it hands it on, 16 KiB at a time: a Put that returns no
// error moved the bytes that belong to the address, and what a Get or GetRange
// gives is the object's, whatever the node said.
//
//	c, err := client.Dial("https://node.example:8080", client.Options{Token: token})
//	put, err := c.Put(ctx, file, client.PutOptions{ContentType: "text/plain"})
//	_, err = c.Get(ctx, put.Addr, out, client.GetOptions{})
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Limits and defaults.
const (
	// DefaultRetries is how often a call that may be repeated is repeated
	// after a refusal that says "later" or a broken connection.
	DefaultRetries = 4
	// DefaultIdleConns is how many idle connections are kept for the next calls.
	DefaultIdleConns = 64
	// dialTimeout bounds making a connection.
	dialTimeout = 10 * time.Second
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
	// Discharges are those that Token's third-party caveats need, as texts. They
	// are bound to what is sent, unless they are bound already.
	Discharges []string
	// WholeToken sends Token as it is. Else each call carries one cut down to its
	// action and resource, good for a minute (an hour for calls that watch), so
	// that what a log or a proxy keeps of it is worth little. Calls that are not
	// known, and minting, which hands the caveats on, carry the whole one.
	WholeToken bool
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
	caps    *narrower
	retries int
	agent   string
}

// Dial prepares a client for the node at "http://HOST:PORT", "https://HOST:PORT"
// or "unix:///PATH". It does not connect yet.
func Dial(node string, o Options) (*Client, error) {
	caps, err := newNarrower(&o)
	if err != nil {
		return nil, err
	}
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
	tcp := &net.Dialer{Timeout: dialTimeout}
	connect := tcp.DialContext
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
				return tcp.DialContext(ctx, "unix", path)
			}
		}
		connect = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) }
		u = &url.URL{Scheme: "http", Host: "node"}
	default:
		return nil, fmt.Errorf("node %q: want http://HOST:PORT, https://HOST:PORT or unix:///PATH", node)
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := connect(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &hearing{Conn: conn, closed: make(chan struct{})}, nil
	}
	c := &Client{base: u, http: &http.Client{Transport: t, CheckRedirect: noRedirect}, caps: caps, retries: o.Retries, agent: o.UserAgent}
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

// ErrIntegrity: bytes came that do not belong to the address.
var ErrIntegrity = errors.New("the bytes do not match the address")
