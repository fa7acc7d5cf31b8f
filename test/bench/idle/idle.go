// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package idle holds many sessions of OAP/1 with a node, of which a few are used.
package idle

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

const (
	dialers = 64 // connections being made at a time
	// longest is more than any run takes: nothing ends by itself.
	longest = time.Hour
)

// Load is what is asked of a node.
type Load struct {
	Addr     string
	Chain    string // file of the certificate that the node shows; empty: no TLS
	Cap      []byte // capability, as it goes over the wire
	Object   string // address of what is read
	Sessions int
	Busy     int // sessions that have traffic
	Rate     int // calls a second on all of them together
	Span     time.Duration
}

// Sessions are open.
type Sessions struct {
	load Load
	head []byte
	all  []*mux.Session
	runs sync.WaitGroup
}

// Open opens all sessions; each has made one call when it returns. Close ends
// them, also those of an Open that failed.
func (l Load) Open(ctx context.Context) (*Sessions, error) {
	h := oap.RequestHead{Op: "object.get", Args: []macronode.Arg{{Name: "addr", Value: l.Object}}}
	head, err := h.Append(nil)
	if err != nil {
		return nil, err
	}
	s := &Sessions{load: l, head: head, all: make([]*mux.Session, l.Sessions)}
	conf, err := l.tls()
	if err != nil {
		return nil, err
	}
	errs := make([]error, dialers)
	var wg sync.WaitGroup
	for w := range dialers {
		wg.Go(func() {
			for i := w; i < l.Sessions && errs[w] == nil; i += dialers {
				errs[w] = s.open(ctx, i, conf)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// tls is nil where there is none. The certificate is the node's own, so that it
// is its own root.
func (l *Load) tls() (*tls.Config, error) {
	if l.Chain == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(l.Chain)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", l.Chain)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, ServerName: "localhost"}, nil
}

func (s *Sessions) open(ctx context.Context, i int, conf *tls.Config) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", s.load.Addr)
	if err != nil {
		return err
	}
	if conf != nil {
		nc = tls.Client(nc, conf)
	}
	m, err := mux.New(nc, mux.Config{Opener: true, UA: "bench", ChunkBytes: 64 << 10,
		HelloTimeout: time.Minute, IdleTimeout: longest, StallTimeout: time.Minute, WriteTimeout: time.Minute})
	if err != nil {
		return errors.Join(err, nc.Close())
	}
	s.all[i] = m
	s.runs.Go(func() { _ = m.Run(context.Background()) }) // why it ended is in what is called on it
	return s.served(ctx, m)
}

// refusals is how often a call is made again that the node has no room for, and
// pause how long after it was refused.
const (
	refusals = 1000
	pause    = 10 * time.Millisecond
)

// served makes a call until it is not refused for want of room. (A node that
// makes thousands of handshakes admits little else.)
func (s *Sessions) served(ctx context.Context, m *mux.Session) error {
	for try := 0; ; try++ {
		err := s.call(ctx, m)
		if e, ok := errors.AsType[*mux.StreamError](err); !ok || e.Code != 503 || try == refusals {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// call reads the object once.
func (s *Sessions) call(ctx context.Context, m *mux.Session) error {
	st, err := m.Open(ctx, mux.Start{App: 1, Cap: s.load.Cap, Head: s.head, End: true})
	if err != nil {
		return err
	}
	defer st.Close()
	first, err := st.Head()
	if err != nil {
		return err
	}
	h, n, err := oap.ParseAnswerHead(first)
	if err != nil {
		return err
	}
	st.Skip(n)
	got, err := io.Copy(io.Discard, st)
	if err == nil && (h.Code != 200 || got != h.Length) {
		err = fmt.Errorf("answer %d with %d of %d bytes", h.Code, got, h.Length)
	}
	return err
}

// Drive makes calls at the load's rate on its busy sessions in turn, each due at
// its time whatever became of those before, and returns how long after that each
// was done, with the time that refusals took.
func (s *Sessions) Drive(ctx context.Context) ([]time.Duration, error) {
	l := &s.load
	total := int(float64(l.Rate) * l.Span.Seconds())
	took, errs := make([]time.Duration, total), make([]error, total)
	begun := time.Now()
	var wg sync.WaitGroup
	for i := range total {
		due := begun.Add(time.Duration(i) * time.Second / time.Duration(l.Rate))
		if d := time.Until(due); d > 0 {
			select {
			case <-ctx.Done():
				wg.Wait()
				return nil, ctx.Err()
			case <-time.After(d):
			}
		}
		// Spread over all sessions, so that the busy ones are old and new.
		m := s.all[i%l.Busy*(len(s.all)/l.Busy)]
		wg.Go(func() {
			errs[i] = s.served(ctx, m)
			took[i] = time.Since(due)
		})
	}
	wg.Wait()
	return took, errors.Join(errs...)
}

// Close ends all sessions.
func (s *Sessions) Close() {
	for _, m := range s.all {
		if m != nil {
			_ = m.Close() // it has no error
		}
	}
	s.runs.Wait()
}
