// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package gateway is the HTTP wire (svc-gateway): it turns HTTP/1.1 and HTTP/2
// requests into Calls, gives them to the wall and writes what comes back. It
// knows the shape of requests and nothing of what they mean; the one way from
// here to a handler is Server.
//
// The rules of the wire that it keeps itself: framing and header limits, one
// Authorization a request and none in the URL, paths decoded once and never
// rewritten, time limits on bytes that do not move, CORS, and that a reply that
// breaks off never looks whole.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/listen"
	"github.com/rustyonions/macronode/internal/listen/oapcall"
	"github.com/rustyonions/macronode/oap"
)

// Name is the service's name in metrics, logs and events.
const Name = "svc-gateway"

// maxHeaderBytes bounds a request's header. net/http reads up to readHeaderBytes,
// so that what is a little too large is still refused here, in our own words; it lets
// a header of HTTP/1 have 4 KiB more than it is told.
const (
	maxHeaderBytes  = 32 << 10
	readHeaderBytes = 44 << 10
)

// Server is what calls are given to: the wall.
type Server interface {
	Serve(ctx context.Context, c *macronode.Call, send macronode.Send) error
}

// Limits can change while the gateway runs.
type Limits struct {
	// ReadHeaderTimeout is how long a request's header may take to arrive,
	// IdleTimeout how long a connection is kept between requests. A change
	// holds for connections made after it.
	ReadHeaderTimeout, IdleTimeout time.Duration
	// RequestTimeout bounds reading the request and writing the reply of
	// routes that are neither streaming nor long-running. (The wall bounds the
	// handler.)
	RequestTimeout time.Duration
	// StallTimeout ends a transfer in which no byte moves.
	StallTimeout time.Duration
	// MaxFrameBytes is the most that the body of POST /ingress may have,
	// ChunkBytes what a frame of its answer has of a body.
	MaxFrameBytes, ChunkBytes int64
	// CORSOrigins are the web origins ("https://host[:port]") whose pages may
	// read replies; empty: none.
	CORSOrigins []string
	// SeparateAdmin says that admin routes and the console are served on admin
	// endpoints alone.
	SeparateAdmin bool
}

func (l *Limits) validate() error {
	for name, d := range map[string]time.Duration{
		"read_header_timeout": l.ReadHeaderTimeout, "idle_timeout": l.IdleTimeout,
		"request_timeout": l.RequestTimeout, "stall_timeout": l.StallTimeout,
	} {
		if d <= 0 {
			return fmt.Errorf("gateway: %s must be more than 0", name)
		}
	}
	if l.MaxFrameBytes <= 0 || l.MaxFrameBytes > macronode.MaxFrameBytes {
		return fmt.Errorf("gateway: max_frame_bytes must be within 1 and %d", macronode.MaxFrameBytes)
	}
	if l.ChunkBytes <= 0 {
		return errors.New("gateway: chunk_bytes must be more than 0")
	}
	for _, o := range l.CORSOrigins {
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || o != strings.ToLower(u.Scheme+"://"+u.Host) {
			return fmt.Errorf("gateway: cors_origins: %q is no origin of the form https://host[:port] in lower case", o)
		}
	}
	return nil
}

// Config is what a Service needs.
type Config struct {
	Set    *listen.Set  // where connections come from; its owner closes it
	Caps   *listen.Caps // finds clients behind trusted proxies
	Server Server
	Limits Limits
	// Metrics count what connections were ended for.
	Metrics *Metrics
	// Admin reports whether an operation of OAP/1 is an operator's: where
	// Limits.SeparateAdmin holds, /ingress serves it on admin endpoints alone.
	// nil: none is.
	Admin func(macronode.Op) bool
	// Reject is told of each refusal made before Server saw a call; nil: nobody.
	Reject func(macronode.Kind)
	Log    *slog.Logger // nil: discard
}

// Service is the gateway.
type Service struct {
	conf    Config
	limits  atomic.Pointer[Limits]
	lame    atomic.Bool
	flight  tracker
	pool    sync.Pool // *bufio.Writer of bufferBytes
	dropped sync.Pool // *[bufferBytes]byte

	frames   oapcall.Buffers
	expander *oap.Expander
	expanded chan struct{} // a place for each compressed frame

	mu    sync.Mutex
	run   *run // nil while Serve does not run
	ended bool // by Shutdown
}

// run is one Serve: the servers it started, the last of which accepts.
type run struct {
	ctx     context.Context
	servers []*server
	renew   chan struct{} // the limits that a server is built with changed
	quit    chan struct{} // closed by Shutdown
}

// server is one http.Server with the view it accepts from.
type server struct {
	http  *http.Server
	view  *listen.View
	conns atomic.Int64
}

// New checks c and returns a gateway that serves once Serve runs.
func New(c Config) (*Service, error) {
	if c.Set == nil || c.Caps == nil || c.Server == nil || c.Metrics == nil {
		return nil, errors.New("gateway: a set, caps, a server and metrics are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Reject == nil {
		c.Reject = func(macronode.Kind) {}
	}
	if c.Admin == nil {
		c.Admin = func(macronode.Op) bool { return false }
	}
	z, err := oap.NewExpander(2)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	s := &Service{conf: c, expander: z, expanded: make(chan struct{}, maxExpanded)}
	s.flight.cond.L = &s.flight.mu
	return s, s.SetLimits(c.Limits)
}

// SetLimits replaces the limits.
func (s *Service) SetLimits(l Limits) error {
	if err := l.validate(); err != nil {
		return err
	}
	l.CORSOrigins = slices.Clone(l.CORSOrigins)
	old := s.limits.Swap(&l)
	if old == nil || (old.ReadHeaderTimeout == l.ReadHeaderTimeout && old.IdleTimeout == l.IdleTimeout && old.StallTimeout == l.StallTimeout) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		select {
		case s.run.renew <- struct{}{}:
		default: // one is waiting already
		}
	}
	return nil
}

// SetLameDuck makes every reply end its connection (Connection: close; GOAWAY
// on HTTP/2) while the node announces that it is leaving, or stops that.
func (s *Service) SetLameDuck(on bool) { s.lame.Store(on) }

// Name, Routes, Serve and Ready make the gateway a macronode.Service.
func (s *Service) Name() string { return Name }

// Routes is empty: the gateway has no routes of its own.
func (s *Service) Routes() []macronode.Route { return nil }

// Ready reports whether requests are being accepted.
func (s *Service) Ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.run == nil || s.ended:
		return errors.New("the gateway does not run")
	case len(s.conf.Set.Addrs()) == 0:
		return errors.New("the gateway listens nowhere")
	}
	return nil
}

// Serve accepts connections until ctx ends, and then drops what is in flight;
// Shutdown is the gentle way. It may be called again after it returned. The
// listening sockets are not its own and stay bound.
func (s *Service) Serve(ctx context.Context) error {
	r := &run{ctx: ctx, renew: make(chan struct{}, 1), quit: make(chan struct{})}
	s.mu.Lock()
	if s.run != nil {
		s.mu.Unlock()
		return errors.New("gateway: Serve runs already")
	}
	if s.ended {
		s.mu.Unlock()
		<-ctx.Done()
		return nil
	}
	s.run = r
	s.flight.open()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.run = nil
		s.mu.Unlock()
	}()
	for {
		again, err := s.accept(r)
		if !again {
			return err
		}
	}
}

// accept runs one server until it is to be replaced (again) or all is over.
func (s *Service) accept(r *run) (again bool, err error) {
	srv := s.newServer(r.ctx)
	s.mu.Lock()
	r.servers = append(slices.DeleteFunc(r.servers, func(o *server) bool { return o.conns.Load() == 0 }), srv)
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- srv.http.Serve(entrance{srv.view, s}) }()
	select {
	case <-r.renew:
		// Open connections keep the server they came to, and its limits.
		srv.view.Close()
		<-ended
		return true, nil
	case <-r.quit:
		<-r.ctx.Done()
	case err = <-ended:
		if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
			// The set was closed: nothing new will come.
			err = nil
			<-r.ctx.Done()
		}
		ended <- err
	case <-r.ctx.Done():
	}
	srv.view.Close()
	s.mu.Lock()
	servers := slices.Clone(r.servers)
	s.mu.Unlock()
	for _, o := range servers {
		o.http.Close()
	}
	<-ended
	s.flight.wait()
	return false, err
}

// Shutdown stops accepting, closes connections as they fall idle and waits for
// the rest; when ctx ends first, it cuts them off and returns ctx's error. The
// gateway does not serve again afterwards.
func (s *Service) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	r := s.run
	if s.ended || r == nil {
		s.ended = true
		s.mu.Unlock()
		return nil
	}
	s.ended = true
	servers := slices.Clone(r.servers)
	close(r.quit)
	s.mu.Unlock()
	s.lame.Store(true)
	errs := make(chan error, len(servers))
	for _, srv := range servers {
		srv.view.Close()
		go func() { errs <- srv.http.Shutdown(ctx) }()
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { s.flight.hasten(stop); close(stopped) }()
	var err error
	for range servers {
		err = errors.Join(err, <-errs)
	}
	close(stop)
	<-stopped
	if err != nil {
		for _, srv := range servers {
			srv.http.Close()
		}
	}
	return err
}

// newServer builds a server with the limits of now.
func (s *Service) newServer(ctx context.Context) *server {
	l := s.limits.Load()
	srv := &server{view: s.conf.Set.View()}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // see entrance
	srv.http = &http.Server{
		Handler:                      http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout:            l.ReadHeaderTimeout,
		IdleTimeout:                  l.IdleTimeout,
		MaxHeaderBytes:               readHeaderBytes,
		Protocols:                    protocols,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: 256, WriteByteTimeout: l.StallTimeout, CountError: s.h2error},
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     newErrorLog(s.conf.Log),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if l, ok := c.(*line); ok {
				return context.WithValue(ctx, connKey{}, l)
			}
			return context.WithValue(ctx, connKey{}, listen.ConnOf(c))
		},
		ConnState: func(c net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				srv.conns.Add(1)
				s.flight.add(c)
			case http.StateActive:
				s.flight.used(c)
				if l, ok := c.(*line); ok {
					l.between.Store(true)
				}
			case http.StateClosed, http.StateHijacked:
				srv.conns.Add(-1)
				s.flight.remove(c)
				if l, ok := c.(*line); ok {
					l.over()
				}
			}
		},
	}
	return srv
}

// connKey is the context key of a connection: its *line, or of HTTP/2 its
// *listen.Conn.
type connKey struct{}
