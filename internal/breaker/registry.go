// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package breaker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
)

// Change is a new state of a breaker.
type Change struct {
	Name  string
	State State
	Mode  Mode
	Why   string
}

// Status is a breaker's, as it is now.
type Status struct {
	Name     string
	State    State
	Mode     Mode
	Why      string // the present state
	Required bool
	Since    time.Time
	Until    time.Time // of the next try, or of the force; zero: none
	InFlight int64
	Failures int64 // in a row
	Opened   uint64
	Refused  uint64
	Last     string // the last failure
}

// tick is how often breakers are looked at: how late a try or a stall may be.
const tick = 100 * time.Millisecond

// Registry is the breakers of a node. Its methods may be called from any goroutine.
type Registry struct {
	told func(Change)

	state       *prometheus.GaugeVec
	transitions *prometheus.CounterVec
	probes      *prometheus.CounterVec
	refusals    *prometheus.CounterVec

	mu   sync.Mutex
	list []*Breaker // by name
	wg   sync.WaitGroup
}

// Metrics makes metrics; the node's own registry does.
type Metrics interface {
	Gauges(name, help string, labels []string, values ...[]string) *prometheus.GaugeVec
	Counters(name, help string, labels []string, values ...[]string) *prometheus.CounterVec
}

// NewRegistry returns one without breakers. told, which may be nil, hears of every
// change, in order for each breaker; it must be quick and must not call back.
func NewRegistry(m Metrics, told func(Change)) *Registry {
	return &Registry{
		told:        told,
		state:       m.Gauges("breaker_state", "1 for the present state of a dependency's breaker, 0 for the others.", []string{"dependency", "state"}),
		transitions: m.Counters("breaker_transitions_total", "Changes of a dependency's breaker, by the state it came into.", []string{"dependency", "state"}),
		refusals:    m.Counters("breaker_refusals_total", "Calls that a dependency's breaker refused.", []string{"dependency"}),
		probes:      m.Counters("breaker_probes_total", "Tries of a dependency while its breaker was half open, by result.", []string{"dependency", "result"}),
	}
}

// Add makes a breaker. Two of one name are a mistake of the program, and panic.
func (r *Registry) Add(cfg Config) *Breaker {
	b := newBreaker(cfg, r.changed)
	b.refused = r.refusals.WithLabelValues(cfg.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	at, found := slices.BinarySearchFunc(r.list, cfg.Name, byName)
	if found || cfg.Name == "" {
		panic(fmt.Sprintf("breaker: %q is added twice, or has no name", cfg.Name))
	}
	r.list = slices.Insert(r.list, at, b)
	for _, s := range stateNames {
		r.transitions.WithLabelValues(cfg.Name, s)
	}
	for _, result := range []string{"ok", "failed"} {
		r.probes.WithLabelValues(cfg.Name, result)
	}
	r.show(cfg.Name, Closed)
	return b
}

// Remove takes a breaker away, with what is reported of it; who holds one goes on
// using it. One that is not there is no error.
func (r *Registry) Remove(name string) {
	r.mu.Lock()
	at, found := slices.BinarySearchFunc(r.list, name, byName)
	if found {
		r.list = slices.Delete(r.list, at, at+1)
	}
	r.mu.Unlock()
	if !found {
		return
	}
	by := prometheus.Labels{"dependency": name}
	r.state.DeletePartialMatch(by)
	r.transitions.DeletePartialMatch(by)
	r.probes.DeletePartialMatch(by)
	r.refusals.DeletePartialMatch(by)
}

func byName(b *Breaker, name string) int {
	switch {
	case b.cfg.Name < name:
		return -1
	case b.cfg.Name > name:
		return 1
	}
	return 0
}

func (r *Registry) show(name string, now State) {
	for s, text := range stateNames {
		v := 0.0
		if State(s) == now {
			v = 1
		}
		r.state.WithLabelValues(name, text).Set(v)
	}
}

func (r *Registry) changed(c Change) {
	if _, err := r.Get(c.Name); err != nil {
		return // it was removed
	}
	r.show(c.Name, c.State)
	r.transitions.WithLabelValues(c.Name, c.State.String()).Inc()
	if r.told != nil {
		r.told(c)
	}
}

func (r *Registry) all() []*Breaker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// Get returns the breaker of that name, or NotFound.
func (r *Registry) Get(name string) (*Breaker, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, found := slices.BinarySearchFunc(r.list, name, byName)
	if !found {
		return nil, macronode.Errorf(macronode.NotFound, "there is no breaker of that name")
	}
	return r.list[at], nil
}

// Statuses lists every breaker by name.
func (r *Registry) Statuses() []Status {
	list := r.all()
	out := make([]Status, len(list))
	for i, b := range list {
		out[i] = b.Status()
	}
	return out
}

// Status describes the breaker now.
func (b *Breaker) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.era.Load()
	return Status{Name: b.cfg.Name, State: e.state, Mode: e.mode, Why: e.why, Required: b.cfg.Required, Since: e.since, Until: e.until,
		InFlight: e.inflight.Load(), Failures: e.failures.Load(), Opened: b.counts.opened.Load(), Refused: b.counts.refused.Load(), Last: b.last}
}

// Start watches every breaker, those added later too, until stop is called, which
// waits for a probe under way as long as its context lasts: a probe of what hangs
// may hang.
func (r *Registry) Start() (stop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	r.wg.Go(func() { r.run(ctx) })
	return func(patience context.Context) error {
		cancel()
		return r.wait(patience)
	}
}

func (r *Registry) run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, b := range r.all() {
			b.watch(time.Now())
			if p, ok := b.trial(); ok {
				r.wg.Go(func() { r.probe(ctx, b, p) })
			}
		}
	}
}

func (r *Registry) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select { // both may have been there
	case <-done:
		return nil
	default:
		return fmt.Errorf("breaker: a probe does not end: %w", ctx.Err())
	}
}

// watch does what is due, and opens a breaker whose calls do not come back.
func (b *Breaker) watch(now time.Time) {
	b.mu.Lock()
	b.advance(now)
	e := b.era.Load()
	if b.cfg.Stall > 0 && e.mode == Auto && e.state != Open {
		b.watchStall(e, now)
	}
	b.mu.Unlock()
	b.tell()
}

// watchStall needs b.mu.
func (b *Breaker) watchStall(e *era, now time.Time) {
	if e.inflight.Load() <= 0 || !e.still.Swap(true) {
		e.moved = now
		return
	}
	if waited := now.Sub(e.moved); waited >= b.cfg.Stall {
		if e.state == Closed {
			b.wait = 0
		}
		b.last = fmt.Sprintf("nothing came back for %s", waited.Round(tick))
		b.open(now, b.last, true)
	}
}

// trial takes a pass for the breaker's own probe, where one is due.
func (b *Breaker) trial() (Pass, bool) {
	if b.cfg.Probe == nil || b.era.Load().state != HalfOpen {
		return Pass{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.era.Load()
	if b.probing || e.state != HalfOpen || e.out >= b.cfg.Trials {
		return Pass{}, false
	}
	b.probing = true
	e.out++
	e.inflight.Add(1)
	return Pass{e}, true
}

// errPanicked stands for a probe's panic.
var errPanicked = errors.New("the probe panicked")

// probe tries the dependency. That it takes too long is a failure here: nobody
// else's patience is at stake.
func (r *Registry) probe(ctx context.Context, b *Breaker, p Pass) {
	limit := DefaultProbeLimit
	if b.cfg.Stall > 0 {
		limit = b.cfg.Stall
	}
	try, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	verdict, err := Failed, errPanicked
	defer func() {
		if v := recover(); v != nil {
			verdict, err = Failed, errPanicked
		}
		b.mu.Lock()
		b.probing = false
		b.mu.Unlock()
		result := "ok"
		if verdict == Failed {
			result = "failed"
		}
		r.probes.WithLabelValues(b.cfg.Name, result).Inc()
		p.settle(verdict, err)
	}()
	err = b.cfg.Probe(try)
	if verdict = b.judge(err); verdict == Unknown && ctx.Err() == nil {
		verdict = Failed
	}
}
