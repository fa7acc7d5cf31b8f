// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package client speaks to a macronode. It hashes what it sends, and verifies
// what it fetches before it hands it on, 16 KiB at a time: a Put that returns no
// error moved the bytes that belong to the address, and what a Get or GetRange
// gives is the object's, whatever the node said.
//
//	c, err := client.Dial("https://node.example:8080", client.Options{Token: token})
//	put, err := c.Put(ctx, file, client.PutOptions{ContentType: "text/plain"})
//	_, err = c.Get(ctx, put.Addr, out, client.GetOptions{})
//
// A node is spoken to over HTTP or over OAP/1, as its address says (see Dial).
// Everything here holds for both. Calls that may be repeated are, after refusals
// that say "later" and broken connections, within Options.Retries a call and
// Options.RetryBudget for all of them, never beyond the context's deadline.
//
// Package clienttest has a node in memory for tests.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/rustyonions/macronode/client/internal/budget"
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
	// idleTimeout is how long a connection is kept that nobody uses.
	idleTimeout = 90 * time.Second
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
	// DialTCP makes connections to "HOST:PORT" in place of the system's way.
	// Whether a capability may go over one unencrypted is told by its RemoteAddr.
	DialTCP func(ctx context.Context, address string) (net.Conn, error)
	// DialUnix connects to the socket of a unix:// node; nil: the system's way,
	// which takes paths of at most 107 bytes.
	DialUnix func(ctx context.Context, path string) (net.Conn, error)
	// Retries, see DefaultRetries; negative: none.
	Retries int
	// RetryBudget bounds the retries of all calls together; the zero value is the
	// default.
	RetryBudget RetryBudget
	// IdleConns is how many idle connections are kept; 0: DefaultIdleConns. More
	// calls than that at once cost a new connection each. Over OAP/1 it does not
	// count: calls share connections there.
	IdleConns int
	// Plaintext allows Token to go unencrypted to a host that is not this machine.
	// Without it such calls fail with ErrPlaintext before anything is sent.
	Plaintext bool
	// UserAgent names the program; empty: "macronode-go".
	UserAgent string
}

// Client is a connection pool to one node. It is safe for concurrent use.
type Client struct {
	base    string // before a path, in the requests that the wire is given
	wire    wire
	caps    *narrower
	budget  *budget.Budget
	retries int
	agent   string
}

// wire carries calls to the node and answers back, with bodies that stream. What
// keeps an answer from coming is an *url.Error.
type wire interface {
	do(*http.Request) (*http.Response, error)
	close()
	conns() uint64
}

// Close drops idle connections, and those in use as soon as they are idle. The
// client can still be used: it makes new ones.
func (c *Client) Close() { c.wire.close() }

// ErrIntegrity: bytes came that do not belong to the address.
var ErrIntegrity = errors.New("the bytes do not match the address")
