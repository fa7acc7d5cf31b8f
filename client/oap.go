// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/rustyonions/macronode/client/internal/oapwire"
)

// overOAP is the wire of OAP/1.
type overOAP struct{ *oapwire.Transport }

func (w overOAP) close()        { w.Close() }
func (w overOAP) conns() uint64 { return w.Conns() }

func (w overOAP) do(r *http.Request) (*http.Response, error) {
	resp, err := w.RoundTrip(r)
	if err != nil {
		return nil, &url.Error{Op: r.Method[:1] + strings.ToLower(r.Method[1:]), URL: r.URL.String(), Err: err}
	}
	return resp, nil
}

// newOAP makes the wire of a node at. It does not connect yet.
func newOAP(at place, o *Options, agent string) wire {
	dial := connector(o)
	if !at.tls && o.Token != "" && !o.Plaintext {
		dial = atHome(dial)
	}
	connect := func(ctx context.Context) (net.Conn, error) { return dial(ctx, at.host) }
	if at.tls {
		host, _, _ := net.SplitHostPort(at.host) // parsePlace saw its port
		conf := o.tlsConfig()
		conf.ServerName = host
		connect = func(ctx context.Context) (net.Conn, error) {
			conn, err := dial(ctx, at.host)
			if err != nil {
				return nil, err
			}
			return secure(ctx, conn, conf)
		}
	}
	return overOAP{oapwire.New(oapwire.Config{Connect: connect, UA: agent, DialTimeout: dialTimeout, IdleTimeout: idleTimeout})}
}

// secure is conn with TLS.
func secure(ctx context.Context, conn net.Conn, conf *tls.Config) (net.Conn, error) {
	c := tls.Client(conn, conf)
	err := c.HandshakeContext(ctx)
	if err == nil {
		return c, nil
	}
	conn.Close()
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		return nil, fmt.Errorf("the node does not speak TLS there (oap+plain:// is OAP/1 without): %w", err)
	}
	return nil, err
}

// undone reports whether a call failed in a way in which the node did nothing.
func undone(err error) bool {
	var lost *oapwire.LostError
	return errors.As(err, &lost) && lost.Undone
}
