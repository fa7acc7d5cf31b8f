// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package breaker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rustyonions/macronode"
)

// State is what a breaker does with calls.
type State uint8

// The states.
const (
	Closed   State = iota // lets them through
	Open                  // refuses them
	HalfOpen              // lets a few through, to find out
	numStates
)

var stateNames = [numStates]string{"closed", "open", "half_open"}

func (s State) String() string { return stateNames[s] }

// Mode is who decides about the state.
type Mode uint8

// The modes.
const (
	Auto         Mode = iota // the breaker itself
	ForcedOpen               // an operator: refuse
	ForcedClosed             // an operator: let through, whatever happens
)

func (m Mode) String() string { return [...]string{"auto", "open", "closed"}[m] }

// Defaults of Config.
const (
	DefaultFailures   = 5
	DefaultOpenFor    = time.Second
	DefaultMaxOpenFor = 10 * time.Second
	DefaultTrials     = 2
	DefaultProbeLimit = 5 * time.Second
	// HeldRetry is the wait that is announced while an operator holds a breaker
	// open without an end: nobody knows when it will be let go.
	HeldRetry = 10 * time.Second
	// tryingRetry is announced while a dependency is being tried.
	tryingRetry = time.Second
	maxWhy      = 200 // bytes of a failure's text that are kept
)

// Config is a breaker's. A zero member means its default.
type Config struct {
	Name string // of the dependency; a metric label
	// Refusal is the kind of refusals: Unavailable where zero.
	Refusal macronode.Kind
	// Failures in a row open it.
	Failures int
	// OpenFor is how long it refuses before it tries; doubled, to MaxOpenFor at
	// most, by each try that fails.
	OpenFor, MaxOpenFor time.Duration
	// Trials is how many answers in a row close it, and how many calls may
	// try at once.
	Trials int
	// Stall opens it where no call has come back for so long while some wait.
	// Zero: no watch.
	Stall time.Duration
	// Probe tries the dependency while the breaker is half open, so that it
	// closes without calls too. Nil: calls alone do, or who owns it tries by
	// itself. It should end with its context.
	Probe func(context.Context) error
	// Judge says what a call's error tells of the dependency; nil: Judge.
	Judge func(error) Verdict
	// MaxHeldOpen bounds how long an operator may force it open; zero: no bound.
	// For what the operator needs to take that back.
	MaxHeldOpen time.Duration
	// Required: the node is not ready while it is not closed.
	Required bool
}

func (c *Config) fill() {
	if c.Refusal == 0 {
		c.Refusal = macronode.Unavailable
	}
	if c.Failures <= 0 {
		c.Failures = DefaultFailures
	}
	if c.OpenFor <= 0 {
		c.OpenFor = DefaultOpenFor
	}
	if c.MaxOpenFor <= 0 {
		c.MaxOpenFor = DefaultMaxOpenFor
	}
	c.MaxOpenFor = max(c.MaxOpenFor, c.OpenFor)
	if c.Trials <= 0 {
		c.Trials = DefaultTrials
	}
	if c.Judge == nil {
		c.Judge = Judge
	}
}

// ErrOpen is the cause of every refusal.
var ErrOpen = errors.New("the breaker is open")

// Breaker stands before one dependency. Its methods may be called from any
// goroutine; a call through a closed breaker takes no lock and allocates nothing.
type Breaker struct {
	cfg     Config
	told    func(Change)       // nil: nobody
	refused prometheus.Counter // nil: nobody
	era     atomic.Pointer[era]
	counts  struct{ refused, opened atomic.Uint64 }

	mu      sync.Mutex // held to leave an era, and for what is below
	wait    time.Duration
	last    string // failure, as text
	pending []Change
	probing bool

	telling sync.Mutex // keeps changes in order without holding mu
}

// era is the time between two changes. A call belongs to the one in which it
// began, so that what it brings home late is not taken for news.
type era struct {
	b     *Breaker
	state State
	mode  Mode
	since time.Time
	until time.Time // Open: of the next try; forced: of its end; zero: none
	why   string
	// stalled: it was opened because nothing came back.
	stalled bool

	inflight atomic.Int64
	failures atomic.Int64 // in a row
	// still is set by the watch and cleared by every answer.
	still atomic.Bool

	// Guarded by Breaker.mu.
	moved     time.Time // when the watch last saw an answer, or nobody waiting
	out, good int       // trials under way, and answered in a row
}

func newBreaker(cfg Config, told func(Change)) *Breaker {
	cfg.fill()
	b := &Breaker{cfg: cfg, told: told}
	now := time.Now()
	b.era.Store(&era{b: b, since: now, moved: now})
	return b
}

// New returns a closed breaker that belongs to no Registry: nobody watches it for
// stalls, probes it or hears of its changes.
func New(cfg Config) *Breaker { return newBreaker(cfg, nil) }

// Name is the dependency's.
func (b *Breaker) Name() string { return b.cfg.Name }

// Pass is a call's permission. Each is given back with Leave, once.
type Pass struct{ e *era }

// Enter lets a call through or refuses it, with the kind of the config and the
// time until the next try.
func (b *Breaker) Enter() (Pass, error) {
	e := b.era.Load()
	if e.state == Closed {
		e.inflight.Add(1)
		return Pass{e}, nil
	}
	return b.enterLate()
}

// Leave says how the call went.
func (p Pass) Leave(err error) {
	p.settle(p.e.b.judge(err), err)
}

func (p Pass) settle(verdict Verdict, err error) {
	e := p.e
	e.inflight.Add(-1)
	if verdict == Failed || e.state != Closed || e.b.era.Load() != e {
		e.b.leaveLate(e, verdict, err)
		return
	}
	if verdict == Unknown {
		return
	}
	// Loads are shared between processors, stores are not.
	if e.failures.Load() != 0 {
		e.failures.Store(0)
	}
	if e.still.Load() {
		e.still.Store(false)
	}
}

// Allow refuses as Enter does, without a call to give back: for work whose length
// others decide, such as a transfer to a client.
func (b *Breaker) Allow() error {
	if b.era.Load().state == Closed {
		return nil
	}
	p, err := b.enterLate()
	if err == nil {
		p.withdraw()
	}
	return err
}

// Report says how work that Allow let through, or a part of it, went.
func (b *Breaker) Report(err error) {
	e := b.era.Load()
	if e.state != Closed || (err == nil && e.failures.Load() == 0) {
		return
	}
	e.inflight.Add(1)
	Pass{e}.Leave(err)
}

// withdraw gives a pass back that says nothing.
func (p Pass) withdraw() {
	p.e.inflight.Add(-1)
	p.e.b.mu.Lock()
	defer p.e.b.mu.Unlock()
	if p.e.state == HalfOpen {
		p.e.out--
	}
}

// Check returns the refusal that a call would get now, and nil while calls go
// through as they should. It has no effect.
func (b *Breaker) Check() error {
	e := b.era.Load()
	if e.state == Closed {
		return nil
	}
	return b.refusal(e, time.Now())
}

func (b *Breaker) enterLate() (Pass, error) {
	b.mu.Lock()
	now := time.Now()
	b.advance(now)
	e := b.era.Load()
	admitted := e.state == Closed || (e.state == HalfOpen && e.out < b.cfg.Trials)
	if admitted {
		e.inflight.Add(1)
		if e.state == HalfOpen {
			e.out++
		}
	}
	b.mu.Unlock()
	b.tell()
	if admitted {
		return Pass{e}, nil
	}
	b.counts.refused.Add(1)
	if b.refused != nil {
		b.refused.Inc()
	}
	return Pass{}, b.refusal(e, now)
}

// refusal is what a call gets that came at now.
func (b *Breaker) refusal(e *era, now time.Time) error {
	wait := e.until.Sub(now)
	switch {
	case e.state == HalfOpen:
		wait = tryingRetry
	case e.until.IsZero():
		wait = HeldRetry
	}
	detail := b.cfg.Name + " is unavailable"
	if e.mode == ForcedOpen {
		detail = b.cfg.Name + " is held off by an operator"
	}
	return &macronode.Error{Kind: b.cfg.Refusal, Detail: detail, RetryAfter: max(wait, time.Millisecond), Err: ErrOpen}
}

// leaveLate is settle where there is something to think about.
func (b *Breaker) leaveLate(e *era, verdict Verdict, err error) {
	b.mu.Lock()
	now := time.Now()
	if e.state == HalfOpen {
		e.out--
	}
	if verdict == Failed {
		b.last = bounded(err.Error())
	}
	switch current := b.era.Load(); {
	case e != current:
		// A call from before: that it came back at all ends a stall.
		if verdict == Answered && current.state == Open && current.mode == Auto && current.stalled {
			current.until = now
		}
	case verdict == Unknown:
	case verdict == Answered:
		b.answered(e, now)
	case e.mode == ForcedClosed:
		e.failures.Add(1)
	case e.state == HalfOpen:
		b.open(now, "a try failed: "+b.last, false)
	case e.failures.Add(1) >= int64(b.cfg.Failures):
		b.wait = 0
		b.open(now, b.last, false)
	}
	b.mu.Unlock()
	b.tell()
}

// answered needs b.mu.
func (b *Breaker) answered(e *era, now time.Time) {
	e.failures.Store(0)
	e.still.Store(false)
	if e.state != HalfOpen {
		return
	}
	if e.good++; e.good >= b.cfg.Trials {
		b.wait = 0
		b.change(&era{since: now, why: "it answers"})
	}
}

// open needs b.mu. Each opening in a row lasts twice as long as the one before.
func (b *Breaker) open(now time.Time, why string, stalled bool) {
	if b.wait = min(2*b.wait, b.cfg.MaxOpenFor); b.wait == 0 {
		b.wait = b.cfg.OpenFor
	}
	b.counts.opened.Add(1)
	b.change(&era{state: Open, since: now, until: now.Add(b.wait), why: why, stalled: stalled})
}

// change begins an era; it needs b.mu.
func (b *Breaker) change(e *era) {
	e.b, e.moved = b, e.since
	b.era.Store(e)
	b.pending = append(b.pending, Change{Name: b.cfg.Name, State: e.state, Mode: e.mode, Why: e.why})
}

// advance does what is due at now: an end of force, and a try. It needs b.mu.
func (b *Breaker) advance(now time.Time) {
	e := b.era.Load()
	if e.until.IsZero() || now.Before(e.until) {
		return
	}
	switch {
	case e.mode != Auto:
		b.wait = 0
		b.change(&era{since: now, why: "the time of the force is over"})
	case e.state == Open:
		b.change(&era{state: HalfOpen, since: now, why: "it is tried"})
	}
}

// Forceable returns the error that Force would, and changes nothing.
func (b *Breaker) Forceable(m Mode, d time.Duration) error {
	if most := b.cfg.MaxHeldOpen; m == ForcedOpen && most > 0 && d > most {
		return macronode.Errorf(macronode.Invalid, "%s may be held open for %d ms at most", b.cfg.Name, most.Milliseconds())
	}
	return nil
}

// Force sets the mode: forced for d, or where d is zero until the next Force. Why
// is for people. It fails with Invalid where the breaker cannot be held open for so
// long. From force back to Auto it begins closed; Auto again changes nothing.
func (b *Breaker) Force(m Mode, d time.Duration, why string) error {
	if err := b.Forceable(m, d); err != nil {
		return err
	}
	now := time.Now()
	next := &era{since: now, mode: m, why: why}
	if m == ForcedOpen {
		next.state = Open
		if d == 0 {
			d = b.cfg.MaxHeldOpen
		}
	}
	if m != Auto && d > 0 {
		next.until = now.Add(d)
	}
	b.mu.Lock()
	if m != Auto || b.era.Load().mode != Auto {
		b.wait = 0
		b.change(next)
	}
	b.mu.Unlock()
	b.tell()
	return nil
}

// Reset closes the breaker and leaves it to itself, whoever opened it: something
// is about to try the dependency, and wants to know.
func (b *Breaker) Reset(why string) {
	b.mu.Lock()
	if e := b.era.Load(); e.state != Closed || e.mode != Auto {
		b.wait = 0
		b.change(&era{since: time.Now(), why: why})
	}
	b.mu.Unlock()
	b.tell()
}

// tell reports the changes that nobody has reported, in order.
func (b *Breaker) tell() {
	b.mu.Lock()
	none := len(b.pending) == 0
	b.mu.Unlock()
	if none {
		return
	}
	b.telling.Lock()
	defer b.telling.Unlock()
	b.mu.Lock()
	changes := b.pending
	b.pending = nil
	b.mu.Unlock()
	if b.told != nil {
		for _, c := range changes {
			b.told(c)
		}
	}
}

func bounded(s string) string { return s[:min(len(s), maxWhy)] }
