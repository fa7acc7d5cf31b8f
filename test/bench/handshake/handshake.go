// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package handshake makes full TLS 1.3 handshakes as fast as a server takes
// them, and has a server that does nothing else.
package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Config is how the bare server speaks TLS: as a node does whose server.tls.pq
// is "hybrid".
func Config(cert tls.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"},
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}}
}

// Serve does the server's side of each connection's handshake, and then waits
// for the client to hang up.
func Serve(l net.Listener, conf *tls.Config) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // as any server on a network has to
			t := tls.Server(c, conf)
			if t.Handshake() != nil {
				return
			}
			_ = c.SetDeadline(time.Time{})
			_, _ = io.Copy(io.Discard, t)
		}()
	}
}

// Load is what clients do.
type Load struct {
	Addr    string        `json:"addr"`
	Group   tls.CurveID   `json:"group"` // the one key exchange they offer
	Workers int           `json:"workers"`
	Span    time.Duration `json:"span"`
}

// Drive makes handshakes one after the other in each worker, and returns how
// many were done in the span and how long each took. One that resumed a
// session, or has another key exchange, is an error.
func (l Load) Drive(ctx context.Context) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	until := time.Now().Add(l.Span)
	took := make([][]time.Duration, l.Workers)
	errs := make([]error, l.Workers)
	// Who the server is does not matter here; its signature is verified anyway.
	conf := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{l.Group}, NextProtos: []string{"http/1.1"}}
	var group sync.WaitGroup
	for w := range l.Workers {
		group.Go(func() {
			for ctx.Err() == nil {
				begun := time.Now()
				if !begun.Before(until) {
					return
				}
				if err := once(ctx, l.Addr, conf); err != nil {
					errs[w] = err
					cancel() // the others need not go on
					return
				}
				took[w] = append(took[w], time.Since(begun))
			}
		})
	}
	group.Wait()
	return slices.Concat(took...), errors.Join(errs...)
}

func once(ctx context.Context, addr string, conf *tls.Config) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	t := tls.Client(c, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	if st := t.ConnectionState(); st.DidResume || st.CurveID != conf.CurvePreferences[0] || st.Version != tls.VersionTLS13 {
		return fmt.Errorf("a handshake of version %x with %s, resumed: %t", st.Version, st.CurveID, st.DidResume)
	}
	return t.Close()
}
