// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/overlay/announce"
)

// Sessions are the sessions with other nodes.
type Sessions interface {
	// Call asks the peer and returns once the answer's head came. ctx ends the
	// call, also while its body is read. A refusal by the peer is a
	// *macronode.Error of its kind; any other error means that it did not answer.
	Call(ctx context.Context, peer string, q Question) (*Answer, error)
	// Tell sends announcements to every peer that there is a session with. It does
	// not wait, and may lose them.
	Tell(payload []byte)
	// Penalise ends the session with the peer for a while.
	Penalise(peer, why string)
}

// Question is a call to a peer.
type Question struct {
	Op     macronode.Op
	Tenant macronode.TenantID // zero: none
	Args   []macronode.Arg
}

// Answer is the answer to a Question. Body fails where the answer broke off; its
// io.EOF is the peer's word that it is whole. Closing it ends the call.
type Answer struct {
	ContentType string
	Body        io.ReadCloser
}

// Guard keeps calls from a peer that does not answer.
type Guard interface {
	// Enter refuses, or returns what is to be called with the outcome.
	Enter() (leave func(error), err error)
}

// Defaults of Config.
const (
	DefaultTimeout    = 2 * time.Second
	DefaultStall      = 5 * time.Second
	DefaultHedge      = 100 * time.Millisecond
	DefaultDistrust   = 10 * time.Minute
	DefaultMaxStreams = 256
	minHedge          = 30 * time.Millisecond
)

// Config is what New needs. Node, Sessions and Known are required; a zero member
// else means its default.
type Config struct {
	Node     string // this node's id
	Sessions Sessions
	Known    *announce.Known
	// Guard is the peer's; nil: nothing is held back.
	Guard func(peer string) Guard
	// MaxObject is the greatest object that is taken; nil: 5 GiB.
	MaxObject func() int64
	// Timeout bounds the wait for the first verified group, whoever brings it;
	// Stall the wait for each later one.
	Timeout, Stall time.Duration
	// Hedge is the wait before a second node is asked beside the first, where
	// nothing is known of how fast the first is.
	Hedge time.Duration
	// Distrust is how long a node that lied is not asked.
	Distrust time.Duration
	// MaxStreams bounds the fetches under way.
	MaxStreams int
	Metrics    Metrics
	Log        *slog.Logger      // nil: nothing is logged
	Audit      macronode.Auditor // nil: nothing is recorded
	// Lied is told of a node that lied; nil: nobody is.
	Lied func(peer, how string)
	Now  func() time.Time
}

func (c *Config) fill() {
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Stall <= 0 {
		c.Stall = DefaultStall
	}
	if c.Hedge <= 0 {
		c.Hedge = DefaultHedge
	}
	if c.Distrust <= 0 {
		c.Distrust = DefaultDistrust
	}
	if c.MaxStreams <= 0 {
		c.MaxStreams = DefaultMaxStreams
	}
	if c.MaxObject == nil {
		c.MaxObject = func() int64 { return 5 << 30 }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Metrics.fill()
}

// Fetcher finds objects at other nodes.
type Fetcher struct {
	cfg     Config
	secrets atomic.Pointer[announce.Secrets]
	places  chan struct{} // one for each stream under way

	mu      sync.Mutex
	flights map[flightKey]*flight
	peers   map[string]*standing
}

// New returns a Fetcher that finds nothing until SetSecrets.
func New(c Config) (*Fetcher, error) {
	if c.Node == "" || c.Sessions == nil || c.Known == nil {
		return nil, errors.New("fetch: Node, Sessions and Known are required")
	}
	c.fill()
	return &Fetcher{cfg: c, places: make(chan struct{}, c.MaxStreams), flights: make(map[flightKey]*flight), peers: make(map[string]*standing)}, nil
}

// SetSecrets makes s hold for calls that begin from now on; nil: nothing is found.
func (f *Fetcher) SetSecrets(s *announce.Secrets) { f.secrets.Store(s) }

// Want is a part of an object: N bytes from Off, as far as the object goes; N 0 is
// nothing. Group is Plain, or that of the slice that is wanted.
type Want struct {
	Off, N int64
	Group  int
}

// Plain is the Group of bytes without a tree.
const Plain = -1

// wire is the group that is asked for: a tree is needed to verify, whether or not
// it is handed on.
func (w Want) wire() int {
	if w.Group == Plain {
		return b3.SliceGroups
	}
	return w.Group
}

// of cuts w to an object of the given size.
func (w Want) of(size int64) Want {
	w.Off = min(w.Off, size)
	w.N = min(w.N, size-w.Off)
	return w
}

// target is what a call to a peer is about.
type target struct {
	tenant macronode.TenantID
	addr   b3.Addr
	key    announce.Key
	tag    announce.Tag
}

type flightKey struct {
	tenant macronode.TenantID
	addr   b3.Addr
}

// flight is one search for one object, for all who want it at the time.
type flight struct {
	done    chan struct{}
	waiting int // under the Fetcher's mu
	cancel  context.CancelFunc
	first   *source // under the Fetcher's mu: what came with the answer, until somebody takes it

	// Set before done is closed.
	size  int64
	ctype string
	small []byte
	peer  string
	err   error
}

// Find returns the tenant's object where a node that announced it for the tenant has
// it; first is what the caller reads first. The error is NotFound where no such node
// says that it has it, Integrity where one lied and no other has it, Overload where
// too many fetches are under way, else Unavailable.
func (f *Fetcher) Find(ctx context.Context, tenant macronode.TenantID, addr b3.Addr, first Want) (*Object, error) {
	key, ok := f.secrets.Load().Key(tenant)
	if !ok {
		return nil, notFound()
	}
	t := target{tenant: tenant, addr: addr, key: key, tag: key.Tag(addr)}
	f.mu.Lock()
	at := flightKey{tenant, addr}
	fl, joined := f.flights[at], true
	if fl == nil {
		// Whether anybody announced it is known here: no call is made for the rest.
		if len(f.candidates(t.tag, nil)) == 0 {
			f.mu.Unlock()
			f.cfg.Metrics.count(outcomeUnknown)
			return nil, notFound()
		}
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		fl, joined = &flight{done: make(chan struct{}), cancel: cancel}, false
		f.flights[at] = fl
		go f.fly(run, at, fl, t, first)
	}
	fl.waiting++
	f.mu.Unlock()
	var err error
	select {
	case <-fl.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.waiting--
	var mine *source
	if err == nil && !joined {
		mine, fl.first = fl.first, nil
	}
	if fl.waiting == 0 {
		f.abandon(at, fl)
	}
	switch {
	case err != nil:
		return nil, macronode.Wrap(macronode.ClientGone, "", err)
	case fl.err != nil:
		return nil, fl.err
	}
	if joined {
		f.cfg.Metrics.count(outcomeShared)
	}
	return &Object{f: f, t: t, size: fl.size, ctype: fl.ctype, small: fl.small, peer: fl.peer, first: mine}, nil
}

// abandon ends a flight that nobody waits for. The Fetcher's mu is held.
func (f *Fetcher) abandon(at flightKey, fl *flight) {
	if f.flights[at] == fl {
		delete(f.flights, at)
	}
	select {
	case <-fl.done:
	default:
		fl.cancel()
	}
	if fl.first != nil {
		fl.first.close()
		fl.first = nil
	}
}

// fly runs one search.
func (f *Fetcher) fly(ctx context.Context, at flightKey, fl *flight, t target, first Want) {
	began := f.cfg.Now()
	src, err := f.search(ctx, t, first, nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flights[at] == fl {
		delete(f.flights, at) // who comes from now on asks anew
	}
	if err != nil {
		f.cfg.Metrics.count(outcomeOf(err))
		fl.err = err
	} else {
		f.cfg.Metrics.found(f.cfg.Now().Sub(began))
		fl.size, fl.ctype, fl.small, fl.peer = src.size, src.ctype, src.small, src.peer
		switch {
		case fl.waiting == 0 || src.want.N == 0:
			src.close()
		default:
			fl.first = src
		}
	}
	close(fl.done)
}

func notFound() error { return macronode.Errorf(macronode.NotFound, "there is no such object") }
