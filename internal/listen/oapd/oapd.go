// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package oapd is the OAP/1 wire, inbound (svc-overlay): it accepts connections,
// runs a session on each, turns the streams that clients open into Calls, gives
// them to the wall and writes what comes back. Frames, windows and the order of
// things are package mux's; what a call means is the wall's; the one way from
// here to a handler is Server.
//
// The rules of the wire that it keeps itself: no plaintext from other hosts, time
// limits on bodies that do not go on, operators' routes apart where they are
// configured so, and that an answer that breaks off never looks whole.
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
	"github.com/rustyonions/macronode/internal/listen/flight"
	"github.com/rustyonions/macronode/internal/listen/oapcall"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

// Name is the service's name in metrics, logs and events.
const Name = "svc-overlay"

// HelloTimeout is how long a client has for its HELLO.
const HelloTimeout = 5 * time.Second

// MaxChunkBytes bounds the payload of data frames: with the 128 frames that a
// connection may have on their way, it is what a connection may make the node
// hold, 8 MiB.
const MaxChunkBytes = 64 << 10

// expandAtOnce is how many compressed payloads are expanded at a time, on all
// connections together.
const expandAtOnce = 4

// Server is what calls are given to: the wall.
type Server interface {
	Serve(ctx context.Context, c *macronode.Call, send macronode.Send) error
}

// Limits can change while the service runs; a change holds for connections
// made after it.
type Limits struct {
	// MaxFrameBytes bounds a whole frame; at most macronode.MaxFrameBytes.
	MaxFrameBytes int
	// ChunkBytes is the greatest payload of a data frame; of more than
	// MaxChunkBytes, that counts.
	ChunkBytes int
	// MaxInflight and MaxStreams are announced in the answer to HELLO, and kept.
	MaxInflight, MaxStreams int
	// IdleTimeout ends a connection on which no frame comes and no stream is
	// open, StallTimeout one in whose frame no byte comes, and a stream on which
	// nothing moves that should.
	IdleTimeout, StallTimeout time.Duration
	// RequestTimeout bounds reading the request of routes that are neither
	// streaming nor long-running. (The wall bounds the handler.)
	RequestTimeout time.Duration
	// SeparateAdmin says that operators' routes are served on their own
	// listeners alone, of which this is none.
	SeparateAdmin bool
}

func (l *Limits) validate() error {
	switch {
	case l.MaxFrameBytes < oap.HeaderBytes || l.MaxFrameBytes > macronode.MaxFrameBytes:
		return fmt.Errorf("oapd: max_frame_bytes must be within %d and %d", oap.HeaderBytes, macronode.MaxFrameBytes)
	case l.ChunkBytes < 1 || l.ChunkBytes > l.MaxFrameBytes:
		return errors.New("oapd: chunk_bytes must be at least 1 and at most max_frame_bytes")
	case l.MaxInflight < 1 || l.MaxStreams < 1:
		return errors.New("oapd: max_inflight and max_streams must be at least 1")
	case l.IdleTimeout <= 0 || l.StallTimeout <= 0 || l.RequestTimeout <= 0:
		return errors.New("oapd: idle_timeout, stall_timeout and request_timeout must be more than 0")
	}
	return nil
}

// chunk is the payload of the data frames that are taken and sent.
func (l *Limits) chunk() int { return min(l.ChunkBytes, MaxChunkBytes) }

// Config is what a Service needs.
type Config struct {
	Set     *listen.Set // where connections come from; its owner closes it
	Server  Server
	Limits  Limits
	Metrics *Metrics
	// Admin reports whether an operation is an operator's: it is then not served
	// where Limits.SeparateAdmin holds. nil: none is.
	Admin func(macronode.Op) bool
	// Adopt is given each session of another node (Peer.Overlay) once HELLO is
	// done; both sides may open streams on it. It must not wait. nil: nobody.
	Adopt func(p macronode.Peer, s *mux.Session)
	// Reject is told of each refusal made before Server saw a call; nil: nobody.
	Reject func(macronode.Kind)
	Log    *slog.Logger // nil: discard
}

// Service is the OAP/1 listener.
type Service struct {
	conf    Config
	limits  atomic.Pointer[Limits]
	flight  flight.Calls
	observe *observer
	expand  *oap.Expander
	buffers oapcall.Buffers
	records sync.Pool          // see sealed
	in      prometheus.Counter // bytes of bodies
	out     prometheus.Counter

	mu      sync.Mutex
	running bool
	ended   bool // by Shutdown
	view    *listen.View
	conns   map[*conn]struct{}
	idle    chan struct{} // closed when conns is empty; nil: nobody waits
}

// New checks c and returns a service that accepts once Serve runs.
func New(c Config) (*Service, error) {
	if c.Set == nil || c.Server == nil || c.Metrics == nil {
		return nil, errors.New("oapd: a set, a server and metrics are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Reject == nil {
		c.Reject = func(macronode.Kind) {}
	}
	s := &Service{conf: c, conns: make(map[*conn]struct{})}
	s.observe = c.Metrics.observer()
	var err error
	if s.expand, err = oap.NewExpander(expandAtOnce); err != nil {
		return nil, err
	}
	s.in, s.out = c.Metrics.bytes.WithLabelValues("in"), c.Metrics.bytes.WithLabelValues("out")
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
	s.flight.Open()
	s.mu.Unlock()
	var wg sync.WaitGroup
	unhook := context.AfterFunc(ctx, func() { s.drop(view) })
	for {
		nc, err := view.Accept()
		if err != nil {
			break // the view or the set is closed; there is no other error
		}
		c, err := s.newConn(nc)
		if err != nil || !s.add(ctx, c) {
			nc.Close()
			continue
		}
		wg.Go(func() {
			defer s.remove(c)
			c.serve(ctx)
		})
	}
	<-ctx.Done()
	unhook()
	s.drop(view)
	wg.Wait()
	s.flight.Wait()
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	return nil
}

func (s *Service) add(ctx context.Context, c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil || s.ended {
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

// list is the connections of now.
func (s *Service) list() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// drop closes everything at once.
func (s *Service) drop(view *listen.View) {
	view.Close()
	for _, c := range s.list() {
		c.cut()
	}
}

// GoAway says on every connection of now that it takes no more streams; each ends
// after its last one. Connections made later serve on, for as long as the node
// does: what a draining node refuses, and that it still answers its operators, is
// the wall's doing.
func (s *Service) GoAway() {
	for _, c := range s.list() {
		c.goAway()
	}
}

// Shutdown stops accepting, says GOAWAY and returns once all connections
// ended; when ctx ends first, it cuts them off and returns ctx's error.
func (s *Service) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.ended = true
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
	for _, c := range s.list() {
		c.end()
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		s.drop(view)
		return ctx.Err()
	}
}
