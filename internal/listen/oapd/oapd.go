// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package oapd is the OAP/1 wire, inbound (svc-overlay): it accepts
// connections, answers HELLO and PING, and keeps the protocol's rules on frames
// and streams. No operation is served over it yet: every stream that is opened
// is answered with 501 and its further frames are counted and dropped.
//
// A connection is one goroutine that reads a frame, and writes what it calls
// for before it reads the next. So a client that does not read its answers
// stops itself, and a connection never holds more than one frame.
package oapd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/oap"
)

// Name is the service's name in metrics, logs and events.
const Name = "svc-overlay"

// HelloTimeout is how long a client has for its HELLO.
const HelloTimeout = 5 * time.Second

// Limits can change while the service runs; a change holds for connections
// made after it.
type Limits struct {
	// MaxFrameBytes bounds a whole frame; at most macronode.MaxFrameBytes.
	MaxFrameBytes int
	// MaxInflight and MaxStreams are announced in the answer to HELLO.
	MaxInflight, MaxStreams int
	// IdleTimeout ends a connection on which no frame comes, StallTimeout one
	// in whose frame no byte comes.
	IdleTimeout, StallTimeout time.Duration
}

func (l *Limits) validate() error {
	switch {
	case l.MaxFrameBytes < oap.HeaderBytes || l.MaxFrameBytes > macronode.MaxFrameBytes:
		return fmt.Errorf("oapd: max_frame_bytes must be within %d and %d", oap.HeaderBytes, macronode.MaxFrameBytes)
	case l.MaxInflight < 1 || l.MaxStreams < 1:
		return errors.New("oapd: max_inflight and max_streams must be at least 1")
	case l.IdleTimeout <= 0 || l.StallTimeout <= 0:
		return errors.New("oapd: idle_timeout and stall_timeout must be more than 0")
	}
	return nil
}

// Values of the labels of oap_frames_total and oap_rejects_total.
const (
	kindHello  = "hello"
	kindStart  = "start"
	kindData   = "data"
	kindCancel = "cancel"
	kindError  = "error"
	kindPing   = "ping"
	kindAck    = "ack"
	kindGoAway = "goaway"

	reasonHello   = "hello"   // no HELLO first, a second one, or none in time
	reasonStream  = "stream"  // a stream number out of order or never opened
	reasonWindow  = "window"  // an ACK that goes backwards or ahead
	reasonControl = "control" // a control frame that means nothing
	reasonTLS     = "tls_required"
	reasonUnknown = "unimplemented"
	reasonDrain   = "draining"
)

// Metrics count frames of every connection.
type Metrics struct{ frames, rejects *prometheus.CounterVec }

// NewMetrics registers the metrics; once a registry.
func NewMetrics(r *metrics.Registry) *Metrics {
	return &Metrics{
		frames: r.Counters("oap_frames_total", "OAP/1 frames by direction and kind.", []string{"dir", "kind"},
			[]string{"in", "out"}, []string{kindHello, kindStart, kindData, kindCancel, kindError, kindPing, kindAck, kindGoAway}),
		rejects: r.Counters("oap_rejects_total", "OAP/1 frames and streams refused, by reason.", []string{"reason"},
			[]string{oap.ReasonOversize, oap.ReasonLength, oap.ReasonVersion, oap.ReasonFlags, oap.ReasonCap, oap.ReasonPayload,
				reasonHello, reasonStream, reasonWindow, reasonControl, reasonTLS, reasonUnknown, reasonDrain}),
	}
}

// Config is what a Service needs.
type Config struct {
	Set     *listen.Set // where connections come from; its owner closes it
	Limits  Limits
	Metrics *Metrics
	Log     *slog.Logger // nil: discard
}

// Service is the OAP/1 listener.
type Service struct {
	conf     Config
	limits   atomic.Pointer[Limits]
	draining atomic.Bool
	closing  atomic.Bool

	mu      sync.Mutex
	running bool
	ended   bool // by Shutdown
	view    *listen.View
	conns   map[*conn]struct{}
	idle    chan struct{} // closed when conns is empty; nil: nobody waits
}

// New checks c and returns a service that accepts once Serve runs.
func New(c Config) (*Service, error) {
	if c.Set == nil || c.Metrics == nil {
		return nil, errors.New("oapd: a set and metrics are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{conf: c, conns: make(map[*conn]struct{})}
	return s, s.SetLimits(c.Limits)
}

// SetLimits replaces the limits.
func (s *Service) SetLimits(l Limits) error {
	if err := l.validate(); err != nil {
		return err
	}
	s.limits.Store(&l)
	return nil
}

// Name, Routes, Serve and Ready make it a macronode.Service.
func (s *Service) Name() string { return Name }

// Routes is empty: this wire has no routes of its own.
func (s *Service) Routes() []macronode.Route { return nil }

// Ready reports whether connections are being accepted.
func (s *Service) Ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.running || s.ended:
		return errors.New("the OAP/1 listener does not run")
	case len(s.conf.Set.Addrs()) == 0:
		return errors.New("OAP/1 listens nowhere")
	}
	return nil
}

// Serve accepts connections until ctx ends, and then drops them; Shutdown is
// the gentle way. It may be called again after it returned. The listening
// sockets are not its own and stay bound.
func (s *Service) Serve(ctx context.Context) error {
	view := s.conf.Set.View()
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errors.New("oapd: Serve runs already")
	}
	s.running, s.view = true, view
	if s.ended {
		view.Close()
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	unhook := context.AfterFunc(ctx, func() { s.drop(view) })
	for {
		nc, err := view.Accept()
		if err != nil {
			break // the view or the set is closed; there is no other error
		}
		var peer macronode.Peer
		lc := listen.ConnOf(nc)
		if lc != nil {
			peer = lc.Peer()
		}
		c := newConn(s, nc, lc, peer)
		if !s.add(ctx, c) {
			nc.Close()
			continue
		}
		wg.Go(func() {
			defer s.remove(c)
			c.serve()
		})
	}
	<-ctx.Done()
	unhook()
	s.drop(view)
	wg.Wait()
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	return nil
}

func (s *Service) add(ctx context.Context, c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Service) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// drop closes everything at once.
func (s *Service) drop(view *listen.View) {
	view.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.nc.Close()
	}
}

// SetLameDuck announces GOAWAY on every connection while the node is leaving;
// as no stream is open, they end with it. New connections get the same after
// their HELLO.
func (s *Service) SetLameDuck(on bool) {
	s.draining.Store(on)
	if !on {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		// Whoever is reading wakes and sees that the node is draining.
		c.nc.SetReadDeadline(longAgo)
	}
}

// Shutdown stops accepting, says GOAWAY and returns once all connections
// ended; when ctx ends first, it cuts them off and returns ctx's error.
func (s *Service) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.ended = true
	s.closing.Store(true)
	if s.view != nil {
		s.view.Close()
	}
	if len(s.conns) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle, view := s.idle, s.view
	s.mu.Unlock()
	s.SetLameDuck(true)
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		s.drop(view)
		return ctx.Err()
	}
}

// errDraining is what a read returns that was interrupted because the node drains.
var errDraining = errors.New("oapd: draining")
