// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// ErrPlaintext: a capability would go unencrypted to another machine, where all
// on the way can read and use it.
var ErrPlaintext = errors.New("a capability is not sent unencrypted to another machine")

// place is a node's address, read.
type place struct {
	oap, tls bool
	host     string // "HOST:PORT"
	unix     string // path of a socket; else ""
}

// Dial prepares a client for the node at
//
//	https://HOST:PORT      HTTP over TLS 1.3
//	http://HOST:PORT       HTTP, unencrypted
//	unix:///PATH           HTTP over a socket of this machine
//	oap://HOST:PORT        OAP/1 over TLS 1.3, but unencrypted where HOST is a
//	                       loopback address or localhost, as a development node
//	                       speaks it, unless CA, Certificate or InsecureTLS is set
//	oaps://HOST:PORT       OAP/1 over TLS 1.3, to this machine too
//	oap+plain://HOST:PORT  OAP/1, unencrypted
//
// It does not connect yet. Both wires do the same: every method, error, retry and
// verification is as good over one as over the other. An unencrypted connection to
// another machine carries no capability, see Options.Plaintext.
func Dial(node string, o Options) (*Client, error) {
	caps, err := newNarrower(&o)
	if err != nil {
		return nil, err
	}
	at, err := parsePlace(node, &o)
	if err != nil {
		return nil, err
	}
	c := &Client{caps: caps, retries: cmp.Or(o.Retries, DefaultRetries), agent: cmp.Or(o.UserAgent, "macronode-go")}
	if c.budget, err = newBudget(o.RetryBudget); err != nil {
		return nil, err
	}
	if at.oap {
		c.base, c.wire = "oap://"+at.host, newOAP(at, &o, c.agent)
		return c, nil
	}
	c.base, c.wire = "http://"+at.host, newHTTP(at, &o)
	if at.tls {
		c.base = "https://" + at.host
	}
	return c, nil
}

// parsePlace reads a node's address. One that is refused is not repeated where it
// may hold a password.
func parsePlace(node string, o *Options) (p place, err error) {
	u, err := url.Parse(node)
	if err != nil {
		return p, fmt.Errorf("the node's address is no URL: %w", errors.Unwrap(err))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return p, fmt.Errorf("node %s://%s: credentials and arguments do not belong in a node's address", u.Scheme, u.Host)
	}
	p.host = u.Host
	bare := u.Host != "" && (u.Path == "" || u.Path == "/")
	switch {
	case u.Scheme == "unix" && u.Path != "" && u.Host == "":
		return place{host: "node", unix: u.Path}, nil
	case bare && (u.Scheme == "http" || u.Scheme == "https"):
		p.tls = u.Scheme == "https"
		return p, nil
	case bare && u.Port() != "" && (u.Scheme == "oap" || u.Scheme == "oaps" || u.Scheme == "oap+plain"):
		p.oap = true
		given := o.CA != nil || o.Certificate != nil || o.InsecureTLS
		p.tls = u.Scheme == "oaps" || u.Scheme == "oap" && (given || !isLoopback(u.Hostname()))
		return p, nil
	}
	return p, fmt.Errorf("node %q: want http://HOST:PORT, https://HOST:PORT, unix:///PATH, oap://HOST:PORT, oaps://HOST:PORT or oap+plain://HOST:PORT", node)
}

// isLoopback reports whether a host as it is written is this machine's. That
// localhost is too is looked at again once it is connected to.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// connector makes the connections that are not to a socket.
func connector(o *Options) func(ctx context.Context, addr string) (net.Conn, error) {
	if o.DialTCP != nil {
		return o.DialTCP
	}
	tcp := &net.Dialer{Timeout: dialTimeout}
	return func(ctx context.Context, addr string) (net.Conn, error) { return tcp.DialContext(ctx, "tcp", addr) }
}

// atHome lets connect reach this machine alone: where that can be told from the
// address, before a connection is made, else before anything is sent over it.
func atHome(connect func(ctx context.Context, addr string) (net.Conn, error)) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if ip, err := netip.ParseAddr(host); err == nil && !ip.Unmap().IsLoopback() {
			return nil, ErrPlaintext
		}
		conn, err := connect(ctx, addr)
		if err != nil {
			return nil, err
		}
		if to, ok := conn.RemoteAddr().(*net.TCPAddr); ok && !to.IP.IsLoopback() {
			conn.Close()
			return nil, ErrPlaintext
		}
		return conn, nil
	}
}

func (o *Options) tlsConfig() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: o.CA, InsecureSkipVerify: o.InsecureTLS}
	if o.Certificate != nil {
		c.Certificates = []tls.Certificate{*o.Certificate}
	}
	return c
}

// overHTTP is the wire of net/http.
type overHTTP struct{ *http.Client }

func (w overHTTP) do(r *http.Request) (*http.Response, error) { return w.Do(r) }
func (w overHTTP) close()                                     { w.CloseIdleConnections() }
func (w overHTTP) conns() uint64                              { return 0 }

func newHTTP(at place, o *Options) wire {
	idle := o.IdleConns
	if idle <= 0 {
		idle = DefaultIdleConns
	}
	t := &http.Transport{
		MaxIdleConnsPerHost: idle, IdleConnTimeout: idleTimeout, ForceAttemptHTTP2: false,
		TLSHandshakeTimeout: dialTimeout, ExpectContinueTimeout: time.Second, DisableCompression: true,
		TLSClientConfig: o.tlsConfig(),
	}
	connect := connector(o)
	switch {
	case at.unix != "":
		path, dial := at.unix, o.DialUnix
		if dial == nil {
			local := &net.Dialer{Timeout: dialTimeout}
			dial = func(ctx context.Context, path string) (net.Conn, error) { return local.DialContext(ctx, "unix", path) }
		}
		connect = func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, path) }
	case !at.tls && o.Token != "" && !o.Plaintext:
		connect = atHome(connect)
	}
	t.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
		conn, err := connect(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &hearing{Conn: conn, closed: make(chan struct{})}, nil
	}
	return overHTTP{&http.Client{Transport: t, CheckRedirect: noRedirect}}
}

// noRedirect: a node never redirects, and a capability must not follow one.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
