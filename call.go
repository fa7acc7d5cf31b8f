// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package macronode

import (
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Wire is the protocol a call came in on.
type Wire uint8

// The wires.
const (
	WireHTTP Wire = iota
	WireOAP
)

// Header holds header fields under their canonical names; it converts to and
// from net/http's type without copying.
type Header map[string][]string

// Get returns the first value of the canonically written name, or "".
func (h Header) Get(name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Set replaces the values of the canonically written name.
func (h Header) Set(name, value string) { h[name] = []string{value} }

// Peer is the other end of the connection, as the listener saw it.
type Peer struct {
	// Addr is the client's address: the socket's, or what a trusted proxy
	// forwarded. It is invalid on a Unix socket.
	Addr netip.Addr
	// Loopback and Trusted speak of the socket's own peer address.
	Loopback bool
	Trusted  bool // the socket's peer is in trusted_proxies
	TLS      bool
	UDS      bool
	UID      uint32 // peer credentials, on a Unix socket
	// CertHash is the SHA-256 of the TLS client certificate (DER); zero: none.
	CertHash [32]byte
	Subject  string // the client certificate's subject
	NodeID   string // "b3:…" of the certificate's public key; "" without one
	// Overlay says that the connection is a session between nodes: NodeID is
	// proven and was a peer's when the session began.
	Overlay bool
}

// Secure reports whether calls of this peer may carry a capability.
func (p *Peer) Secure() bool { return p.TLS || p.UDS || p.Loopback || p.Trusted }

// Arg is one named argument.
type Arg struct{ Name, Value string }

// maxParams bounds the path parameters of a route.
const maxParams = 4

// Call is a decoded request. Nothing in it is trusted. A listener makes it, the
// wall consumes it; it is not used again afterwards.
type Call struct {
	Wire   Wire
	Method string // HTTP
	Path   string // HTTP, decoded
	Query  string // HTTP, raw
	Op     Op     // OAP/1
	AppID  uint16 // OAP/1: app_proto_id
	Args   []Arg  // OAP/1
	Header Header
	// Length of the body in bytes, -1 where the sender did not say.
	Length int64
	Body   io.Reader // nil: none
	Peer   Peer

	// Token is the capability as it came: text on HTTP (without "Bearer "),
	// raw CBOR on OAP/1. Empty: none. BadAuth is set where there was an
	// Authorization that is not a bearer token.
	Token      []byte
	BadAuth    bool
	Discharges []string
	// ClaimedTenant is OAP/1's tenant_id; zero claims nothing.
	ClaimedTenant TenantID

	IdempotencyKey string
	CorrID         string // made by the listener where the caller sent none
	TraceParent    string // as received, or ""
	Deadline       time.Time
	Received       time.Time

	// Set by the wall once the route is known; listeners read it to label
	// what they report.
	Binding *Binding
	params  [maxParams]Arg
	nparams int
}

// AddParam records a path parameter. It reports false when the call has too
// many, which a route table refuses to build.
func (c *Call) AddParam(name, value string) bool {
	if c.nparams == maxParams {
		return false
	}
	c.params[c.nparams] = Arg{name, value}
	c.nparams++
	return true
}

// ResetParams forgets the path parameters.
func (c *Call) ResetParams() { c.nparams = 0 }

// Arg returns the named argument: a path parameter, an OAP/1 argument or a
// query argument, in this order; "" where there is none.
func (c *Call) Arg(name string) string {
	for i := range c.params[:c.nparams] {
		if c.params[i].Name == name {
			return c.params[i].Value
		}
	}
	for i := range c.Args {
		if c.Args[i].Name == name {
			return c.Args[i].Value
		}
	}
	if c.Query == "" {
		return ""
	}
	// A broken pair is dropped by ParseQuery; the rest still counts.
	q, _ := url.ParseQuery(c.Query)
	return q.Get(name)
}

// ArgNames calls f with the name of every argument that is not a path
// parameter, so that a route can refuse those it does not know.
func (c *Call) ArgNames(f func(name string)) {
	for i := range c.Args {
		f(c.Args[i].Name)
	}
	if c.Query == "" {
		return
	}
	q, _ := url.ParseQuery(c.Query)
	for k := range q {
		f(k)
	}
}

// OnlyArgs refuses arguments that a route does not know, and such that stand twice.
func (c *Call) OnlyArgs(known ...string) error {
	if c.Query == "" && len(c.Args) == 0 {
		return nil
	}
	q, _ := url.ParseQuery(c.Query)
	seen := make([]string, 0, len(c.Args)+len(q))
	for i := range c.Args {
		seen = append(seen, c.Args[i].Name)
	}
	for name, values := range q {
		for range values {
			seen = append(seen, name)
		}
	}
	for i, name := range seen {
		switch {
		case !slices.Contains(known, name):
			return Errorf(Malformed, "unknown argument %.40q", name)
		case slices.Contains(seen[:i], name):
			return Errorf(Malformed, "the argument %s stands twice", name)
		}
	}
	return nil
}

// NumberArg is the whole number of that name, from least to most, or missing where
// there is none.
func (c *Call) NumberArg(name string, missing, least, most uint64) (uint64, error) {
	text := c.Arg(name)
	if text == "" {
		return missing, nil
	}
	return ParseNumber(name, text, least, most)
}

// ParseNumber reads a whole number from least to most; name is what it is called
// where it is refused.
func ParseNumber(name, text string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, Errorf(Malformed, "%s is a number from %d to %d", name, least, most)
	}
	return n, nil
}

// Obligation is what policy attached to a permit: it must hold or be done too.
type Obligation struct{ Key, Value string }

// Admitted is a call past the wall. Only the wall makes one, so what a handler
// reads here has been checked. Body is bounded by every limit that applies.
type Admitted struct {
	*Call
	Principal   *Principal
	Tenant      *Tenant
	Resource    Resource
	Obligations []Obligation
	// ReplyBytes is how many body bytes the reply may have: what the
	// capability's max_bytes leaves; NoLimit where nothing does.
	ReplyBytes int64
	// TraceID is 32 hex digits, or "".
	TraceID string
	// NodeRef is where Location headers and links point: "" (relative).
}

// Actor is the audit form of who acts.
func (a *Admitted) Actor() string { return a.Principal.Actor() }

// Actor is the audit form of p.
func (p *Principal) Actor() string {
	switch p.Kind {
	case Capability:
		return "cap:" + p.RootID.String()
	case PeerNode:
		return "peer:" + p.Node
	default:
		return "anonymous"
	}
}

// Stream is a reply body that is written as it is produced.
//
// WriteTo writes the whole body to w. An error after bytes left makes the
// listener break the connection off, so that no client takes a part for the
// whole. Where w has Flush, a stream of events calls it. Close releases what
// the stream holds; it is called once, after WriteTo or instead of it.
type Stream interface {
	io.WriterTo
	io.Closer
}

// Flusher is what the writer given to a Stream may also be.
type Flusher interface{ Flush() error }

// Finisher is what the writer given to a Stream may also be. Of what a Stream
// writes the last bytes wait until it returned without error, so that a reply
// that fails does not look whole. Finish writes the last bytes at once: after it
// the Stream must not fail.
type Finisher interface {
	Finish(p []byte) (int, error)
}

// Reply is a handler's answer. Body and Stream exclude each other.
type Reply struct {
	Status      int // 0 counts as 200
	ContentType string
	Header      Header // further fields under canonical names; may be nil
	Body        []byte
	Stream      Stream
	// Length is the Stream's (or, on HEAD, the absent body's) length in
	// bytes; -1 unknown. Ignored where Body is set.
	Length int64
}

// BodyLength is the length the listener announces; -1 unknown.
func (r *Reply) BodyLength() int64 {
	if r.Body != nil {
		return int64(len(r.Body))
	}
	return r.Length
}

// Send hands a reply to the listener. It returns once the last byte was
// written, or with the error that stopped it.
type Send func(*Reply) error
