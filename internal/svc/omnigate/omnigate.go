// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package omnigate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode"
)

// Name is the service's name in config, metrics and logs.
const Name = "omnigate"

// Names are the facets that a node may have.
var Names = []string{"graph", "feed", "search", "media"}

// Times of a facet.
const (
	// CallLimit is how long a handler may work before it is told to end; not so on
	// long-running routes. The stream of its reply is not bounded by it.
	CallLimit = 10 * time.Second
	// endGrace is how long a handler has to end once it was told to.
	endGrace = time.Second
	// busyRetry is what a caller is told to wait who found no permit.
	busyRetry = time.Second
	// offRetry is what a caller is told to wait who asked for a facet that is off.
	offRetry = 30 * time.Second

	backoffBase = 100 * time.Millisecond
	backoffMax  = 5 * time.Second
	// stableAfter is how long a run lasts that ends a row of failures.
	stableAfter = time.Second
)

// Facet is one of the optional parts. Serve is as macronode.Service has it; Ready
// is cheap. Routes are the same whether the facet runs or not.
type Facet interface {
	Name() string // one of Names
	Routes() []macronode.Route
	Serve(ctx context.Context) error
	Ready(ctx context.Context) error
}

// Breaker stands before a facet. Enter lets a call through or refuses it with kind
// FacetDown; leave takes what became of the call, once. Errors that are the facet's
// fault are ErrFailed.
type Breaker interface {
	Enter() (leave func(error), err error)
	// Check is the refusal that a call would get now; nil: none.
	Check() error
}

// ErrFailed marks what became of a call where the facet is to blame: a panic, an
// answer that did not come, an internal error.
var ErrFailed = errors.New("the facet failed")

// Settings are the [facets] section of the config bundle. They change live.
type Settings struct {
	// Permits is, for each facet that runs, how many calls it may work on at a time.
	Permits map[string]int64
}

// Validate says what makes no sense.
func (s Settings) Validate() error {
	for name, n := range s.Permits {
		if !slices.Contains(Names, name) {
			return fmt.Errorf("omnigate: there is no facet %q", name)
		}
		if n < 1 {
			return fmt.Errorf("omnigate: %d permits for %s, one is the least", n, name)
		}
	}
	return nil
}

// Config is what the service works with. Breaker is required.
type Config struct {
	// Breaker makes the breaker of a facet; it is called once for each.
	Breaker  func(facet string) Breaker
	Settings Settings
	Metrics  *Metrics // nil: nothing is counted
	// Panicked hears of panics, which are contained; nil: the log does.
	Panicked func(value any, stack []byte)
	Log      *slog.Logger // nil: nothing is logged
	// Jitter draws a time from [0, limit]; nil: evenly.
	Jitter func(limit time.Duration) time.Duration
}

// Service is omnigate.
type Service struct {
	gates    []*gate
	settings sync.Mutex // held by who changes them
}

var _ macronode.Service = (*Service)(nil)

// New puts a gate before each facet.
func New(c Config, facets []Facet) (*Service, error) {
	if c.Breaker == nil {
		return nil, errors.New("omnigate: Breaker is required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Jitter == nil {
		c.Jitter = func(limit time.Duration) time.Duration { return rand.N(limit + 1) }
	}
	log := c.Log.With("service", Name)
	if c.Panicked == nil {
		c.Panicked = func(value any, stack []byte) {
			log.Error("a facet panicked", "event", "panic", "reason", fmt.Sprint(value), "stack", string(stack))
		}
	}
	s := &Service{}
	for _, f := range facets {
		name := f.Name()
		if !slices.Contains(Names, name) || slices.ContainsFunc(s.gates, func(g *gate) bool { return g.name == name }) {
			return nil, fmt.Errorf("omnigate: facet %q is unknown or stands twice", name)
		}
		s.gates = append(s.gates, &gate{name: name, facet: f, breaker: c.Breaker(name), m: c.Metrics.of(name), panicked: c.Panicked,
			log: log.With("facet", name), jitter: c.Jitter, changed: make(chan struct{}, 1)})
	}
	return s, s.SetSettings(c.Settings)
}

// SetSettings makes v hold for calls that begin from now on, and starts and stops
// facets.
func (s *Service) SetSettings(v Settings) error {
	if err := v.Validate(); err != nil {
		return err
	}
	s.settings.Lock()
	defer s.settings.Unlock()
	for _, g := range s.gates {
		g.set(v.Permits[g.name])
	}
	return nil
}

// Name implements macronode.Service.
func (s *Service) Name() string { return Name }

// Routes implements macronode.Service: those of all facets, each behind its gate.
func (s *Service) Routes() []macronode.Route {
	var routes []macronode.Route
	for _, g := range s.gates {
		for _, r := range g.facet.Routes() {
			r.Service, r.Class = Name, macronode.Facet
			if r.Resource == macronode.FacetResource && r.ResourceArg == "" {
				r.ResourceID = g.name
			}
			r.Handler = g.guard(r.Handler)
			if !slices.Contains(r.Doc.Kinds, macronode.FacetDown) {
				r.Doc.Kinds = append(slices.Clone(r.Doc.Kinds), macronode.FacetDown)
			}
			routes = append(routes, r)
		}
	}
	return routes
}

// Serve implements macronode.Service: it runs each facet on its own until ctx ends.
func (s *Service) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, g := range s.gates {
		wg.Go(func() { g.keep(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

// Ready implements macronode.Service: every facet that is on runs, is ready and is
// not held off. Nothing of the node but the facets themselves depends on it.
func (s *Service) Ready(ctx context.Context) error {
	var down []string
	for _, g := range s.gates {
		if err := g.ready(ctx); err != nil {
			down = append(down, g.name+": "+macronode.AsError(err).Detail)
		}
	}
	if len(down) > 0 {
		return errors.New(strings.Join(down, "; "))
	}
	return nil
}

// gate is what stands before one facet.
type gate struct {
	name     string
	facet    Facet
	breaker  Breaker
	m        *meters
	panicked func(value any, stack []byte)
	log      *slog.Logger
	jitter   func(limit time.Duration) time.Duration

	permits atomic.Int64  // 0: the facet is off
	held    atomic.Int64  // permits that are out
	up      atomic.Bool   // its Serve runs
	changed chan struct{} // capacity 1: it was turned on or off
}

// set changes the permits; none turns the facet off.
func (g *gate) set(permits int64) {
	was := g.permits.Swap(permits)
	g.m.permits.Set(float64(permits))
	if (was == 0) != (permits == 0) {
		select {
		case g.changed <- struct{}{}:
		default:
		}
	}
}

func (g *gate) down(retry time.Duration, format string, args ...any) error {
	e := macronode.Errorf(macronode.FacetDown, format, args...)
	e.RetryAfter = retry
	return e
}

// open refuses a call while the facet does not run.
func (g *gate) open() error {
	switch {
	case g.permits.Load() == 0:
		return g.down(offRetry, "the facet %s is not enabled", g.name)
	case !g.up.Load():
		return g.down(busyRetry, "the facet %s is restarting", g.name)
	}
	return nil
}

func (g *gate) ready(ctx context.Context) error {
	if g.permits.Load() == 0 {
		return nil
	}
	if err := g.open(); err != nil {
		return err
	}
	if err := g.breaker.Check(); err != nil {
		return err
	}
	if err := g.facet.Ready(ctx); err != nil {
		if e, ok := errors.AsType[*macronode.Error](err); ok && e.Detail != "" {
			return e
		}
		return g.down(0, "%s", err)
	}
	return nil
}

// take takes a permit, where one is left.
func (g *gate) take() bool {
	if g.held.Add(1) > g.permits.Load() {
		g.held.Add(-1)
		return false
	}
	g.m.inflight.Inc()
	return true
}

func (g *gate) give() {
	g.held.Add(-1)
	g.m.inflight.Dec()
}
